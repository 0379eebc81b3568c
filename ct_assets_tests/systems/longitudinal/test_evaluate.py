"""Baselines and evaluation of predicted volumes, against numbers worked out by hand."""

import math

import pytest

from ct_assets.systems.longitudinal import baselines, evaluate
from ct_assets.systems.longitudinal.baselines import Pair, Rates

NO_GROWTH = Rates(0.0, {})


def pair(number, a, b, days=100.0, **values):
    return Pair(f"p{number}", "g", "a", "b", a, b, days, **values)


class TestBaselines:
    def test_rates_are_those_of_the_training_pairs_and_of_a_type_with_enough_of_them(self):
        training = [pair(n, 100, 200, nodule_type="solid") for n in range(5)] + [
            pair(9, 100, 100, nodule_type="rare")
        ]
        rates = baselines.learn(training)
        assert rates.of_type == {"solid": pytest.approx(math.log(2) / 100)}
        assert rates.of_all == pytest.approx(math.log(2) / 100 * 5 / 6)

    def test_each_baseline_is_its_formula(self):
        one = pair(0, 200, 0, 50.0, nodule_type="solid", volume_before=100.0, days_before=100.0)
        found = baselines.predict(one, Rates(0.0, {"solid": math.log(2) / 25}))
        wanted = {"copy_input": 200, "mean_rate": 200, "rate_by_type": 800, "linear": 250, "always_grow": 250}
        assert found == pytest.approx(wanted | {"exponential": 200 * math.sqrt(2)})

    def test_without_an_exam_before_nothing_is_extrapolated_and_a_shrinking_one_stays_a_volume(self):
        assert baselines.predict(pair(0, 1, 1), NO_GROWTH)["linear"] is None
        gone = pair(0, 10, 1, volume_before=100.0, days_before=10.0)
        assert baselines.predict(gone, NO_GROWTH)["linear"] == 0

    @pytest.mark.parametrize(("a", "days"), [(0, 10), (10, 0), (10, -1), (math.nan, 10)])
    def test_a_pair_without_volume_or_interval_is_refused(self, a, days):
        with pytest.raises(ValueError, match="positive"):
            pair(0, a, 1, days)


def table(volumes):
    pairs = [pair(number, a, b) for number, (a, b, _) in enumerate(volumes)]
    return evaluate.rows(pairs, [one for *_, one in volumes], NO_GROWTH)


class TestFigures:
    def test_are_those_by_hand(self):
        found = evaluate.figures(table([(100, 200, 190), (100, 100, 140), (100, 60, 60)]), "predicted")
        # Errors 10, 40, 0; squares 1700; the volumes vary by 80, 20 and 60 around 120: 10400.
        assert found["mae_mm3"]["value"] == pytest.approx(50 / 3)
        assert found["median_error_mm3"] == 10
        assert found["rmse_mm3"]["value"] == pytest.approx(math.sqrt(1700 / 3))
        assert found["r_squared"]["value"] == pytest.approx(1 - 1700 / 10400)
        assert found["direction"]["value"] == found["growth_class"]["value"] == pytest.approx(2 / 3)
        assert found["vdt_class"] == 1.0

    def test_equal_volumes_have_no_r_squared_and_no_row_no_figure(self):
        assert evaluate.figures(table([(1, 5, 5), (1, 5, 6)]), "predicted")["r_squared"]["value"] is None
        assert evaluate.figures([], "predicted") == {"pairs": 0}

    def test_a_nodule_that_was_not_found_counts_as_nothing_and_figures_without_it_stand_beside(self):
        report = evaluate.report(table([(100, 200, None), (100, 100, 90)]))
        assert report["not_found"] == 1
        assert report["strata"]["all"]["model"]["mae_mm3"]["value"] == 105
        assert report["strata"]["all"]["model_where_found"]["mae_mm3"]["value"] == 10

    def test_rows_have_both_exams_and_doubling_times(self):
        row = table([(100, 200, 100)])[0]
        assert (row["exam_a"], row["exam_b"], row["vdt_days"], row["vdt_class"]) == ("a", "b", 100, "fast")
        assert (row["predicted_vdt_days"], row["predicted_growth_class"]) == (None, "stable")


class TestVerdicts:
    def verdict(self, volumes, stratum="all", name="copy_input"):
        return evaluate.report(table(volumes), samples=400)["strata"][stratum]["verdicts"][name]

    def test_the_report_says_where_the_model_wins_and_where_it_loses(self):
        growing = [(100, 200 + n, 190 + n % 3) for n in range(40)]
        stable = [(100, 100 + n % 3, 120 + n % 5) for n in range(40)]
        assert self.verdict(growing + stable, "growth: growing")["verdict"] == "wins"
        lost = self.verdict(growing + stable, "growth: stable")
        assert (lost["verdict"], lost["says"]) == ("loses", "The model LOSES to copy_input")

    def test_few_patients_decide_nothing(self):
        assert self.verdict([(100, 200, 200)] * 2)["verdict"] == "undecided"

    def test_a_baseline_that_applies_to_no_pair_is_no_victory(self):
        assert self.verdict([(100, 200, 200)] * 30, name="linear")["verdict"] == "undecided"

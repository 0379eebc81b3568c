"""Figures over thresholds worked out by hand, and the rules of choice."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ct_assets.errors import UsageError
from ct_assets.systems.brain import plots, thresholds

TRUTH = np.array([1, 1, 1, 0, 0, 0, 0, 0])
SCORE = np.array([0.9, 0.6, 0.2, 0.7, 0.5, 0.3, 0.1, 0.1])


def rates(truth, score, threshold):
    return thresholds.rates(truth, score, [threshold]).row(0, named=True)


class TestRates:
    def test_by_hand(self):
        told = rates(TRUTH, SCORE, 0.5)
        assert [told[name] for name in ("tp", "fp", "tn", "fn")] == [2, 2, 3, 1]
        assert told["sens"] == pytest.approx(2 / 3)
        assert told["spec"] == pytest.approx(3 / 5)
        assert told["ppv"] == pytest.approx(1 / 2)
        assert told["npv"] == pytest.approx(3 / 4)
        assert told["f1"] == pytest.approx(4 / 7)
        assert told["acc"] == pytest.approx((2 / 3 + 3 / 5) / 2)

    def test_a_score_at_the_threshold_counts_as_called(self):
        assert rates(np.array([1]), np.array([0.5]), 0.5)["tp"] == 1

    def test_no_call_at_all_has_no_precision_to_be_chosen_for(self):
        assert rates(TRUTH, SCORE, 0.95)["ppv"] == 0


class TestAreas:
    def test_they_agree_with_another_tool(self):
        rng = np.random.default_rng(3)
        truth = rng.integers(0, 2, 200)
        score = np.round(np.clip(truth * 0.2 + rng.random(200), 0, 1), 2)  # many ties
        assert thresholds.auroc(truth, score) == pytest.approx(roc_auc_score(truth, score))
        assert thresholds.auprc(truth, score) == pytest.approx(average_precision_score(truth, score))

    def test_one_class_defines_nothing(self):
        assert np.isnan(thresholds.auroc(np.ones(3, int), np.arange(3.0)))

    def test_the_drawn_precision_has_the_area_of_the_average_precision_not_of_a_trapezoid(self):
        """Two positives, scores 1 and 0.2, a negative between: steps give (1 + 2/3) / 2, trapezoids more or less."""
        truth, score = np.array([1, 0, 1]), np.array([1.0, 0.5, 0.2])
        places = (np.arange(20000) + 0.5) / 20000
        drawn = plots.precision_at(truth, score, places).mean()
        assert drawn == pytest.approx((1 + 2 / 3) / 2, abs=1e-4)
        assert drawn == pytest.approx(thresholds.auprc(truth, score), abs=1e-4)
        recall, precision = plots.pr_curve(truth, score)
        trapezoid = np.trapezoid(np.r_[1.0, precision], np.r_[0.0, recall])
        assert abs(trapezoid - thresholds.auprc(truth, score)) > 0.01

    def test_the_drawn_roc_has_its_area(self):
        false, hits = plots.roc_curve(TRUTH, SCORE)
        assert np.trapezoid(hits, false) == pytest.approx(thresholds.auroc(TRUTH, SCORE))


class TestTables:
    table = thresholds.by_fold([TRUTH, TRUTH], [SCORE, 1 - SCORE], [1.0, 0.8])

    def test_the_grid_has_nineteen_steps(self):
        assert tuple(round(0.05 * n, 2) for n in range(1, 20)) == thresholds.GRID
        assert len(thresholds.GRID) == 19

    def test_a_row_a_fold_and_threshold(self):
        assert self.table.height == 2 * 19
        assert set(self.table["fold"]) == {0, 1}

    def test_means_and_deviations_are_over_folds_and_counts_are_sums(self):
        row = thresholds.summary(self.table).filter(pl.col("threshold") == 0.5).row(0, named=True)
        first, second = (rates(TRUTH, one, 0.5) for one in (SCORE, 1 - SCORE))
        assert row["sens_mean"] == pytest.approx((first["sens"] + second["sens"]) / 2)
        assert row["sens_std"] == pytest.approx(abs(first["sens"] - second["sens"]) / np.sqrt(2))
        assert row["tp_sum"] == first["tp"] + second["tp"]
        assert row["auc_mean_trn"] == pytest.approx(0.9)
        assert row["ap_mean"] == pytest.approx(
            (thresholds.auprc(TRUTH, SCORE) + thresholds.auprc(TRUTH, 1 - SCORE)) / 2
        )

    def test_it_has_every_column(self):
        names = set(thresholds.summary(self.table).columns)
        rates = ("sens", "spec", "ppv", "npv", "f1", "acc", "ap", "auc")
        assert names == {
            "threshold", "auc_mean_trn", *(f"{n}_{k}" for n in rates for k in ("mean", "std")),
            "tp_sum", "fp_sum", "tn_sum", "fn_sum",
        }  # fmt: skip

    def test_exact_candidates_are_all_scores_that_occur(self):
        assert thresholds.exact_candidates([SCORE, np.array([0.9, 0.33])]) == [
            0.1, 0.2, 0.3, 0.33, 0.5, 0.6, 0.7, 0.9
        ]  # fmt: skip

    def test_a_fold_that_defines_no_area_is_left_out_of_its_mean(self):
        table = thresholds.by_fold([TRUTH, np.zeros(3, int)], [SCORE, np.zeros(3)], [1.0, float("nan")])
        row = thresholds.summary(table).row(0, named=True)
        assert row["auc_mean"] == pytest.approx(thresholds.auroc(TRUTH, SCORE))
        assert row["auc_mean_trn"] == 1


def summary(*rows):
    names = ("threshold", "sens_mean", "ppv_mean", "f1_mean")
    return pl.DataFrame([dict(zip(names, row, strict=True)) for row in rows])


class TestChoice:
    def test_max_f1(self):
        chosen = thresholds.select(summary((0.1, 0.9, 0.2, 0.3), (0.2, 0.7, 0.4, 0.5)), "max_f1", 0.7)
        assert (chosen["threshold"], chosen["strategy"]) == (0.2, "max_f1")

    def test_sens_target_takes_the_best_ppv_among_those_that_reach_it(self):
        table = summary((0.1, 0.9, 0.2, 0.3), (0.2, 0.7, 0.4, 0.1), (0.3, 0.69, 0.9, 0.9))
        chosen = thresholds.select(table, "sens_target", 0.7)
        assert chosen["threshold"] == 0.2
        assert chosen["fallback"] is None

    def test_a_target_that_nobody_reaches_falls_back_and_says_so(self):
        chosen = thresholds.select(summary((0.1, 0.6, 0.2, 0.3), (0.2, 0.5, 0.4, 0.5)), "sens_target", 0.7)
        assert (chosen["threshold"], chosen["fallback"], chosen["reason"]) == (
            0.2,
            "max_f1",
            "sens_target_missed",
        )

    def test_of_equals_the_more_sensitive_then_the_lower(self):
        table = summary((0.3, 0.8, 0.5, 0.5), (0.1, 0.8, 0.5, 0.5), (0.2, 0.7, 0.5, 0.5))
        assert thresholds.select(table, "max_f1", 0.7)["threshold"] == 0.1
        assert thresholds.select(table, "sens_target", 0.7)["threshold"] == 0.1

    def test_nothing_to_choose_from(self):
        with pytest.raises(UsageError, match="no threshold"):
            thresholds.select(pl.DataFrame(), "max_f1", 0.7)

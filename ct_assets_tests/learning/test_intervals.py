"""Intervals: against published values, never without width, and what too few patients get."""

import numpy as np
import pytest

from ct_assets.learning.evaluation import intervals, stage_intervals
from ct_assets.settings.training import EvaluationSettings

LEVEL = 0.95


def names(count):
    return [f"p{number}" for number in range(count)]


class TestShares:
    def test_none_of_five_allows_up_to_52_percent(self):
        # Clopper and Pearson: 1 - 0.025 ** (1 / 5) = 0.5218
        found = intervals.bounded_mean([0] * 5, names(5), confidence=LEVEL)
        assert (found.value, found.low) == (0.0, 0.0)
        assert found.high == pytest.approx(1 - 0.025**0.2)

    def test_all_of_one(self):
        found = intervals.bounded_mean([1], ["a"], confidence=LEVEL)
        assert (found.low, found.high) == (pytest.approx(0.025), 1.0)

    def test_two_of_ten(self):
        # R: binom.test(2, 10)$conf.int = 0.02521 0.55610
        found = intervals.bounded_mean([1, 1] + [0] * 8, names(10), confidence=LEVEL)
        assert (found.low, found.high) == (pytest.approx(0.02521, abs=1e-4), pytest.approx(0.5561, abs=1e-4))

    def test_patients_count_not_their_rows(self):
        once = intervals.bounded_mean([1, 0, 0], names(3), confidence=LEVEL)
        ten = intervals.bounded_mean([1, 0, 0] * 10, names(3) * 10, confidence=LEVEL)
        assert (once.low, once.high) == pytest.approx((ten.low, ten.high))

    def test_the_bound_of_a_mean_is_that_of_a_share_for_yes_and_no(self):
        up, down = np.array([1.0] * 3 + [0.0] * 5), np.ones(8)
        found = intervals._gaffke_limits(up, down, 1.0, LEVEL)
        assert found == pytest.approx(intervals.clopper_pearson(3, 8, LEVEL), abs=0.02)

    def test_the_order_of_the_rows_changes_nothing(self):
        values = np.random.default_rng(0).random(12)
        turned = intervals.bounded_mean(values[::-1], names(12)[::-1], confidence=LEVEL)
        assert intervals.bounded_mean(values, names(12), confidence=LEVEL) == turned

    def test_equal_scores_have_a_width(self):
        found = intervals.bounded_mean([0.8] * 4, names(4), confidence=LEVEL)
        assert found.low < 0.8 < found.high

    def test_nobody_who_counts_is_no_figure(self):
        found = intervals.bounded_ratio([0, 0], [0, 0], names(2), confidence=LEVEL)
        assert (found.value, found.low, found.method) == (None, None, intervals.UNDEFINED)


class TestMeans:
    def test_without_skewness_it_is_students_interval(self):
        values = np.arange(9.0)  # mean 4, sd sqrt(7.5), t(8) 2.306004
        away = 2.306004 * np.sqrt(7.5 / 9)
        found = intervals.mean(values, names(9), confidence=LEVEL)
        assert (found.low, found.high) == (
            pytest.approx(4 - away, abs=1e-4),
            pytest.approx(4 + away, abs=1e-4),
        )

    def test_a_long_tail_above_moves_both_limits_up(self):
        values = np.r_[np.ones(9), 10.0] + np.arange(10) / 100
        found = intervals.mean(values, names(10), confidence=LEVEL)
        assert found.high - found.value > found.value - found.low

    @pytest.mark.parametrize(
        ("values", "method"), [([1.0, 2.0], intervals.TOO_FEW), ([3.0] * 9, intervals.NO_SPREAD)]
    )
    def test_what_cannot_have_an_interval_has_none(self, values, method):
        found = intervals.mean(values, names(len(values)), confidence=LEVEL)
        assert (found.low, found.high, found.method) == (None, None, method)


class TestAuroc:
    def test_a_perfect_area_of_few_patients_is_not_certain(self):
        found = intervals.auroc(np.arange(6) < 3, [9, 8, 7, 3, 2, 1], names(6), confidence=LEVEL)
        assert (found.value, found.high) == (1.0, 1.0)
        assert found.low < 0.75

    def test_it_is_symmetric(self):
        rng = np.random.default_rng(2)
        is_class, score = np.arange(20) < 8, rng.normal(size=20)
        one = intervals.auroc(is_class, score, names(20), confidence=LEVEL)
        other = intervals.auroc(is_class, -score, names(20), confidence=LEVEL)
        assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))

    def test_images_of_one_patient_make_no_interval_narrower(self):
        score, is_class = np.array([0.9, 0.4, 0.6, 0.1]), np.array([True, True, False, False])
        once = intervals.auroc(is_class, score, names(4), confidence=LEVEL)
        ten = intervals.auroc(np.tile(is_class, 10), np.tile(score, 10), names(4) * 10, confidence=LEVEL)
        assert (once.low, once.high) == pytest.approx((ten.low, ten.high))

    def test_one_positive_patient_has_no_interval(self):
        found = intervals.auroc(np.arange(5) < 1, np.arange(5.0), names(5), confidence=LEVEL)
        assert (found.value, found.low, found.method) == (0.0, None, intervals.TOO_FEW)


class TestDifferences:
    def test_a_paired_difference_of_equal_models_is_not_decided(self):
        same = np.random.default_rng(0).random(12)
        found = intervals.difference_of_means(same, same, names(12), confidence=LEVEL)
        assert (found.difference, found.low, found.is_decidable) == (0.0, None, False)

    def test_nine_patients_decide_nothing(self):
        rng = np.random.default_rng(0)
        found = intervals.difference_of_means(rng.random(9) + 5, rng.random(9), names(9), confidence=LEVEL)
        assert found.low > 0
        assert not found.is_decidable

    def test_the_jackknife_of_a_mean_is_students_interval(self):
        values = np.arange(12.0)
        found = intervals.difference(
            lambda w: w @ values / w.sum(-1), names(12), confidence=LEVEL, least_in_class=5
        )
        away = 2.200985 * values.std(ddof=1) / np.sqrt(12)
        assert (found.low, found.high) == pytest.approx((5.5 - away, 5.5 + away), abs=1e-4)
        assert found.is_decidable

    def test_above_a_baseline_below_chance_is_not_above_chance(self):
        truth = np.arange(30) % 2
        worse = np.stack([1 - 0.1 * (1 - truth), 0.1 * (1 - truth)], 1)  # AUROC 0
        rng = np.random.default_rng(1)
        p = rng.random(30)
        found, is_above = stage_intervals.compare_auroc(
            truth, np.stack([1 - p, p], 1), worse, ("I", "II"), names(30), EvaluationSettings()
        )
        assert found.low > 0
        assert not is_above


@pytest.mark.parametrize("patients", [2, 5, 14, 40])
def test_intervals_of_a_share_hold_at_least_95_percent(patients):
    """The whole table is made by benchmarks/coverage.py; this is exact: a sum over the binomial distribution."""
    from scipy.stats import binom

    limits = [intervals.clopper_pearson(hits, patients, LEVEL) for hits in range(patients + 1)]
    for true in np.linspace(0.01, 0.99, 99):
        held = sum(
            binom.pmf(k, patients, true) for k, (low, high) in enumerate(limits) if low <= true <= high
        )
        assert held >= LEVEL - 1e-12


def test_a_difference_without_a_cause_is_claimed_in_about_2_5_percent():
    rng = np.random.default_rng(3)
    claimed = 0
    for _ in range(1000):
        first, second = rng.beta(4, 2, (2, 12))
        found = intervals.difference_of_means(first, second, names(12), confidence=LEVEL)
        claimed += found.is_decidable and found.low > 0
    assert 0.01 <= claimed / 1000 <= 0.04

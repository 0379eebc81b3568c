"""Patient-level intervals: what is drawn, what they cover, what stays undefined."""

import numpy as np
import pytest

from ct_assets.learning.evaluation import bootstrap
from ct_assets.learning.evaluation import classification as metrics_stage
from ct_assets.learning.evaluation.bootstrap import weighted_mean, weighted_ratio


def test_a_patient_is_drawn_with_all_rows_or_not_at_all():
    weights = bootstrap.patient_weights(["a", "b", "a", "c"], 200, seed=0)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    assert weights.max() > 1


def test_the_same_seed_draws_the_same():
    first, second = (bootstrap.patient_weights(list("abcd"), 50, seed=1) for _ in range(2))
    assert (first == second).all()


def test_the_value_is_over_all_rows_and_the_interval_holds_it():
    found = bootstrap.estimate(
        weighted_mean([0.0, 1.0, 1.0, 1.0]), list("abcd"), samples=500, confidence=0.95
    )
    assert found.value == 0.75
    assert found.low <= 0.75 <= found.high
    assert found.patients == 4


@pytest.mark.slow
def test_a_95_percent_interval_of_a_mean_covers_about_95_percent():
    rng = np.random.default_rng(0)
    names = [str(n) for n in range(60)]
    covered = 0
    for trial in range(300):
        found = bootstrap.estimate(
            weighted_mean(rng.normal(2.0, 1.0, 60)), names, samples=400, confidence=0.95, seed=trial
        )
        covered += found.low <= 2.0 <= found.high
    assert 0.90 <= covered / 300 <= 0.985


def test_images_of_one_patient_make_no_interval_narrower():
    values = [0.2, 0.4, 0.6, 0.8, 0.9, 0.1]
    once = bootstrap.estimate(weighted_mean(values), list("abcdef"), samples=2000, confidence=0.95)
    copied = bootstrap.estimate(
        weighted_mean(values * 10), list("abcdef") * 10, samples=2000, confidence=0.95
    )
    assert copied.high - copied.low == pytest.approx(once.high - once.low)


def test_resamples_that_do_not_define_a_figure_are_counted():
    truth, score = np.array([True, False, False]), np.array([0.9, 0.2, 0.1])
    found = bootstrap.estimate(
        lambda w: metrics_stage.auroc(truth, score, w), list("abc"), samples=1000, confidence=0.9
    )
    # the positive is never drawn with chance (2/3)^3, or drawn alone with chance (1/3)^3
    assert found.undefined_share == pytest.approx(8 / 27 + 1 / 27, abs=0.05)
    assert found.value == 1.0


def test_one_patient_has_a_value_and_no_interval():
    found = bootstrap.estimate(weighted_mean([0.5]), ["a"], samples=100, confidence=0.95)
    assert (found.value, found.low, found.high) == (0.5, None, None)


def test_no_patient_has_neither():
    assert bootstrap.estimate(weighted_mean([]), [], samples=100, confidence=0.95).value is None


def test_a_ratio_is_of_sums_not_a_mean_of_ratios():
    measure = weighted_ratio([1.0, 0.0], [1.0, 9.0])
    assert float(measure(np.ones(2))) == pytest.approx(0.1)


class TestComparison:
    def test_a_paired_difference_is_narrower_than_two_intervals(self):
        rng = np.random.default_rng(0)
        base = rng.uniform(0, 1, 40)
        names = [str(n) for n in range(40)]
        found = bootstrap.compare(
            weighted_mean(base + 0.05), weighted_mean(base), names, samples=500, confidence=0.95
        )
        assert found.difference == pytest.approx(0.05)
        assert found.low == pytest.approx(0.05)
        assert found.share_better == 1.0

    def test_equal_models_are_equal(self):
        found = bootstrap.compare(
            weighted_mean([0.1, 0.9]), weighted_mean([0.1, 0.9]), list("ab"), samples=100, confidence=0.95
        )
        assert (found.difference, found.share_better) == (0.0, 0.5)

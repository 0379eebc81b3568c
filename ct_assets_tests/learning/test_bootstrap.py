"""The bootstrap over patients: what is drawn, and when there is no interval."""

import numpy as np
import pytest

from ct_assets.learning.evaluation import bootstrap, intervals
from ct_assets.learning.evaluation.bootstrap import weighted_ratio


def test_a_patient_is_drawn_with_all_rows_or_not_at_all():
    weights = bootstrap.patient_weights(["a", "b", "a", "c"], 200, seed=0)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    assert weights.max() > 1


def test_the_same_seed_draws_the_same():
    first, second = (bootstrap.patient_weights(list("abcd"), 50, seed=1) for _ in range(2))
    assert (first == second).all()


def test_bca_agrees_with_scipy():
    from scipy.stats import bootstrap as reference

    values = np.random.default_rng(5).exponential(1, 40)
    measure = weighted_ratio(values, np.ones(40))
    found = bootstrap.estimate(measure, [str(n) for n in range(40)], samples=5000, confidence=0.95)
    expected = reference(
        (values,), np.mean, n_resamples=5000, method="BCa", random_state=1
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found.method == intervals.BCA


def test_fewer_patients_than_stated_have_a_value_and_no_interval():
    found = bootstrap.estimate(
        weighted_ratio(np.arange(29), np.ones(29)), [str(n) for n in range(29)], samples=100, confidence=0.95
    )
    assert (found.value, found.low, found.method) == (14.0, None, intervals.TOO_FEW)


def test_equal_values_give_no_interval_of_no_width():
    found = bootstrap.estimate(
        weighted_ratio(np.ones(30), np.ones(30)), [str(n) for n in range(30)], samples=100, confidence=0.95
    )
    assert (found.value, found.low, found.method) == (1.0, None, intervals.NO_SPREAD)


def test_a_ratio_is_of_sums_not_a_mean_of_ratios():
    assert float(weighted_ratio([1.0, 0.0], [1.0, 9.0])(np.ones(2))) == pytest.approx(0.1)


def test_no_patient_has_neither():
    assert bootstrap.estimate(weighted_ratio([], []), [], samples=100, confidence=0.95).value is None

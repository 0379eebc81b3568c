"""The statistics of drift, by hand or against scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import stats

from ct_assets.cohort import drift_statistics as statistics
from ct_assets.cohort import header_stage_model as model
from ct_assets.cohort.header_stage_model import Factor


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_ks_is_scipy_s_also_with_ties(random):
    values = random.integers(0, 12, 80).astype(float)
    labels = statistics.relabellings((np.arange(80) < 25).astype(np.int64), 5, seed=1)
    for row, found in zip(labels, statistics.ks(values, labels), strict=True):
        expected = stats.ks_2samp(values[row == 1], values[row == 0]).statistic
        assert found == pytest.approx(expected)


def test_chi_square_is_scipy_s(random):
    codes, labels = random.integers(0, 3, 100), random.integers(0, 4, 100)
    table = np.zeros((3, 4))
    np.add.at(table, (codes, labels), 1)
    expected = stats.chi2_contingency(table, correction=False).statistic
    assert statistics.chi_square(codes, labels[None])[0] == pytest.approx(expected)


def test_kruskal_wallis_is_scipy_s_without_ties(random):
    values, labels = random.normal(size=60), random.integers(0, 3, 60)
    expected = stats.kruskal(*(values[labels == label] for label in range(3))).statistic
    assert statistics.kruskal_wallis(values, labels[None])[0] == pytest.approx(expected)


def test_cramers_v_is_0_for_independence_and_1_for_identity():
    even = np.repeat([0, 0, 1, 1], 25)
    other = np.tile([0, 1], 50)
    assert statistics.cramers_v(even, other) == 0
    assert statistics.cramers_v(even, even) == pytest.approx(1, abs=0.01)


def test_cramers_v_is_not_inflated_by_many_categories(random):
    """The uncorrected V of 40 categories over 80 patients is about 0.7 by chance alone."""
    found = [statistics.cramers_v(random.integers(0, 40, 80), random.integers(0, 3, 80)) for _ in range(30)]
    assert np.mean(found) < 0.15


def test_mutual_information_of_a_copy_is_its_entropy():
    codes = np.repeat([0, 1], 500)
    assert statistics.mutual_information(codes, codes) == pytest.approx(np.log(2), abs=0.01)


def test_wasserstein_of_a_shift_is_the_shift_in_deviations(random):
    values = random.normal(size=4000)
    found = statistics.wasserstein(values, values + 1)
    assert found == pytest.approx(1 / np.concatenate([values, values + 1]).std(), rel=1e-6)


def test_psi_of_equal_shares_is_0_and_of_shifted_ones_follows_its_formula():
    assert statistics.psi_of_counts(np.array([50, 50]), np.array([500, 500])) == pytest.approx(0, abs=1e-9)
    found = statistics.psi_of_counts(np.array([99, 299]), np.array([299, 99]))
    a, b = 99.5 / 399, 299.5 / 399
    assert found == pytest.approx(2 * (a - b) * np.log(a / b), rel=1e-6)


def test_auc_is_that_of_scikit_learn_with_ties(random):
    from sklearn.metrics import roc_auc_score

    scores, truth = random.integers(0, 5, (1, 60)).astype(float), random.integers(0, 2, (1, 60))
    assert statistics.auc(scores, truth)[0] == pytest.approx(roc_auc_score(truth[0], scores[0]))


def test_mmd_of_the_same_cloud_is_small_and_of_another_large(random):
    near, far = random.normal(size=(60, 4)), random.normal(size=(60, 4))
    far[:30] += 2
    labels = (np.arange(60) < 30).astype(np.int64)[None]
    assert statistics.mmd2(near, labels)[0] < 0.1 < statistics.mmd2(far, labels)[0]


def test_step_down_holds_the_rate_over_many_tests(random):
    """Sixty independent tests without any effect: some adjusted p-value is below 0.1 in about a tenth of cases."""
    alarms = sum(statistics.step_down(random.exponential(size=(60, 200))).min() <= 0.1 for _ in range(400))
    assert 0.05 <= alarms / 400 <= 0.15


def test_step_down_finds_the_one_that_stands_out(random):
    surprises = random.exponential(size=(60, 500))
    surprises[7, 0] = 30
    adjusted = statistics.step_down(surprises)
    assert adjusted.argmin() == 7
    assert adjusted[7] == pytest.approx(1 / 500)


class TestModel:
    def test_held_out_predictions_are_those_of_a_ridge_fitted_without_the_patient(self, random):
        from sklearn.linear_model import Ridge

        table = random.normal(size=(40, 6))
        labels = random.integers(0, 2, 40).astype(float)
        found = model.held_out(table, seed=3) @ labels
        parts = np.random.default_rng(3)
        expected = np.zeros(40)
        for _ in range(model.REPEATS):
            part = parts.permutation(np.arange(40) % model.PARTS)
            for number in range(model.PARTS):
                inside = part != number
                fitted = Ridge(alpha=model.RIDGE * inside.sum()).fit(table[inside], labels[inside])
                expected[~inside] += fitted.predict(table[~inside]) / model.REPEATS
        assert found == pytest.approx(expected)

    def test_a_header_that_tells_the_stage_gives_a_high_auc_and_noise_does_not(self, random):
        stage = random.integers(0, 3, 120)
        kernel = Factor("kernel", stage.astype(float), ("a", "b", "c"))
        noise = Factor("noise", random.normal(size=120), None)
        assert model.scores(model.features([kernel]), stage[None], 0)[0] > 0.95
        assert model.scores(model.features([noise]), stage[None], 0)[0] < 0.65

    def test_a_number_may_act_in_any_shape(self, random):
        values = random.uniform(0, 1, 200)
        middle = ((values > 0.25) & (values < 0.5)).astype(np.int64)
        found = model.scores(model.features([Factor("x", values, None)]), middle[None], 0)[0]
        assert found > 0.9

"""Stage measures by hand, and against scikit-learn on resampled rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ct_assets.learning.evaluation import classification as metrics

ONES = np.ones(6)


class TestByHand:
    IS_CLASS = np.array([True, False, True, False, False, True])
    SCORE = np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.1])

    def test_auroc_is_the_share_of_pairs_in_the_right_order(self):
        # positives 0.9 beats 3 of 3, 0.7 beats 2, 0.1 none: 5 of 9
        assert metrics.auroc(self.IS_CLASS, self.SCORE, ONES) == pytest.approx(5 / 9)

    def test_ties_count_half(self):
        assert metrics.auroc(np.array([True, False]), np.array([0.5, 0.5]), np.ones(2)) == 0.5

    def test_auprc_adds_precision_at_each_hit(self):
        assert metrics.auprc(self.IS_CLASS, self.SCORE, ONES) == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)

    def test_brier(self):
        probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
        value = metrics.brier(np.array([0, 1]), probabilities, np.ones(2))
        assert value == pytest.approx(((0.09 + 0.04 + 0.01) + (0.01 + 0.81 + 0.64)) / 2)

    def test_calibration_error(self):
        # two calls at 0.9, one right; two at 0.6, both right: (|0.5 - 0.9| * 2 + |1 - 0.6| * 2) / 4
        probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
        value = metrics.calibration_error(np.array([0, 1, 1, 1]), probabilities, np.ones(4), bins=10)
        assert value == pytest.approx(0.4)

    def test_quadratic_kappa(self):
        # classes 0 1 2; one patient is called two classes off: observed cost 4, expected 4 + 1 + ... by margins
        truth = np.array([0, 1, 2, 2])
        probabilities = np.eye(3)[[0, 1, 2, 0]]
        expected_cost = (1 * (2 * 0 + 1 * 1 + 1 * 4) + 1 * (2 * 1 + 0 + 1 * 1) + 2 * (2 * 4 + 1 * 1 + 0)) / 4
        assert metrics.quadratic_kappa(truth, probabilities, np.ones(4)) == pytest.approx(
            1 - 4 / expected_cost
        )

    def test_balanced_accuracy_is_the_mean_recall(self):
        truth, probabilities = np.array([0, 0, 0, 1]), np.eye(2)[[0, 0, 1, 1]]
        assert metrics.balanced_accuracy(truth, probabilities, np.ones(4)) == pytest.approx((2 / 3 + 1) / 2)

    def test_what_is_not_defined_is_not_a_number(self):
        assert np.isnan(metrics.auroc(np.ones(3, bool), np.arange(3.0), np.ones(3)))
        assert np.isnan(metrics.auprc(np.zeros(3, bool), np.arange(3.0), np.ones(3)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_weight_is_a_row_repeated_and_all_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(3), rng.integers(3, size=9)])
    probabilities = rng.dirichlet(np.ones(3), size=12).round(1) + 1e-3  # rounded: ties
    probabilities /= probabilities.sum(1, keepdims=True)
    weights = rng.integers(0, 3, size=(4, 12)).astype(float)
    weights[:, :3] += 1
    named = metrics.measures(truth, probabilities, ("a", "b", "c"), ece_bins=10)
    for row in weights:
        repeated = np.repeat(np.arange(12), row.astype(int))
        t, p = truth[repeated], probabilities[repeated]
        called = p.argmax(1)
        expected = {
            "auroc_b": sk.roc_auc_score(t == 1, p[:, 1]),
            "auprc_b": sk.average_precision_score(t == 1, p[:, 1]),
            "auroc_macro": np.mean([sk.roc_auc_score(t == c, p[:, c]) for c in range(3)]),
            "quadratic_kappa": sk.cohen_kappa_score(t, called, weights="quadratic", labels=[0, 1, 2]),
            "balanced_accuracy": sk.balanced_accuracy_score(t, called),
            "brier": ((p - np.eye(3)[t]) ** 2).sum(1).mean(),
        }
        for name, value in expected.items():
            ours = named[name](row)
            assert (np.isnan(ours) and np.isnan(value)) or ours == pytest.approx(value), name
    at_once = named["auroc_macro"](weights)
    assert at_once == pytest.approx([named["auroc_macro"](row) for row in weights])

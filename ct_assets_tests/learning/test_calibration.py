"""Calibration and operating points, fitted on out-of-fold predictions."""

import numpy as np
import pytest

from ct_assets.learning.evaluation import calibration
from ct_assets.learning.evaluation.thresholds import reaches
from ct_assets.settings.training import EvaluationSettings

STAGES = ("I", "II")


def overconfident(patients=2000, seed=0):
    """Return probabilities whose logits are twice what they should be, and truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, patients)
    truth = (rng.uniform(size=patients) < 1 / (1 + np.exp(-logits))).astype(int)
    p = 1 / (1 + np.exp(-2 * logits))
    return np.stack([1 - p, p], axis=1), truth


class TestTemperature:
    def test_a_temperature_of_two_by_hand(self):
        # logits of 0.8 against 0.2 are log 4; halved, they are log 2
        found = calibration.with_temperature(np.array([[0.2, 0.8]]), 2.0)
        assert found[0] == pytest.approx([1 / 3, 2 / 3])

    def test_logits_twice_too_large_are_found(self):
        probabilities, truth = overconfident()
        assert calibration.best_temperature(probabilities, truth) == pytest.approx(2.0, abs=0.2)

    def test_the_likeliest_class_stays_the_likeliest(self):
        probabilities = np.random.default_rng(0).dirichlet(np.ones(4), size=50)
        assert (calibration.with_temperature(probabilities, 3.0).argmax(1) == probabilities.argmax(1)).all()


class TestIsotonic:
    def test_it_is_monotone_sums_to_one_and_is_closer_to_the_truth(self):
        probabilities, truth = overconfident()
        fitted = calibration.fit(probabilities, truth, STAGES, EvaluationSettings(calibration="isotonic"))
        mapped = fitted.apply(probabilities)
        assert mapped.sum(1) == pytest.approx(np.ones(len(truth)))
        assert (np.diff(fitted.curves[1].y) >= 0).all()
        error = [((p[:, 1] - truth) ** 2).mean() for p in (probabilities, mapped)]
        assert error[1] < error[0]


class TestOperatingPoints:
    P = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    IS_CLASS = np.array([True, False, True, True, False])

    def test_maximal_f1(self):
        # thresholds 0.9 0.8 0.7 0.6 0.5 give F1 1/2, 2/5, 2/3, 6/7, 3/4
        found = calibration.operating_point(self.P, self.IS_CLASS, "I", None)
        # midway between 0.6, the last who is called, and 0.5, the first who is not
        assert (found.threshold, found.f1) == (pytest.approx(0.55), pytest.approx(6 / 7))

    def test_a_target_sensitivity_then_the_best_ppv(self):
        found = calibration.operating_point(self.P, self.IS_CLASS, "I", 0.6)
        # sensitivity of at least 0.6: thresholds 0.7 (PPV 2/3), 0.6 (PPV 3/4), 0.5 (PPV 3/5)
        assert (found.threshold, found.ppv) == (pytest.approx(0.55), pytest.approx(0.75))

    def test_a_target_that_is_reached_exactly_is_reached(self):
        p, is_class = np.linspace(0.99, 0.5, 20), np.arange(20) < 10
        found = calibration.operating_point(p, is_class, "I", 0.7)
        assert found.sensitivity >= 0.7
        assert reaches(sum([0.7] * 3) / 3, 1, 0.7)  # 0.6999999999999998 in floating point
        assert not reaches(0.6999, 1, 0.7)


def test_a_temperature_that_runs_to_its_bound_calibrates_nothing_and_it_says_so():
    p = np.tile([[0.6, 0.4]], (12, 1))
    p[6:] = [[0.4, 0.6]]
    fitted = calibration.fit(p, np.array([0] * 6 + [1] * 6), STAGES, EvaluationSettings())
    assert (fitted.kind, fitted.is_at_bound, fitted.temperature) == ("none", True, 1.0)
    # between 0.6, who is called, and 0.4, who is not: one with 0.58 is called
    assert [point.threshold for point in fitted.operating_points] == pytest.approx([0.5, 0.5])

    def test_a_class_that_nobody_has_gets_no_threshold(self):
        assert calibration.operating_point(self.P, np.zeros(5, bool), "I", None).threshold is None


def test_too_few_patients_calibrate_nothing_and_it_says_so():
    fitted = calibration.fit(np.full((4, 2), 0.5), np.array([0, 1, 0, 1]), STAGES, EvaluationSettings())
    assert (fitted.kind, fitted.fitted_on) == ("none", "nothing")


def test_a_transferred_calibration_says_so():
    assert calibration.Calibration(kind="temperature", temperature=1.5).transferred().is_transferred

"""Calibration of mark scores: from a detector's score to the probability that the mark is on a nodule.

Belongs here: the fit on out-of-fold marks, and how well it does on folds that it did not see. Does not: calibration of
stages (`learning.evaluation.calibration`), whose temperature and isotonic curve it uses.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ct_assets.learning.evaluation import classification
from ct_assets.learning.evaluation.calibration import (
    AT_BOUND,
    LEAST_PATIENTS,
    TEMPERATURES,
    IsotonicCurve,
    best_temperature,
    with_temperature,
)
from ct_assets.settings.base import Section

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Kind = Literal["temperature", "isotonic", "none"]

BINS = 10


class MarkCalibration(Section):
    """How a score becomes a probability."""

    kind: Kind = "none"
    temperature: float = 1.0
    curve: IsotonicCurve | None = None
    scans: int = 0
    """Scans of the marks it was fitted on."""

    def apply(self, scores: Floats) -> Floats:
        """Return probabilities of scores from 0 to 1; no two scores change places."""
        if self.kind == "temperature":
            return with_temperature(_both(scores), self.temperature)[:, 1]
        if self.curve is not None:
            return np.asarray(np.interp(scores, self.curve.x, self.curve.y))
        return scores


def fit(scores: Floats, is_hit: Bools, scans: Sequence[str], *, kind: Kind) -> MarkCalibration:
    """Fit on out-of-fold marks. With few scans, marks of one sort only, or a temperature at a bound: none."""
    _check(scores)
    count = len(set(scans))
    if kind == "none" or count < LEAST_PATIENTS or is_hit.all() or not is_hit.any():
        return MarkCalibration(scans=count)
    if kind == "temperature":
        temperature = best_temperature(_both(scores), is_hit.astype(np.int64))
        if not TEMPERATURES[0] * AT_BOUND < temperature < TEMPERATURES[1] / AT_BOUND:
            return MarkCalibration(scans=count)
        return MarkCalibration(kind=kind, temperature=temperature, scans=count)
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, is_hit)
    curve = IsotonicCurve(x=tuple(fitted.X_thresholds_.tolist()), y=tuple(fitted.y_thresholds_.tolist()))
    return MarkCalibration(kind=kind, curve=curve, scans=count)


def out_of_fold(
    scores: Floats, is_hit: Bools, scans: Sequence[str], folds: Sequence[int], *, kind: Kind
) -> Floats:
    """Return each mark's probability by a calibration that was fitted on the other folds alone."""
    fold, names = np.asarray(folds), np.asarray(scans, dtype=object)
    result = np.array(scores, dtype=np.float64)
    for held_out in np.unique(fold):
        mine = fold == held_out
        fitted = fit(scores[~mine], is_hit[~mine], names[~mine].tolist(), kind=kind)
        result[mine] = fitted.apply(scores[mine])
    return result


def quality(probability: Floats, is_hit: Bools) -> dict[str, Any]:
    """Return Brier score (0 to 1) and expected calibration error over marks; null without marks."""
    _check(probability)
    if not len(probability):
        return {"marks": 0, "brier": None, "ece": None}
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    gap = np.bincount(place, weights=is_hit - probability, minlength=BINS)
    return {
        "marks": len(probability),
        "brier": float(
            classification.brier(is_hit.astype(np.int64), _both(probability), np.ones(len(is_hit))) / 2
        ),
        "ece": float(np.abs(gap).sum() / len(probability)),
    }


def _both(probability: Floats) -> Floats:
    return np.stack([1 - probability, probability], axis=1)


def _check(values: Floats) -> None:
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("scores must lie between 0 and 1 to be calibrated")

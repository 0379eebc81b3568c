"""Calibration of stage probabilities and operating thresholds, fitted on out-of-fold predictions and frozen.

Belongs here: fitting, applying, and what is kept of a fit. Nothing here ever sees the test split.
"""

from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets.learning.evaluation.thresholds import best_row, threshold_table
from ct_assets.settings.base import Section
from ct_assets.settings.training import EvaluationSettings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SMALLEST = 1e-7
TEMPERATURES = (0.05, 20.0)
"""Between these a temperature is searched."""
AT_BOUND = 1.02
"""A temperature within this factor of a bound is at the bound."""
LEAST_PATIENTS = 10
"""Fewer staged patients than this calibrate nothing: the fit would be noise."""


class OperatingPoint(Section):
    """The frozen threshold of one class against the rest."""

    stage: str
    threshold: float | None
    """Call the class where its calibrated probability is at least this; null where it cannot be fitted."""
    rule: Literal["max_f1", "target_sensitivity"]
    sensitivity: float | None = None
    """On the out-of-fold predictions it was fitted on."""
    ppv: float | None = None
    f1: float | None = None


class IsotonicCurve(Section):
    """A monotone step-wise linear map of one class's probability."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class Calibration(Section):
    """How stage probabilities become calibrated ones (`calibration.json`)."""

    kind: Literal["temperature", "isotonic", "none"] = "none"
    fitted_on: Literal["out_of_fold", "nothing"] = "nothing"
    is_transferred: bool = False
    """Fitted on the folds' models and applied to another model (a single one of all training patients)."""
    patients: int = 0
    temperature: float = 1.0
    is_at_bound: bool = False
    """The best temperature was a bound of the search, so the data do not determine one: nothing is calibrated."""
    curves: tuple[IsotonicCurve, ...] = ()
    operating_points: tuple[OperatingPoint, ...] = ()

    def apply(self, probabilities: Floats) -> Floats:
        """Return calibrated probabilities of the same shape (patients, classes); rows sum to 1."""
        if self.kind == "temperature":
            return with_temperature(probabilities, self.temperature)
        if self.kind == "isotonic":
            mapped = np.stack(
                [np.interp(probabilities[:, c], curve.x, curve.y) for c, curve in enumerate(self.curves)],
                axis=1,
            )
            total = mapped.sum(axis=1, keepdims=True)
            return np.where(total > 0, mapped / np.where(total > 0, total, 1), 1 / mapped.shape[1])
        return probabilities

    def transferred(self) -> Self:
        """Return the calibration marked as fitted on other models than the one it now serves."""
        return self.model_copy(update={"is_transferred": True})


def fit(
    probabilities: Floats, truth: Ints, stages: tuple[str, ...], settings: EvaluationSettings
) -> Calibration:
    """Fit on out-of-fold predictions: `probabilities` (patients, classes), `truth` (patients,).

    With fewer than `LEAST_PATIENTS` patients, a single class, or a temperature that runs to a bound of its search
    (the predictions are all right, or all wrong) nothing is calibrated, and the result records it.
    """
    kind = settings.calibration
    if len(truth) < LEAST_PATIENTS or len(np.unique(truth)) < 2:
        kind = "none"
    temperature = 1.0
    curves: tuple[IsotonicCurve, ...] = ()
    is_at_bound = False
    if kind == "temperature":
        temperature = best_temperature(probabilities, truth)
        is_at_bound = temperature < TEMPERATURES[0] * AT_BOUND or temperature > TEMPERATURES[1] / AT_BOUND
        if is_at_bound:
            kind, temperature = "none", 1.0
    elif kind == "isotonic":
        curves = tuple(_isotonic(probabilities[:, c], truth == c) for c in range(len(stages)))
    fitted = Calibration(
        kind=kind,
        fitted_on="out_of_fold" if kind != "none" else "nothing",
        patients=len(truth),
        temperature=temperature,
        is_at_bound=is_at_bound,
        curves=curves,
    )
    calibrated = fitted.apply(probabilities)
    points = tuple(
        operating_point(calibrated[:, c], truth == c, stage, settings.target_sensitivity)
        for c, stage in enumerate(stages)
    )
    return fitted.model_copy(update={"operating_points": points})


def with_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return softmax(log p / T): T above 1 softens, below 1 sharpens (Guo 2017, arXiv:1706.04599)."""
    scaled = np.log(np.clip(probabilities, SMALLEST, 1)) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    raised = np.exp(scaled)
    return raised / raised.sum(axis=1, keepdims=True)


def best_temperature(probabilities: Floats, truth: Ints) -> float:
    """Return the temperature within `TEMPERATURES` of least negative log-likelihood."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        own = with_temperature(probabilities, float(np.exp(log_temperature)))[np.arange(len(truth)), truth]
        return float(-np.log(np.clip(own, SMALLEST, 1)).mean())

    found = minimize_scalar(loss, bounds=(np.log(TEMPERATURES[0]), np.log(TEMPERATURES[1])), method="bounded")
    return float(np.exp(found.x))


def operating_point(
    probability: Floats, is_class: npt.NDArray[np.bool_], stage: str, target_sensitivity: float | None
) -> OperatingPoint:
    """Choose the threshold of one class among its observed probabilities.

    Chosen by `thresholds.best_row`. Taken is the middle between it and the next probability below, which calls the same
    patients: one who is a little less certain than those of the fit is called too.
    """
    rule: Literal["max_f1", "target_sensitivity"] = (
        "max_f1" if target_sensitivity is None else "target_sensitivity"
    )
    if not is_class.any() or is_class.all():
        return OperatingPoint(stage=stage, threshold=None, rule=rule)
    table = threshold_table(is_class, probability).filter(pl.col("threshold").is_finite())
    place = best_row(table, target_sensitivity=target_sensitivity)
    assert place is not None  # the lowest threshold calls everybody: sensitivity 1
    row = table.row(place, named=True)
    return OperatingPoint(
        stage=stage,
        threshold=float(table["threshold"][place : place + 2].to_numpy().mean()),
        rule=rule,
        sensitivity=row["sensitivity"],
        ppv=row["ppv"],
        f1=row["f1"],
    )


def _isotonic(probability: Floats, is_class: npt.NDArray[np.bool_]) -> IsotonicCurve:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probability, is_class)
    return IsotonicCurve(x=tuple(fitted.X_thresholds_.tolist()), y=tuple(fitted.y_thresholds_.tolist()))

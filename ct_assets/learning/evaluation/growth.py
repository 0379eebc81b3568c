"""Growth of a lesion between two scans.

Belongs here: doubling time, relative growth, its classes, and how well predicted growth agrees. Does not: measuring
volumes (`metrics_segmentation`) or pairing scans.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

GROWTH_SHARE = 0.25
"""A volume that changes by at least a quarter has changed (NELSON: Xu 2006, Lung Cancer 54:177; BTS 2015)."""

GrowthClass = Literal["shrinking", "stable", "growing"]


def relative_growth(before_ml: float, after_ml: float) -> float:
    """Return the change as a share of the first volume. Raises `ValueError` where that is not positive."""
    if before_ml <= 0 or after_ml < 0:
        raise ValueError(f"volumes must be positive, got {before_ml} and {after_ml} ml")
    return after_ml / before_ml - 1


def doubling_time_days(before_ml: float, after_ml: float, days: float) -> float:
    """Return the volume doubling time (Schwartz 1961): days x ln 2 / ln(after / before).

    Negative for a shrinking lesion (its halving time), infinite for one that stays as it is. Raises `ValueError` for
    volumes or an interval that are not positive.
    """
    if min(before_ml, after_ml, days) <= 0:
        raise ValueError(
            f"volumes and interval must be positive, got {before_ml}, {after_ml} ml, {days} days"
        )
    growth = math.log(after_ml / before_ml)
    return days * math.log(2) / growth if growth else math.inf


def growth_class(before_ml: float, after_ml: float, share: float = GROWTH_SHARE) -> GrowthClass:
    """Return whether a lesion grew or shrank by at least `share`."""
    change = relative_growth(before_ml, after_ml)
    if change >= share:
        return "growing"
    return "shrinking" if change <= -share else "stable"


@dataclass(frozen=True)
class GrowthAgreement:
    """How predicted volumes agree with those that came."""

    mae_ml: float
    median_error_ml: float
    rmse_ml: float
    r2: float
    """Share of the variance explained; NaN where all volumes are equal."""
    direction_accuracy: float
    """Share of lesions whose direction (grew, or not) is right."""
    class_accuracy: float
    """Share of lesions whose growth class is right."""


def agreement(
    before_ml: Sequence[float], after_ml: Sequence[float], predicted_ml: Sequence[float]
) -> GrowthAgreement:
    """Compare predicted second volumes with the true ones. Raises `ValueError` for unequal lengths or no lesion."""
    if not before_ml or not len(before_ml) == len(after_ml) == len(predicted_ml):
        raise ValueError("one first, second and predicted volume a lesion, and at least one lesion")
    before, after, predicted = (np.asarray(values, float) for values in (before_ml, after_ml, predicted_ml))
    error = predicted - after
    spread = ((after - after.mean()) ** 2).sum()
    classes = [
        growth_class(b, a) == growth_class(b, p) for b, a, p in zip(before, after, predicted, strict=True)
    ]
    return GrowthAgreement(
        mae_ml=float(np.abs(error).mean()),
        median_error_ml=float(np.median(np.abs(error))),
        rmse_ml=float(np.sqrt((error**2).mean())),
        r2=float(1 - (error**2).sum() / spread) if spread else math.nan,
        direction_accuracy=float(np.mean((after > before) == (predicted > before))),
        class_accuracy=float(np.mean(classes)),
    )

"""Intervals by resampling patients, for figures without a formula of their own.

Patients, not images or lesions, are drawn with replacement: images of one patient resemble each other. The interval
is bias-corrected and accelerated (Efron 1987, J Am Stat Assoc 82:171). Figures with a closed form are in `intervals`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ct_assets.learning.evaluation.intervals import (
    BCA,
    LEAST_FOR_BCA,
    NO_SPREAD,
    TOO_FEW,
    UNDEFINED,
    Estimate,
)

Floats = npt.NDArray[np.float64]

LEAST_DEFINED_SHARE = 0.9
"""With fewer defined resamples than this no interval is given."""


def patient_weights(patients: Sequence[str], samples: int, seed: int) -> Floats:
    """Return how often each row's patient is drawn, (samples, rows): resamples of as many patients."""
    names, place = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    rng = np.random.default_rng([seed, len(names)])
    drawn = rng.integers(len(names), size=(samples, len(names)))
    counts = np.zeros((samples, len(names)))
    np.add.at(counts, (np.arange(samples)[:, None], drawn), 1.0)
    return counts[:, place]


def estimate(
    measure: Callable[[Floats], Floats],
    patients: Sequence[str],
    *,
    samples: int,
    confidence: float,
    seed: int = 0,
) -> Estimate:
    """Return a measure's value over all rows, with its BCa interval from `LEAST_FOR_BCA` patients on.

    `measure` takes weights (rows,) or (samples, rows) and gives a value each.
    """
    names, place = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    count = len(names)
    value = float(measure(np.ones(len(patients)))) if count else np.nan
    if not np.isfinite(value):
        return Estimate(None, None, None, count)
    if count < LEAST_FOR_BCA:
        return Estimate(value, None, None, count, TOO_FEW)
    resampled = measure(patient_weights(patients, samples, seed))
    left_out = measure(1.0 - np.eye(count)[:, place])
    low, high, method = _bca(value, resampled, left_out, confidence)
    return Estimate(value, low, high, count, method)


def weighted_ratio(above: npt.ArrayLike, below: npt.ArrayLike) -> Callable[[Floats], Floats]:
    """Return the ratio of two sums over rows as a measure."""
    up, down = np.asarray(above, dtype=float), np.asarray(below, dtype=float)

    def ratio(weights: Floats) -> Floats:
        total = np.asarray(weights @ down)
        return np.divide(np.asarray(weights @ up), total, out=np.full(total.shape, np.nan), where=total > 0)

    return ratio


def _bca(
    value: float, resampled: Floats, left_out: Floats, confidence: float
) -> tuple[float | None, float | None, str]:
    from scipy.stats import norm

    defined = resampled[np.isfinite(resampled)]
    if defined.size < LEAST_DEFINED_SHARE * resampled.size or not np.isfinite(left_out).all():
        return None, None, UNDEFINED
    if np.ptp(defined) <= 1e-12:
        return None, None, NO_SPREAD
    below = float((defined < value).mean() + (defined == value).mean() / 2)
    bias = float(norm.ppf(np.clip(below, 1 / defined.size, 1 - 1 / defined.size)))
    pull = left_out.mean() - left_out
    spread = float((pull**2).sum())
    acceleration = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    limits = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + float(norm.ppf(tail))
        limits.append(float(np.quantile(defined, norm.cdf(bias + z / (1 - acceleration * z)))))
    return min(limits[0], value), max(limits[1], value), BCA

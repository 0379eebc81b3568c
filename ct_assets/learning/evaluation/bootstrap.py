"""Intervals by resampling patients: the one helper behind every figure of every report.

Patients, not images or lesions, are drawn with replacement (percentile interval, Efron 1979): images of one
patient resemble each other, and an interval over images would be too narrow.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST_DEFINED_SHARE = 0.5
"""With fewer defined resamples than this no interval is given."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval."""

    value: float | None
    """Null where the data do not define it."""
    low: float | None
    high: float | None
    patients: int
    undefined_share: float = 0.0
    """Share of resamples that did not define the figure (a class was not drawn, say)."""

    def json(self) -> dict[str, float | int | None]:
        """Return the figure as a report's JSON has it."""
        return asdict(self)


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
    """Return a measure's value over all rows, with its patient-level bootstrap interval.

    `measure` takes weights (rows,) or (samples, rows) and gives a value each.
    """
    count = len(set(patients))
    if count == 0:
        return Estimate(None, None, None, 0)
    value = float(measure(np.ones(len(patients))))
    low, high, undefined = interval(measure(patient_weights(patients, samples, seed)), confidence)
    if count < 2:
        low = high = None
    return Estimate(value if np.isfinite(value) else None, low, high, count, undefined)


def interval(values: Floats, confidence: float) -> tuple[float | None, float | None, float]:
    """Return the percentile interval of resampled values, and the share of undefined ones."""
    defined = values[np.isfinite(values)]
    undefined = 1 - defined.size / values.size
    if 1 - undefined < LEAST_DEFINED_SHARE:
        return None, None, undefined
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high), undefined


def weighted_mean(values: Sequence[float]) -> Callable[[Floats], Floats]:
    """Return the mean over rows as a measure."""
    fixed = np.asarray(values, dtype=float)

    def mean(weights: Floats) -> Floats:
        total = weights.sum(-1)
        above = np.asarray(weights @ fixed)
        return np.divide(above, total, out=np.full(above.shape, np.nan), where=total > 0)

    return mean


def weighted_ratio(above: Sequence[float], below: Sequence[float]) -> Callable[[Floats], Floats]:
    """Return the ratio of two sums over rows as a measure (missed lesions over lesions, say)."""
    up, down = np.asarray(above, dtype=float), np.asarray(below, dtype=float)

    def ratio(weights: Floats) -> Floats:
        total = np.asarray(weights @ down)
        return np.divide(np.asarray(weights @ up), total, out=np.full(total.shape, np.nan), where=total > 0)

    return ratio


@dataclass(frozen=True)
class Comparison:
    """The paired difference of two figures over the same patients."""

    difference: float | None
    low: float | None
    high: float | None
    share_better: float | None
    """Share of resamples in which the first is larger; ties count half."""

    def json(self) -> dict[str, float | None]:
        """Return the comparison as a report's JSON has it."""
        return asdict(self)


def compare(
    first: Callable[[Floats], Floats],
    second: Callable[[Floats], Floats],
    patients: Sequence[str],
    *,
    samples: int,
    confidence: float,
    seed: int = 0,
) -> Comparison:
    """Compare two measures over the same rows by paired resampling: first minus second."""
    if not len(patients):
        return Comparison(None, None, None, None)
    ones = np.ones(len(patients))
    weights = patient_weights(patients, samples, seed)
    difference = float(first(ones) - second(ones))
    resampled = first(weights) - second(weights)
    low, high, _ = interval(resampled, confidence)
    defined = resampled[np.isfinite(resampled)]
    better = float(((defined > 0) + 0.5 * (defined == 0)).mean()) if defined.size else None
    return Comparison(difference if np.isfinite(difference) else None, low, high, better)

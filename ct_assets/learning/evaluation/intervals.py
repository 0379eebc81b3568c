"""Confidence intervals over patients whose coverage is known also for few patients.

Belongs here: one function a kind of figure, each with its method. `benchmarks/coverage.py` measures the coverage of
all of them by simulation; docs/training.md has its table. Patients, not images or lesions, are the units: images of
one patient resemble each other. A method that cannot give an honest interval gives none; no interval has no width.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEAST_FOR_MEAN = 8
"""Patients below which the mean of an unbounded quantity gets no interval: its skewness is not known."""
LEAST_FOR_AUROC = 2
"""Positive and negative patients each, below which an AUROC gets no interval."""
LEAST_FOR_AUPRC = 20
"""Positive patients below which the average precision gets no interval: it is biased upwards."""
LEAST_FOR_BCA = 30
"""Patients below which no bootstrap interval is given."""
LEAST_FOR_VERDICT = 10
"""Patients below which no comparison is decided."""
LEAST_IN_CLASS = 5
"""Patients of each class below which no comparison of AUROC is decided."""

EXACT = "Clopper-Pearson"
GAFFKE = "Gaffke's bound of a bounded mean (conservative)"
HALL = "t, corrected for skewness (Hall 1992)"
NEWCOMBE = "Newcombe's score interval of an AUROC (2006, method 5)"
CLASS_MEAN = "mean of the classes' limits (conservative)"
MOVER = "limits of the classes combined (MOVER)"
BINOMIAL = "binomial in the positive patients (Boyd 2013)"
BCA = "BCa bootstrap over patients"
JACKKNIFE = "t with jackknife variance over patients"
TOO_FEW = "none: too few patients"
NO_SPREAD = "none: all values are equal"
UNDEFINED = "none: not defined on these patients"
BIASED = "none: biased for few patients"

GAFFKE_SAMPLES = 4000
"""Draws behind a limit of a bounded mean; the limits move by about a hundredth of their width with the draws."""
MOST_DRAWN = 4_000_000
"""Weights drawn at once, to bound memory."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval."""

    value: float | None
    """Null where the data do not define it."""
    low: float | None
    high: float | None
    patients: int
    method: str = UNDEFINED
    """How the interval was computed, or why there is none."""

    def json(self) -> dict[str, float | int | str | None]:
        """Return the figure as a report's JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """The paired difference of two figures over the same patients: first minus second."""

    difference: float | None
    low: float | None
    high: float | None
    patients: int = 0
    method: str = UNDEFINED
    is_decidable: bool = False
    """False with fewer than `LEAST_FOR_VERDICT` patients, or too few of a class: no verdict is drawn."""

    def json(self) -> dict[str, float | int | str | bool | None]:
        """Return the comparison as a report's JSON has it."""
        return asdict(self)


def bounded_ratio(
    above: npt.ArrayLike,
    below: npt.ArrayLike,
    patients: Sequence[str],
    *,
    confidence: float,
    highest: float = 1.0,
) -> Estimate:
    """Return sum(above) / sum(below) of rows whose own ratio lies in 0 … `highest`: shares and means of scores.

    Exact for one yes or no a patient (Clopper and Pearson 1934). Else Gaffke's bound (2005; Learned-Miller and
    Thomas 2019): a Dirichlet distribution over the patients and one unseen patient at the end of the range. It equals
    Clopper-Pearson for yes and no, holds at least its level, and is wider than needed for few patients.
    """
    up, down, count = _by_patient(above, below, patients)
    total = down.sum()
    if total <= 0:
        return Estimate(None, None, None, count)
    value = float(up.sum() / total)
    if np.all(down == down[0]) and np.all((up == 0) | (up == highest * down)):
        hits = round(float((up > 0).sum()))
        low, high = clopper_pearson(hits, len(up), confidence)
        return Estimate(value, low * highest, high * highest, count, EXACT)
    weights_of = _gaffke_limits(up, down, highest, confidence)
    return Estimate(value, *_around(value, *weights_of), count, GAFFKE)


def bounded_mean(
    values: npt.ArrayLike, patients: Sequence[str], *, confidence: float, highest: float = 1.0
) -> Estimate:
    """Return the mean of rows that lie in 0 … `highest` (`bounded_ratio`)."""
    rows = np.asarray(values, np.float64)
    return bounded_ratio(rows, np.ones_like(rows), patients, confidence=confidence, highest=highest)


def clopper_pearson(hits: float, total: float, confidence: float) -> tuple[float, float]:
    """Return the exact binomial interval (Clopper and Pearson 1934); counts need not be whole."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else float(beta.ppf(tail, hits, total - hits + 1))
    high = 1.0 if hits >= total else float(beta.ppf(1 - tail, hits + 1, total - hits))
    return low, high


def mean(
    values: npt.ArrayLike, patients: Sequence[str], *, confidence: float, least: float | None = None
) -> Estimate:
    """Return the mean of rows without an upper bound, such as distances and volumes in mm and ml.

    Student's t with Hall's correction for skewness (1992, J R Stat Soc B 54:221), from `LEAST_FOR_MEAN` patients on.
    `least` is the smallest possible value, if there is one.
    """
    rows = np.asarray(values, np.float64)
    up, down, count = _by_patient(rows, np.ones_like(rows), patients)
    if not len(up):
        return Estimate(None, None, None, 0)
    value = float(up.sum() / down.sum())
    low, high, method = _hall(value + _influence(up, down), value, confidence, LEAST_FOR_MEAN)
    if low is not None and least is not None:
        low = max(low, least)
    return Estimate(value, low, high, count, method)


def difference_of_means(
    first: npt.ArrayLike, second: npt.ArrayLike, patients: Sequence[str], *, confidence: float
) -> Comparison:
    """Return the paired difference of two means over the same rows."""
    rows = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    up, down, count = _by_patient(rows, np.ones_like(rows), patients)
    if not len(up):
        return Comparison(None, None, None)
    value = float(up.sum() / down.sum())
    low, high, method = _hall(value + _influence(up, down), value, confidence, LEAST_FOR_MEAN)
    return Comparison(
        value, low, high, count, method, is_decidable=low is not None and count >= LEAST_FOR_VERDICT
    )


def auroc(is_class: Bools, score: npt.ArrayLike, patients: Sequence[str], *, confidence: float) -> Estimate:
    """Return the area under the ROC curve with Newcombe's score interval (Stat Med 2006, 25:559, method 5).

    Its variance follows from the area and the numbers of patients, so that it holds its level for few patients and at
    areas of 0 and 1, where DeLong's variance is 0.
    """
    from ct_assets.learning.evaluation import classification

    scores = np.asarray(score, np.float64)
    count = len(set(patients))
    value = float(classification.auroc(is_class, scores, np.ones(len(scores)))) if count else np.nan
    if not np.isfinite(value):
        return Estimate(None, None, None, count)
    positive, negative = effective_patients(is_class, patients), effective_patients(~is_class, patients)
    if min(positive, negative) < LEAST_FOR_AUROC:
        return Estimate(value, None, None, count, TOO_FEW)
    return Estimate(value, *_newcombe(value, positive, negative, confidence), count, NEWCOMBE)


def average_precision(
    is_class: Bools, score: npt.ArrayLike, patients: Sequence[str], *, confidence: float
) -> Estimate:
    """Return the average precision, with a binomial interval in the positive patients (Boyd 2013, ECML 8190:451)."""
    from ct_assets.learning.evaluation import classification

    scores = np.asarray(score, np.float64)
    count = len(set(patients))
    value = float(classification.auprc(is_class, scores, np.ones(len(scores)))) if count else np.nan
    if not np.isfinite(value):
        return Estimate(None, None, None, count)
    positive = effective_patients(is_class, patients)
    if positive < LEAST_FOR_AUPRC:
        return Estimate(value, None, None, count, TOO_FEW)
    low, high = clopper_pearson(value * positive, positive, confidence)
    return Estimate(value, low, high, count, BINOMIAL)


def mean_of_classes(parts: Sequence[Estimate]) -> Estimate:
    """Return the mean of one figure over classes of the same patients, whose estimates may depend on each other."""
    count = max((part.patients for part in parts), default=0)
    values = [part.value for part in parts if part.value is not None]
    if not parts or len(values) < len(parts):
        return Estimate(None, None, None, count)
    value = float(np.mean(values))
    lows = [part.low for part in parts if part.low is not None]
    highs = [part.high for part in parts if part.high is not None]
    if len(lows) < len(parts) or len(highs) < len(parts):
        return Estimate(value, None, None, count, TOO_FEW)
    return Estimate(value, float(np.mean(lows)), float(np.mean(highs)), count, CLASS_MEAN)


def mean_of_separate(parts: Sequence[Estimate]) -> Estimate:
    """Return the mean of shares of separate patients, such as the recall of each class.

    The limits are combined by the method of variance estimates recovery (Zou and Donner 2008).
    """
    count = sum(part.patients for part in parts)
    low = high = 0.0
    values = []
    for part in parts:
        if part.value is None or part.low is None or part.high is None:
            return Estimate(None, None, None, count)
        values.append(part.value)
        low += (part.value - part.low) ** 2
        high += (part.high - part.value) ** 2
    if not values:
        return Estimate(None, None, None, count)
    value, classes = float(np.mean(values)), len(values)
    limits = (max(0.0, value - low**0.5 / classes), min(1.0, value + high**0.5 / classes))
    return Estimate(value, *limits, count, MOVER)


def difference(
    measure: Callable[[Floats], Floats], patients: Sequence[str], *, confidence: float, least_in_class: int
) -> Comparison:
    """Return a difference that is no mean, given as a function of row weights, with jackknife variance and t.

    `least_in_class` is how many patients the rarest class has: below `LEAST_IN_CLASS` nothing is decided.
    """
    from scipy.stats import t

    names, place = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    count = len(names)
    value = float(measure(np.ones(len(patients)))) if count else np.nan
    if not np.isfinite(value):
        return Comparison(None, None, None, count)
    left_out = measure(1.0 - np.eye(count)[:, place])
    if count < LEAST_FOR_MEAN or not np.isfinite(left_out).all():
        return Comparison(value, None, None, count, TOO_FEW)
    deviation = float(np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))
    if deviation <= 1e-12:
        return Comparison(value, None, None, count, NO_SPREAD)
    away = float(t.ppf((1 + confidence) / 2, count - 1)) * deviation
    is_decidable = count >= LEAST_FOR_VERDICT and least_in_class >= LEAST_IN_CLASS
    return Comparison(value, value - away, value + away, count, JACKKNIFE, is_decidable)


def effective_patients(rows: Bools, patients: Sequence[str]) -> float:
    """Return how many patients the chosen rows are worth (Kish 1965): as many as there are, if each has one row."""
    chosen = np.asarray(patients, dtype=object).astype(str)[np.asarray(rows, bool)]
    if not len(chosen):
        return 0.0
    sizes = np.unique(chosen, return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _by_patient(
    above: npt.ArrayLike, below: npt.ArrayLike, patients: Sequence[str]
) -> tuple[Floats, Floats, int]:
    """Return sums over each patient who counts at all, and how many patients there are."""
    names, place = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    up, down = np.zeros(len(names)), np.zeros(len(names))
    np.add.at(up, place, np.asarray(above, np.float64))
    np.add.at(down, place, np.asarray(below, np.float64))
    counted = down > 0
    return up[counted], down[counted], len(names)


def _influence(up: Floats, down: Floats) -> Floats:
    """Return how each patient pulls the ratio: for one row a patient its value minus the mean."""
    return np.asarray((up - up.sum() / down.sum() * down) * len(up) / down.sum())


def _around(value: float, low: float, high: float) -> tuple[float, float]:
    return min(low, value), max(high, value)


def _gaffke_limits(up: Floats, down: Floats, highest: float, confidence: float) -> tuple[float, float]:
    order = np.lexsort((down, up / down))
    up, down = up[order], down[order]
    unseen = float(down.mean())
    tail = (1 - confidence) / 2
    lows, highs = [], []
    for weights in _dirichlet(len(up)):
        seen, extra = weights[:, :-1], weights[:, -1]
        total = seen @ down + extra * unseen
        lows.append(seen @ up / total)
        highs.append((seen @ up + extra * unseen * highest) / total)
    return (
        float(np.quantile(np.concatenate(lows), tail)),
        float(np.quantile(np.concatenate(highs), 1 - tail)),
    )


@lru_cache(maxsize=64)
def _small_dirichlet(count: int) -> Floats:
    return np.random.default_rng([20050101, count]).dirichlet(np.ones(count + 1), GAFFKE_SAMPLES)


def _dirichlet(count: int) -> list[Floats]:
    if count <= 100:
        return [_small_dirichlet(count)]
    rng = np.random.default_rng([20050101, count])
    step = max(1, MOST_DRAWN // (count + 1))
    sizes = [min(step, GAFFKE_SAMPLES - start) for start in range(0, GAFFKE_SAMPLES, step)]
    return [rng.dirichlet(np.ones(count + 1), size) for size in sizes]


def _hall(
    rows: Floats, value: float, confidence: float, least: int
) -> tuple[float | None, float | None, str]:
    """Return limits of the mean of `rows` (one a patient) by the inverse of Hall's cubic transformation."""
    from scipy.stats import t

    count = len(rows)
    if count < least:
        return None, None, TOO_FEW
    deviation = float(rows.std(ddof=1))
    if deviation <= 1e-12 * max(1.0, abs(value)):
        return None, None, NO_SPREAD
    skewness = float((((rows - rows.mean()) / rows.std()) ** 3).mean())
    quantile = float(t.ppf((1 + confidence) / 2, count - 1))

    def away(sign: int) -> float:
        x = sign * quantile / count**0.5
        if abs(skewness) < 1e-6:
            return x
        inner = 1 + skewness * (x - skewness / (6 * count))
        return float(3 / skewness * (np.cbrt(inner) - 1))

    return value - deviation * away(1), value - deviation * away(-1), HALL


def _newcombe(value: float, positive: float, negative: float, confidence: float) -> tuple[float, float]:
    """Return the areas from which the observed one is as far as the level allows."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))
    middle = (positive + negative) / 2 - 1

    def deviation(area: float) -> float:
        spread = 1 + middle * (1 - area) / (2 - area) + middle * area / (1 + area)
        return float(np.sqrt(area * (1 - area) * spread / (positive * negative)))

    smallest = 1e-9
    low, high = 0.0, 1.0
    if value > smallest:
        low = float(
            brentq(lambda area: value - area - z * deviation(area), smallest, min(value, 1 - smallest))
        )
    if value < 1 - smallest:
        high = float(
            brentq(lambda area: area - value - z * deviation(area), max(value, smallest), 1 - smallest)
        )
    return low, high

"""Predictions of a nodule's later volume without a model: what every model must beat.

Belongs here: baselines of volumes in mm3. Rates are learned from training pairs only; growth is exponential, its rate
the change of the logarithm a day. A baseline that does not apply to a pair gives None.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ct_assets.learning.evaluation.growth import GROWTH_SHARE

LEAST_PAIRS_OF_A_TYPE = 5
"""A type with fewer training pairs gets the rate of all."""
MOST_RATE_PER_DAY = math.log(2) / 10
"""A volume that doubles faster is a measuring error or inflammation; rates are limited to it on both sides."""
NAMES = ("copy_input", "mean_rate", "rate_by_type", "linear", "exponential", "always_grow")


@dataclass(frozen=True)
class Pair:
    """One nodule on two exams, and where there is one on an exam before them."""

    pid: str
    nodule_group: str
    exam_a: str
    exam_b: str
    volume_a: float
    volume_b: float
    delta_days: float
    nodule_type: str | None = None
    volume_before: float | None = None
    days_before: float | None = None
    """Days from the exam before to exam a."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for a first volume or an interval that is not positive."""
        if not (self.volume_a > 0 and self.volume_b >= 0 and self.delta_days > 0):
            raise ValueError(
                f"nodule {self.nodule_group}: volumes and interval must be positive, got {self.volume_a}, "
                f"{self.volume_b} mm3, {self.delta_days} days"
            )


@dataclass(frozen=True)
class Rates:
    """Mean growth rates of training pairs, a day."""

    of_all: float
    of_type: Mapping[str, float]


def learn(training: Sequence[Pair]) -> Rates:
    """Return mean rates. Raises `ValueError` where no training pair has two positive volumes."""
    by_type: dict[str, list[float]] = defaultdict(list)
    rates = []
    for pair in training:
        if pair.volume_b <= 0:
            continue
        rates.append(_rate(pair.volume_a, pair.volume_b, pair.delta_days))
        if pair.nodule_type is not None:
            by_type[pair.nodule_type].append(rates[-1])
    if not rates:
        raise ValueError("no training pair has two positive volumes")
    of_type = {name: _mean(some) for name, some in by_type.items() if len(some) >= LEAST_PAIRS_OF_A_TYPE}
    return Rates(_mean(rates), of_type)


def predict(pair: Pair, rates: Rates) -> dict[str, float | None]:
    """Return each baseline's later volume in mm3."""
    before, days_before = pair.volume_before, pair.days_before
    linear = exponential = None
    if before is not None and days_before is not None and before > 0 and days_before > 0:
        linear = max(0.0, pair.volume_a + (pair.volume_a - before) / days_before * pair.delta_days)
        exponential = _grown(pair, _rate(before, pair.volume_a, days_before))
    of_type = rates.of_type.get(pair.nodule_type or "", rates.of_all)
    return {
        "copy_input": pair.volume_a,
        "mean_rate": _grown(pair, rates.of_all),
        "rate_by_type": _grown(pair, of_type),
        "linear": linear,
        "exponential": exponential,
        "always_grow": pair.volume_a * (1 + GROWTH_SHARE),
    }


def _rate(first: float, second: float, days: float) -> float:
    return min(max(math.log(second / first) / days, -MOST_RATE_PER_DAY), MOST_RATE_PER_DAY)


def _grown(pair: Pair, rate: float) -> float:
    return pair.volume_a * math.exp(rate * pair.delta_days)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

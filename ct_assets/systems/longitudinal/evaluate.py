"""How well predicted volumes of nodules agree with those that came, beside every baseline.

Belongs here: a row a pair, figures with intervals by patient, strata, and the verdict. Does not: predicting.
A missing prediction counts as volume 0, and figures without those rows stand beside.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ct_assets.learning.evaluation import bootstrap
from ct_assets.learning.evaluation.growth import doubling_time_days, growth_class
from ct_assets.systems.longitudinal import baselines
from ct_assets.systems.longitudinal.baselines import Pair, Rates
from ct_assets.systems.longitudinal.nodules import doubling_class

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
SAMPLES = 2000
INTERVALS_DAYS = (0, 180, 400, math.inf)
"""Strata of the interval: half a year, one screening round, longer."""


def rows(pairs: Sequence[Pair], predicted: Sequence[float | None], rates: Rates) -> list[Row]:
    """Return a row a pair with both exams, measured, predicted and baseline volumes (mm3), classes and doubling times."""
    result = []
    for pair, volume in zip(pairs, predicted, strict=True):
        result.append(
            {
                "pid": pair.pid,
                "nodule_group": pair.nodule_group,
                "exam_a": pair.exam_a,
                "exam_b": pair.exam_b,
                "delta_days": pair.delta_days,
                "nodule_type": pair.nodule_type,
                "volume_a": pair.volume_a,
                "volume_b": pair.volume_b,
                "predicted": 0.0 if volume is None else float(volume),
                "is_found": volume is not None,
                **baselines.predict(pair, rates),
                **_growth(pair, pair.volume_b, ""),
                **_growth(pair, volume, "predicted_"),
            }
        )
    return result


def report(table: Sequence[Row], *, seed: int = 0, samples: int = SAMPLES) -> Row:
    """Return figures of the model and of each baseline, over all rows and in each stratum, with verdicts."""
    strata = {"all": list(table)} | {name: some for name, some in _strata(table).items() if some}
    return {
        "pairs": len(table),
        "patients": len({row["pid"] for row in table}),
        "not_found": sum(not row["is_found"] for row in table),
        "strata": {name: _stratum(some, seed, samples) for name, some in strata.items()},
    }


def _stratum(table: Sequence[Row], seed: int, samples: int) -> Row:
    result: Row = {
        "pairs": len(table),
        "model": figures(table, "predicted", seed=seed, samples=samples),
        "baselines": {},
        "verdicts": {},
    }
    found = [row for row in table if row["is_found"]]
    if len(found) < len(table):
        result["model_where_found"] = figures(found, "predicted", seed=seed, samples=samples)
    for name in baselines.NAMES:
        shared = [row for row in table if row[name] is not None]
        result["baselines"][name] = figures(shared, name, seed=seed, samples=samples)
        result["verdicts"][name] = _verdict(shared, name, seed, samples)
    return result


def figures(table: Sequence[Row], column: str, *, seed: int = 0, samples: int = SAMPLES) -> Row:
    """Return the figures of one column of predictions; null where they are not defined."""
    if not table:
        return {"pairs": 0}
    before, after, predicted = (_column(table, name) for name in ("volume_a", "volume_b", column))
    patients = [row["pid"] for row in table]
    error = predicted - after

    def interval(measure: Callable[[Floats], Floats]) -> Row:
        return bootstrap.estimate(measure, patients, samples=samples, confidence=CONFIDENCE, seed=seed).json()

    ones = np.ones(len(table))
    squares = bootstrap.weighted_ratio(error**2, ones)
    return {
        "pairs": len(table),
        "mae_mm3": interval(bootstrap.weighted_ratio(np.abs(error), ones)),
        "median_error_mm3": float(np.median(np.abs(error))),
        "rmse_mm3": interval(lambda weights: np.sqrt(squares(weights))),
        "r_squared": interval(lambda weights: _r_squared(weights, after, error)),
        "direction": interval(bootstrap.weighted_ratio((after > before) == (predicted > before), ones)),
        "growth_class": interval(bootstrap.weighted_ratio(_agree(table, predicted, _growth_class), ones)),
        "vdt_class": _vdt_agreement(table, predicted),
    }


def _verdict(table: Sequence[Row], name: str, seed: int, samples: int) -> Row:
    """Compare the model's absolute errors with a baseline's over the same rows: who wins, said plainly."""
    if not table:
        return {"verdict": "undecided", "says": f"{name} applies to no pair"}
    after, model, other = (_column(table, column) for column in ("volume_b", "predicted", name))
    gain = np.abs(other - after) - np.abs(model - after)
    estimate = bootstrap.estimate(
        bootstrap.weighted_ratio(gain, np.ones(len(table))),
        [row["pid"] for row in table],
        samples=samples,
        confidence=CONFIDENCE,
        seed=seed,
    )
    verdict = "undecided"
    if estimate.low is not None and estimate.low > 0:
        verdict = "wins"
    elif estimate.high is not None and estimate.high < 0:
        verdict = "loses"
    told = {
        "wins": "The model beats",
        "loses": "The model LOSES to",
        "undecided": "The model is not shown to beat",
    }
    return {"verdict": verdict, "says": f"{told[verdict]} {name}", "gain_mae_mm3": estimate.json()}


def _strata(table: Sequence[Row]) -> Mapping[str, list[Row]]:
    strata: dict[str, list[Row]] = {
        f"growth: {name}": [row for row in table if row["growth_class"] == name]
        for name in ("growing", "stable", "shrinking")
    }
    for name in sorted({row["nodule_type"] for row in table} - {None}):
        strata[f"type: {name}"] = [row for row in table if row["nodule_type"] == name]
    for low, high in pairwise(INTERVALS_DAYS):
        named = f"interval: {low} to {high} days" if math.isfinite(high) else f"interval: over {low} days"
        strata[named] = [row for row in table if low < row["delta_days"] <= high]
    strata["timepoints: skipped"] = [row for row in table if row.get("timepoints_skipped")]
    return strata


def _growth(pair: Pair, volume: float | None, prefix: str) -> Row:
    name = None if volume is None else growth_class(pair.volume_a, volume)
    days = None
    if volume is not None and volume > 0 and volume != pair.volume_a:
        days = doubling_time_days(pair.volume_a, volume, pair.delta_days)
    return {
        f"{prefix}growth_class": name,
        f"{prefix}vdt_days": days,
        f"{prefix}vdt_class": doubling_class(days) if name == "growing" and days is not None else None,
    }


def _growth_class(row: Row, volume: float) -> str:
    return growth_class(row["volume_a"], volume)


def _vdt_class(row: Row, volume: float) -> str:
    if growth_class(row["volume_a"], volume) != "growing":
        return "none"
    return doubling_class(doubling_time_days(row["volume_a"], volume, row["delta_days"]))


def _agree(table: Sequence[Row], predicted: Floats, of: Callable[[Row, float], str]) -> npt.NDArray[np.bool_]:
    return np.array(
        [of(row, row["volume_b"]) == of(row, float(one)) for row, one in zip(table, predicted, strict=True)]
    )


def _vdt_agreement(table: Sequence[Row], predicted: Floats) -> float | None:
    """Return the share of right doubling classes among nodules that grew; null where none did."""
    grew = [number for number, row in enumerate(table) if row["growth_class"] == "growing"]
    if not grew:
        return None
    return float(_agree([table[number] for number in grew], predicted[grew], _vdt_class).mean())


def _r_squared(weights: Floats, after: Floats, error: Floats) -> Floats:
    total = weights.sum(axis=-1)
    mean = weights @ after / total
    spread = weights @ after**2 - total * mean**2
    return np.asarray(
        1 - np.divide(weights @ error**2, spread, out=np.full(np.shape(spread), np.nan), where=spread > 1e-9)
    )


def _column(table: Sequence[Row], name: str) -> Floats:
    return np.array([row[name] for row in table], np.float64)

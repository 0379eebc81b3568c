"""The threshold tables of a cross-validation of slices, and the threshold that follows from them.

Belongs here: the columns of `cv_thresholds_*.csv`, means over folds, the fallback. Does not: counts, rates and the rule
of choice (`learning.evaluation.thresholds`), where scores come from (`brain.cv`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets.errors import UsageError
from ct_assets.learning.evaluation import classification as metrics_stage
from ct_assets.learning.evaluation.thresholds import best_row, threshold_table
from ct_assets.settings.brain import ThresholdStrategy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GRID: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""0.05, 0.10, ... 0.95."""
RATES = ("sens", "spec", "ppv", "npv", "f1", "acc")
"""Metrics of calls; `acc` is the balanced accuracy."""
COUNTS = ("tp", "fp", "tn", "fn")
FALLBACK = "max_f1"


def rates(truth: Ints, score: Floats, thresholds: Sequence[float]) -> pl.DataFrame:
    """Return a row a threshold: counts and rates of calls; a rate over nothing is 0.

    `acc` is the mean of sensitivity and specificity. No call at all has a PPV of 0, so that a threshold
    that calls nobody is never chosen for its precision.
    """
    table = threshold_table(truth == 1, score, thresholds).rename(
        {"sensitivity": "sens", "specificity": "spec"}
    )
    filled = table.with_columns(pl.col("sens", "spec", "ppv", "npv", "f1").fill_null(0.0))
    return filled.with_columns(acc=(pl.col("sens") + pl.col("spec")) / 2).select("threshold", *COUNTS, *RATES)


def auprc(truth: Ints, score: Floats) -> float:
    """Return the average precision (steps, no trapezoids; Davis 2006), NaN for one class."""
    return float(metrics_stage.auprc(truth == 1, score, np.ones(len(truth))))


def auroc(truth: Ints, score: Floats) -> float:
    """Return the area under the ROC curve, NaN for one class."""
    return float(metrics_stage.auroc(truth == 1, score, np.ones(len(truth))))


def by_fold(
    y_true_fold: Sequence[Ints],
    y_score_fold: Sequence[Floats],
    auc_trn: Sequence[float],
    thresholds: Sequence[float] = GRID,
) -> pl.DataFrame:
    """Return a row a fold and threshold (`cv_thresholds_by_fold.csv`)."""
    parts = [
        rates(truth, score, thresholds).select(
            pl.lit(fold, dtype=pl.Int64).alias("fold"),
            pl.all(),
            ap=pl.lit(auprc(truth, score)),
            auc=pl.lit(auroc(truth, score)),
            auc_trn=pl.lit(float(auc_trn[fold])),
        )
        for fold, (truth, score) in enumerate(zip(y_true_fold, y_score_fold, strict=True))
    ]
    return pl.concat(parts) if parts else pl.DataFrame()


def summary(table: pl.DataFrame) -> pl.DataFrame:
    """Return a row a threshold: mean and standard deviation over folds, sums of counts.

    Deviations are those of a sample (n - 1); a fold that does not define a metric is left out of its mean.
    """
    rates_of = (*RATES, "ap", "auc")
    defined = table.with_columns(pl.col("ap", "auc", "auc_trn").fill_nan(None))
    return (
        defined.group_by("threshold")
        .agg(
            *(pl.col(name).mean().alias(f"{name}_mean") for name in rates_of),
            *(pl.col(name).std().alias(f"{name}_std") for name in rates_of),
            pl.col("auc_trn").mean().alias("auc_mean_trn"),
            *(pl.col(name).sum().alias(f"{name}_sum") for name in COUNTS),
        )
        .sort("threshold")
    )


def exact_candidates(y_score_fold: Sequence[Floats]) -> list[float]:
    """Return every score that occurs out of fold: between two of them no call changes."""
    return sorted({float(score) for scores in y_score_fold for score in scores})


def select(table: pl.DataFrame, strategy: ThresholdStrategy, sens_target: float) -> dict[str, Any]:
    """Return the threshold that a summary and a strategy give, with its row (`thresholds.best_row`).

    `sens_target` falls back to `max_f1`, and says so, where no row reaches the target. Raises `UsageError` for an empty
    table.
    """
    if table.is_empty():
        raise UsageError("no threshold to choose from: the cross-validation has no rows")
    if strategy == "max_f1":
        return {"strategy": strategy, **_chosen(table, None)}
    content = {"strategy": strategy, "sens_target": sens_target}
    chosen = _chosen(table, sens_target)
    if not chosen:
        return {**content, "fallback": FALLBACK, "reason": "sens_target_missed", **_chosen(table, None)}
    return {**content, "fallback": None, "reason": None, **chosen}


def _chosen(table: pl.DataFrame, target: float | None) -> Mapping[str, Any]:
    place = best_row(table, target_sensitivity=target, f1="f1_mean", ppv="ppv_mean", sensitivity="sens_mean")
    if place is None:
        return {}
    row = table.row(place, named=True)
    return {"threshold": float(row["threshold"]), "row": row}

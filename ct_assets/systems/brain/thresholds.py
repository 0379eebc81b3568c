"""Tables of figures over thresholds, and the rules by which one threshold is chosen and frozen.

Belongs here: figures of calls at a threshold, the grid and the exact candidates, the two rules. Does not:
where scores come from (`brain.cv`). A slice is called positive where its score is at least the threshold.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets.errors import UsageError
from ct_assets.learning.evaluation import classification as metrics_stage
from ct_assets.learning.evaluation.calibration import reaches
from ct_assets.settings.brain import ThresholdStrategy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GRID: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""0.05, 0.10, ... 0.95."""
RATES = ("sens", "spec", "ppv", "npv", "f1", "acc")
"""Figures of calls; `acc` is the balanced accuracy."""
COUNTS = ("tp", "fp", "tn", "fn")
FALLBACK = "max_f1"


def rates(truth: Ints, score: Floats, threshold: float) -> dict[str, float]:
    """Return counts and rates of calls at a threshold; a rate over nothing is 0.

    `acc` is the mean of sensitivity and specificity. No call at all has a PPV of 0, so that a threshold
    which finds nobody is never chosen for its precision.
    """
    called, positive = score >= threshold, truth == 1
    tp, fp = int((called & positive).sum()), int((called & ~positive).sum())
    tn, fn = int((~called & ~positive).sum()), int((~called & positive).sum())
    sens, spec = _share(tp, tp + fn), _share(tn, tn + fp)
    return {
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
        "sens": sens,
        "spec": spec,
        "ppv": _share(tp, tp + fp),
        "npv": _share(tn, tn + fn),
        "f1": _share(2 * tp, 2 * tp + fp + fn),
        "acc": (sens + spec) / 2,
    }


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
    rows = []
    for fold, (truth, score) in enumerate(zip(y_true_fold, y_score_fold, strict=True)):
        whole = {"ap": auprc(truth, score), "auc": auroc(truth, score), "auc_trn": auc_trn[fold]}
        rows += [
            {"fold": fold, "threshold": float(one), **rates(truth, score, one), **whole} for one in thresholds
        ]
    return pl.DataFrame(rows)


def summary(table: pl.DataFrame) -> pl.DataFrame:
    """Return a row a threshold: mean and standard deviation over folds, sums of counts.

    Deviations are those of a sample (n - 1); a fold that does not define a figure is left out of its mean.
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
    """Return the threshold that a summary and a rule give, with its row.

    `max_f1` takes the largest `f1_mean`. `sens_target` takes the largest `ppv_mean` among rows with
    `sens_mean` of at least the target, and falls back to `max_f1`, saying so, where there is none. Of equals
    the one with more sensitivity is taken, then the lower threshold: a missed lesion is worse than a false
    alarm. Raises `UsageError` for an empty table.
    """
    if table.is_empty():
        raise UsageError("no threshold to choose from: the cross-validation has no rows")
    rows = table.to_dicts()
    if strategy == "max_f1":
        return {"strategy": strategy, **_chosen(rows, "f1_mean")}
    reaching = [row for row in rows if reaches(row["sens_mean"], 1, sens_target)]
    told = {"strategy": strategy, "sens_target": sens_target}
    if not reaching:
        return {**told, "fallback": FALLBACK, "reason": "sens_target_missed", **_chosen(rows, "f1_mean")}
    return {**told, "fallback": None, "reason": None, **_chosen(reaching, "ppv_mean")}


def _chosen(rows: Sequence[Mapping[str, Any]], by: str) -> dict[str, Any]:
    # Rounded, so that means of equal shares are equal whatever the order they were added in.
    best = max(rows, key=lambda row: (round(row[by], 9), round(row["sens_mean"], 9), -row["threshold"]))
    return {"threshold": float(best["threshold"]), "row": dict(best)}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

"""Two experiments on the same patients: paired differences of their out-of-fold metrics.

Belongs here: which cases both have, the differences and their intervals. Does not: a model against baselines
(`learning.evaluation.metrics_report`), the page (`reports.comparison`).
"""

from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import tables
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.learning.evaluation import intervals
from ct_assets.tables.learning import SegmentationScores

SCORES_NAME = "segmentation_scores.parquet"
MODEL = "model"
IS_HIGHER_BETTER = {
    "dice": True,
    "nsd": True,
    "lesion_f1": True,
    "hd95_mm": False,
    "lesions_false": False,
    "is_missed": False,
}
"""Metrics of a case that are compared."""


def compare(layout: Layout, first: str, second: str, *, confidence: float) -> dict[str, Any]:
    """Return `first` minus `second` for each metric over the cases that both predicted out of fold.

    The same patients are in both, so differences are taken by case and the interval is of their mean over patients
    (`intervals.difference_of_means`). Raises `UsageError` for an experiment without scores, for one compared with itself,
    and for two without a case in common.
    """
    if first == second:
        raise UsageError(f"experiment {first}: compare it with another one")
    ours, theirs = _scores(layout, first), _scores(layout, second)
    both = ours.join(theirs, on=["case_id", "patient_id"], suffix="_second", maintain_order="left")
    if both.is_empty():
        raise UsageError(f"experiments {first} and {second} have no case in common: nothing can be compared")
    patients = both["patient_id"].to_list()
    metrics = {}
    for name, is_higher_better in IS_HIGHER_BETTER.items():
        values, others = (both[column].cast(pl.Float64) for column in (name, f"{name}_second"))
        found = intervals.difference_of_means(
            values.to_list(), others.to_list(), patients, confidence=confidence
        )
        better = (values > others) if is_higher_better else (values < others)
        metrics[name] = {
            **{
                key: round(value, 6) if isinstance(value, float) else value
                for key, value in found.json().items()
            },
            "first": round(float(values.to_numpy().mean()), 6),
            "second": round(float(others.to_numpy().mean()), 6),
            "is_higher_better": is_higher_better,
            "cases_better": int(better.sum()),
            "cases_equal": int((values == others).sum()),
        }
    return {
        "kind": "comparison",
        "first": first,
        "second": second,
        "confidence": confidence,
        "patients": len(set(patients)),
        "cases": both.height,
        "only_first": ours.height - both.height,
        "only_second": theirs.height - both.height,
        "metrics": metrics,
        "verdict": verdict(first, second, metrics["dice"]),
    }


def verdict(first: str, second: str, dice: dict[str, Any]) -> str:
    """Return in one sentence what the paired difference of Dice says."""
    difference, low, high = dice["difference"], dice["low"], dice["high"]
    patients = dice["patients"]
    if low is None or high is None:
        return f"Dice: {first} minus {second} is {difference:+.3f} on {patients} patients; interval {dice['method']}."
    shown = f"{difference:+.3f} (interval {low:+.3f} to {high:+.3f}, {patients} patients)"
    if not dice["is_decidable"]:
        return f"Dice: {first} minus {second} is {shown}; too few patients for a verdict."
    if low > 0:
        return f"Dice: {first} is better than {second} by {shown}."
    if high < 0:
        return f"Dice: {second} is better than {first}; {first} minus {second} is {shown}."
    return f"Dice: no difference is shown; {first} minus {second} is {shown}, and the interval includes 0."


def _scores(layout: Layout, experiment: str) -> pl.DataFrame:
    path: Path = layout.experiment(experiment) / SCORES_NAME
    if not path.exists():
        known = sorted(found.parent.name for found in (layout.root / "models").glob(f"*/{SCORES_NAME}"))
        raise UsageError(
            f"experiment {experiment}: no cross-validation report yet (`ct-assets train`); "
            f"experiments with one: {', '.join(known) or 'none'}"
        )
    table = tables.read_table(path, SegmentationScores)
    return table.filter(pl.col("model") == MODEL).sort("case_id")

"""The page of an experiment: its folds judged out of fold, or its final model on the test split.

Belongs here: laying out what a report's JSON holds; every number on the page is one of the JSON beside it.
The page is one file: pictures are inside.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import files
from ct_assets.imaging import resample, values
from ct_assets.layout import Layout
from ct_assets.learning.training.trainer import CURVES_NAME
from ct_assets.reports import figures
from ct_assets.reports.page import metric_text as figure_text
from ct_assets.reports.page import template
from ct_assets.reports.summary import result_sentence

__all__ = ("figure_text", "template", "write")

PAGE_NAME = "index.html"
JSON_NAME = "report.json"
FAILURES_BELOW_DICE = 0.5
MOST_FAILURES = 50
OVERLAY_CASES = ("best", "median", "worst")

SEGMENTATION_COLUMNS = {
    "dice": "Dice",
    "nsd": "NSD",
    "hd95_mm": "HD95, mm",
    "volume_error_share": "volume error, share",
    "lesion_f1": "lesion F1",
    "lesion_miss_rate": "lesions missed",
    "false_lesions_a_case": "false lesions a case",
}
STAGE_COLUMNS = {
    "auroc_macro": "AUROC",
    "auprc_macro": "AUPRC",
    "quadratic_kappa": "kappa",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier",
    "ece": "ECE",
}


def write(
    content: dict[str, Any],
    predictions: pl.DataFrame,
    scores: pl.DataFrame,
    layout: Layout,
    manifest: pl.DataFrame,
    *,
    folder: Path,
) -> Path:
    """Write the page and its JSON twin into `folder`; return the page's path."""
    files.write_json(folder / JSON_NAME, content)
    pictures = _pictures(content, predictions, scores, layout)
    page = template("experiment.html").render(
        report=content,
        result=result_sentence(content),
        up="../../",
        segmentation_columns=SEGMENTATION_COLUMNS,
        stage_columns=STAGE_COLUMNS,
        pictures=pictures,
        overlays=_overlays(predictions, scores, layout, manifest),
        failures=[row for row in content["case_scores"] if row["dice"] < FAILURES_BELOW_DICE][:MOST_FAILURES],
        failures_below=FAILURES_BELOW_DICE,
    )
    files.write_text(folder / PAGE_NAME, page)
    return folder / PAGE_NAME


def _pictures(
    content: dict[str, Any], predictions: pl.DataFrame, scores: pl.DataFrame, layout: Layout
) -> dict[str, str]:
    drawn: dict[str, bytes] = {}
    curves = _curves(layout, content["experiment"], content["folds"])
    if curves:
        drawn["Training: loss, validation Dice and learning rate over epochs, a line a fold"] = (
            figures.curves(curves)
        )
    by_model = {name: rows.to_dicts() for (name,), rows in scores.group_by("model", maintain_order=True)}
    if by_model.get("model"):
        drawn["Dice of each case by tumour volume"] = figures.dice_by_volume(
            by_model["model"], by_model.get("threshold_in_lung", [])
        )
    staged = content.get("stage_predictions")
    if staged:
        stages = content["stages"]
        truth = np.array([stages.index(row["truth"]) for row in staged])
        probabilities = np.array([row["probabilities"] for row in staged])
        fold_of = dict(predictions.select("patient_id", "fold").iter_rows())
        folds = [str(fold_of.get(row["patient_id"])) for row in staged]
        drawn["TNM stage: ROC, precision and recall, each class against the rest; folds thin"] = (
            figures.roc_and_precision(truth, probabilities, folds, stages)
        )
        drawn["TNM stage: share of right calls by confidence"] = figures.reliability(
            truth, {"model": probabilities}, bins=10
        )
        drawn["TNM stage: patients by true and called class"] = figures.confusion(
            content["stage"]["model"]["confusion"], stages
        )
    return {name: figures.data_uri(png) for name, png in drawn.items()}


def _curves(layout: Layout, experiment: str, folds: list[str]) -> dict[str, list[dict[str, Any]]]:
    paths = {fold: layout.fold_model(experiment, fold) / CURVES_NAME for fold in folds}
    return {fold: files.read_jsonl(path) for fold, path in paths.items() if path.exists()}


def _overlays(
    predictions: pl.DataFrame, scores: pl.DataFrame, layout: Layout, manifest: pl.DataFrame
) -> list[dict[str, Any]]:
    """Draw the best, the median and the worst case by Dice."""
    ours = scores.filter(pl.col("model") == "model").sort("dice", "case_id", descending=[True, False])
    if ours.is_empty():
        return []
    places = {"best": 0, "median": ours.height // 2, "worst": ours.height - 1}
    by_case = {row["case_id"]: row for row in manifest.iter_rows(named=True)}
    mask_of = dict(predictions.select("case_id", "mask").iter_rows())
    shown = []
    for name in OVERLAY_CASES:
        row = ours.row(places[name], named=True)
        case = by_case[row["case_id"]]
        image = resample.oriented(values.read_ct(layout.root / case["image"]).volume)
        masks = {
            "reference": _labels(layout.root / case["label"]),
            "predicted": _labels(layout.root / mask_of[row["case_id"]]),
        }
        title = f"{row['case_id']}: reference {row['reference_ml']:.1f} ml, predicted {row['predicted_ml']:.1f} ml"
        png = figures.overlay(image.array, masks, image.grid.spacing_mm, title=title)
        shown.append(
            {"name": name, "case": row["case_id"], "dice": row["dice"], "picture": figures.data_uri(png)}
        )
    return shown


def _labels(path: Path) -> npt.NDArray[Any]:
    return resample.oriented(values.read_labels(path).volume).array

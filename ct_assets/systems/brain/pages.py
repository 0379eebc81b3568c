"""The pages of brain CT classification: the data at a first look, a cross-validation, the test.

Belongs here: what stands on a page. Every number is one of the JSON or table beside it; how a page looks is
the shared template's. A page is one file: pictures are inside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import polars as pl

from ct_assets import files
from ct_assets.reasons import reason
from ct_assets.reports import experiment, figures
from ct_assets.settings.brain import BrainConfig
from ct_assets.systems.brain import grid, plots
from ct_assets.systems.brain.cv import CvResult

SHOWN = ("threshold", "sens_mean", "sens_std", "spec_mean", "ppv_mean", "npv_mean", "f1_mean", "acc_mean", "tp_sum",
         "fp_sum", "tn_sum", "fn_sum")  # fmt: skip
HISTOGRAM_BINS = 60


@dataclass(frozen=True)
class Part:
    """A part of a page."""

    title: str
    lines: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)


def write(
    path: Path,
    title: str,
    parts: Sequence[Part],
    *,
    notes: Sequence[str] = (),
    warned: Sequence[str] = (),
    is_forced: bool = False,
) -> Path:
    """Write a page; return its path."""
    page = experiment.template("brain.html").render(
        title=title, sections=parts, notes=notes, warned=warned, is_forced=is_forced
    )
    files.write_text(path, page)
    return path


def first_look(
    path: Path,
    features: pl.DataFrame,
    checks: Mapping[str, Any],
    structure: Mapping[str, Any] | None,
    root: Path,
    config: BrainConfig,
    *,
    count: int,
    seed: int,
) -> Path:
    """Write the page on a data set before any training: what is there, what is wrong, what the network will see."""
    usable = features.filter(pl.col("ok") == 1)
    counted = {
        "slices": features.height,
        "usable": usable.height,
        "patients or studies": checks["groups"],
        "studies": checks["studies"],
        "positive": checks["usable_by_label"]["1"],
        "negative": checks["usable_by_label"]["0"],
    }
    told = [
        {"reason": code, "slices": number, "meaning": reason(code).meaning, "what to do": reason(code).mend}
        for code, number in [*checks["errors"].items(), *checks["warnings"].items()]
    ]
    by_scanner = (
        usable.group_by("manufacturer", "convolution_kernel")
        .agg(pl.len().alias("slices"), pl.col("label").mean().round(3).alias("positive_share"))
        .sort("slices", "manufacturer", descending=[True, False])
    )
    parts = [
        Part("What is there", figures=counted),
        Part("What is odd", rows=told) if told else Part("What is odd", lines=["Nothing."]),
        Part(
            "Scanners",
            lines=["A label that follows the scanner is learnt from the scanner: compare the shares."],
            rows=by_scanner.to_dicts(),
        ),
        Part("Values", pictures={"sizes and values by label": figures.data_uri(_histograms(usable))}),
        Part(
            "What the network sees",
            pictures={
                f"label {label}": figures.data_uri(
                    plots.preparation(features, root, label, config, count=count, seed=seed + label)
                )
                for label in (0, 1)
            },
        ),
    ]
    warned = [] if structure is None else [
        f"{one['count']} x {one['code']}: {reason(one['code']).meaning}" for one in structure["warnings"]
    ]  # fmt: skip
    return write(path, "Brain CT: a first look", parts, warned=warned)


def cross_validation(
    path: Path,
    result: CvResult,
    metrics: Mapping[str, Any],
    selection: Mapping[str, Any],
    *,
    title: str,
    grid_results: pl.DataFrame | None = None,
) -> Path:
    """Write the page of a cross-validation."""
    chosen = selection["threshold"]
    rows = [
        {**{name: row[name] for name in SHOWN}, "chosen": row["threshold"] == chosen}
        for row in result.df_summary.to_dicts()
    ]
    lines = [f"Threshold {chosen:g} by {selection['strategy']}" + _fallback(selection)]
    parts = [
        Part(
            "Out of fold", lines=[f"Mean AUPRC over folds: {_plus_minus(metrics)}."], figures=metrics["oof"]["intervals"],
            pictures={
                "ROC": figures.data_uri(plots.cv_mean_roc(result.y_true_fold, result.y_score_fold)),
                "precision and recall": figures.data_uri(plots.cv_mean_pr(result.y_true_fold, result.y_score_fold)),
                "training": figures.data_uri(plots.histories(result.histories)),
            },
        ),
        Part("Thresholds, means over folds", lines=lines, rows=rows),
    ]  # fmt: skip
    if metrics.get("study"):
        parts.append(_study_part(metrics["study"]))
    if grid_results is not None:
        parts.append(
            Part(
                "Candidates", lines=[grid.NESTED_NOTE], rows=grid_results.drop("config", "seconds").to_dicts()
            )
        )
    return write(path, title, parts)


def one_test(
    path: Path,
    predictions: pl.DataFrame,
    metrics: Mapping[str, Any],
    gallery: bytes | None,
    *,
    title: str,
    is_forced: bool = False,
) -> Path:
    """Write the page of the one test."""
    truth, score = predictions["label"].to_numpy(), predictions["prob"].to_numpy()
    intervals = metrics["intervals"]
    counts = {name.upper(): metrics[name] for name in ("tp", "fp", "tn", "fn")}
    pictures = {}
    if 0 < truth.sum() < len(truth):
        pictures = {
            "ROC": figures.data_uri(plots.test_roc(truth, score, intervals["roc_auc"])),
            "precision and recall": figures.data_uri(plots.test_pr(truth, score, intervals["auprc"])),
        }
    parts = [
        Part("Slices", lines=[f"Threshold {metrics['threshold']:g}, frozen before."], figures={**intervals, **counts},
             pictures=pictures)
    ]  # fmt: skip
    if metrics.get("study"):
        parts.append(_study_part(metrics["study"]))
    if gallery is not None:
        line = (
            "The surest hits and false alarms, the lesions missed most clearly, and where the network looked."
        )
        parts.append(Part("Where it looked", lines=[line], pictures={"Grad-CAM": figures.data_uri(gallery)}))
    note = (
        f"{metrics['count']} slices of {metrics['patients']} patients; prevalence {metrics['prevalence']:.3f}, "
        f"which is the AUPRC of chance. {100 * metrics['confidence']:g} % intervals over patients."
    )
    return write(path, title, parts, notes=[note], is_forced=is_forced)


def _study_part(study: Mapping[str, Any]) -> Part:
    line = f"Slices pooled by {study['aggregation'].replace('_', '-')}; threshold {study['threshold']:g} of its own."
    counts = {name.upper(): study[name] for name in ("tp", "fp", "tn", "fn")}
    return Part("Studies", lines=[line], figures={**study["intervals"], **counts})


def _fallback(selection: Mapping[str, Any]) -> str:
    if selection.get("fallback"):
        return f" was asked for; fell back to {selection['fallback']}: {reason(selection['reason']).meaning}"
    target = selection.get("sens_target")
    return "." if target is None else f" (mean sensitivity of at least {target:g})."


def _plus_minus(metrics: Mapping[str, Any]) -> str:
    mean, std = metrics["mean_metric"], metrics["std_metric"]
    if mean is None:
        return "undefined"
    return f"{mean:.3f}" + ("" if std is None else f" ± {std:.3f}")


def _histograms(usable: pl.DataFrame) -> bytes:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2))
    columns = (("hu_mean", "mean HU"), ("pixel_spacing_x", "pixel spacing, mm"), ("shape_0", "rows"))
    for axis, (column, title) in zip(axes, columns, strict=True):
        values = usable[column].drop_nulls().to_numpy()
        if not len(values):
            continue
        edges = np.linspace(values.min() - 0.5, values.max() + 0.5, HISTOGRAM_BINS)
        for label in (0, 1):
            part = usable.filter(pl.col("label") == label)[column].drop_nulls().to_numpy()
            axis.hist(part, bins=list(edges), alpha=0.6, color=figures.COLOURS[label], label=f"label {label}")
        axis.set(title=title)
    axes[0].legend(fontsize=8)
    return figures.png(figure)

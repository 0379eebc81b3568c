"""Plots of a two-class cross-validation and test, and of how slices are prepared, as PNG bytes.

Belongs here: what the shared figures do not have: curves of folds with their mean and deviation, pictures of
slices. The curve of a figure is the curve its number stands for: precision falls in steps, so its area is
the average precision and not a trapezoid, which is too large (Davis 2006, doi:10.1145/1143844.1143874).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets.reports import figures
from ct_assets.settings.brain import BrainConfig
from ct_assets.systems.brain import preprocess, slices, thresholds

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PLACES = np.linspace(0, 1, 201)
PICTURES = ("slice", "skull", "crop", "windows")
RAW_WINDOW = "brain_wide"
HEAT_SHARE = 0.45


def roc_curve(truth: Ints, score: Floats) -> tuple[Floats, Floats]:
    """Return false and true positive rates from (0, 0) to (1, 1), equal scores as one step."""
    hits, false = _counts(truth, score)
    return np.append(0, false / max(1, (truth == 0).sum())), np.append(0, hits / max(1, (truth == 1).sum()))


def pr_curve(truth: Ints, score: Floats) -> tuple[Floats, Floats]:
    """Return recall and precision, recall ascending; the precision holds for the step that ends there."""
    hits, false = _counts(truth, score)
    return hits / max(1, (truth == 1).sum()), hits / (hits + false)


def precision_at(truth: Ints, score: Floats, places: Floats) -> Floats:
    """Return the precision over recall as steps: at each place that of the step that contains it."""
    recall, precision = pr_curve(truth, score)
    return np.asarray(precision[np.minimum(np.searchsorted(recall, places, side="left"), len(recall) - 1)])


def cv_mean_roc(y_true_fold: Sequence[Ints], y_score_fold: Sequence[Floats]) -> bytes:
    """Draw each fold's ROC, and their mean with one standard deviation."""
    figure, axis = plt.subplots(figsize=(5.6, 5.2))
    rows, areas = [], []
    for fold, (truth, score) in enumerate(_defined(y_true_fold, y_score_fold)):
        false, hits = roc_curve(truth, score)
        rows.append(np.interp(PLACES, false, hits))
        rows[-1][0] = 0.0
        areas.append(thresholds.auroc(truth, score))
        axis.plot(false, hits, lw=0.8, alpha=0.6, label=f"fold {fold}: {areas[-1]:.3f}")
    _mean_band(axis, rows, areas, "AUROC")
    axis.plot([0, 1], [0, 1], ":", color="#999")
    axis.set(title="ROC, cross-validation", xlabel="1 - specificity", ylabel="sensitivity")
    axis.legend(fontsize=8, loc="lower right")
    return figures.png(figure)


def cv_mean_pr(y_true_fold: Sequence[Ints], y_score_fold: Sequence[Floats]) -> bytes:
    """Draw each fold's precision over recall, and their mean with one standard deviation."""
    figure, axis = plt.subplots(figsize=(5.6, 5.2))
    rows, areas, positive = [], [], []
    for fold, (truth, score) in enumerate(_defined(y_true_fold, y_score_fold)):
        rows.append(precision_at(truth, score, PLACES))
        areas.append(thresholds.auprc(truth, score))
        positive.append(float((truth == 1).mean()))
        axis.step(PLACES, rows[-1], where="pre", lw=0.8, alpha=0.6, label=f"fold {fold}: {areas[-1]:.3f}")
    _mean_band(axis, rows, areas, "AP")
    if positive:
        axis.axhline(float(np.mean(positive)), ls=":", color="#999")
    axis.set(
        title="precision and recall, cross-validation", xlabel="recall", ylabel="precision", ylim=(0, 1.02)
    )
    axis.legend(fontsize=8, loc="lower left")
    return figures.png(figure)


def test_roc(truth: Ints, score: Floats, told: dict[str, Any]) -> bytes:
    """Draw the test's ROC with its area and interval."""
    figure, axis = plt.subplots(figsize=(5.2, 4.9))
    axis.plot(*roc_curve(truth, score), color=figures.COLOURS[0], label=f"AUROC {_interval(told)}")
    axis.plot([0, 1], [0, 1], ":", color="#999")
    axis.set(title="ROC, test", xlabel="1 - specificity", ylabel="sensitivity")
    axis.legend(fontsize=8, loc="lower right")
    return figures.png(figure)


def test_pr(truth: Ints, score: Floats, told: dict[str, Any]) -> bytes:
    """Draw the test's precision over recall with its average precision and interval."""
    figure, axis = plt.subplots(figsize=(5.2, 4.9))
    axis.step(PLACES, precision_at(truth, score, PLACES), where="pre", color=figures.COLOURS[0],
              label=f"AP {_interval(told)}")  # fmt: skip
    axis.axhline(float((truth == 1).mean()), ls=":", color="#999")
    axis.set(title="precision and recall, test", xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    axis.legend(fontsize=8, loc="lower left")
    return figures.png(figure)


def histories(folds: Sequence[Sequence[dict[str, Any]]]) -> bytes:
    """Draw loss and validation AUPRC over the epochs of both stages, a line a fold."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    for fold, rows in enumerate(folds):
        colour = figures.COLOURS[fold % len(figures.COLOURS)]
        epochs = range(1, len(rows) + 1)
        axes[0].plot(epochs, [row.get("train_loss") for row in rows], color=colour, label=f"fold {fold}")
        axes[1].plot(epochs, [row.get("val_auprc") for row in rows], "o-", ms=3, color=colour)
        border = sum(row["stage"] == rows[0]["stage"] for row in rows) + 0.5 if rows else 0
        axes[1].axvline(border, color=colour, ls=":", lw=0.6)
    axes[0].set(title="training loss", xlabel="epoch, both stages")
    axes[1].set(title="validation AUPRC", xlabel="epoch; dotted: fine-tuning begins")
    axes[0].legend(fontsize=8)
    return figures.png(figure)


def preparation(
    table: pl.DataFrame, root: Path, label: int, config: BrainConfig, *, count: int, seed: int
) -> bytes:
    """Draw some slices of a label: as stored, skull mask, crop, what the network sees; a row a slice."""
    usable = table.filter((pl.col("ok") == 1) & (pl.col("label") == label)).sort("id")
    chosen = usable.sample(min(count, usable.height), seed=seed) if usable.height else usable
    figure, axes = plt.subplots(
        max(1, chosen.height), len(PICTURES), figsize=(2.3 * len(PICTURES), 2.3 * max(1, chosen.height)),
        squeeze=False,
    )  # fmt: skip
    for axis in axes.ravel():
        axis.set_axis_off()
    for row, (identifier, path) in zip(axes, chosen.select("id", "path").iter_rows(), strict=False):
        read = slices.read(root / path)
        hu = np.asarray(slices.upright(read.hu, read.orientation))
        cropped, _ = preprocess.crop_to_skull_bbox(hu, config.skull_percentile, config.crop_pad)
        shown = preprocess.channels(cropped, config.windows)
        pictures = (
            preprocess.brain_window(hu, 45, 90),
            preprocess.skull_mask(hu, config.skull_percentile),
            preprocess.brain_window(cropped, 45, 90),
            np.moveaxis(np.repeat(shown, 3, axis=0) if shown.shape[0] == 1 else shown, 0, -1),
        )
        for axis, name, picture in zip(row, PICTURES, pictures, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
            axis.set_title(f"{identifier}" if name == PICTURES[0] else name, fontsize=7)
    return figures.png(figure)


def gallery(rows: Sequence[dict[str, Any]]) -> bytes:
    """Draw slices with the heat of Grad-CAM beside them; each row has `image`, `heat` (rows, columns) and `title`."""
    across = 3
    down = max(1, -(-len(rows) // across))
    figure, axes = plt.subplots(down, 2 * across, figsize=(3.6 * across, 2.1 * down), squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for number, row in enumerate(rows):
        left, right = axes[number // across][2 * (number % across) : 2 * (number % across) + 2]
        for axis in (left, right):
            axis.imshow(row["image"], cmap="gray", vmin=0, vmax=1)
        right.imshow(row["heat"], cmap="inferno", alpha=HEAT_SHARE, vmin=0, vmax=1)
        left.set_title(row["title"], fontsize=7)
    return figures.png(figure)


def _counts(truth: Ints, score: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    positive = truth[order] == 1
    return np.cumsum(positive)[last_of_tie].astype(float), np.cumsum(~positive)[last_of_tie].astype(float)


def _defined(truths: Sequence[Ints], scores: Sequence[Floats]) -> list[tuple[Ints, Floats]]:
    return [(t, s) for t, s in zip(truths, scores, strict=True) if 0 < (t == 1).sum() < len(t)]


def _mean_band(axis: Any, rows: Sequence[Floats], areas: Sequence[float], name: str) -> None:
    if not rows:
        return
    mean, deviation = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1 if len(rows) > 1 else 0)
    spread = float(np.std(areas, ddof=1)) if len(areas) > 1 else 0.0
    axis.plot(PLACES, mean, color="k", lw=2, label=f"mean {name} {np.mean(areas):.3f} ± {spread:.3f}")
    axis.fill_between(
        PLACES, np.clip(mean - deviation, 0, 1), np.clip(mean + deviation, 0, 1), color="k", alpha=0.12
    )


def _interval(told: dict[str, Any]) -> str:
    if told["value"] is None:
        return "undefined"
    if told["low"] is None:
        return f"{told['value']:.3f}"
    return f"{told['value']:.3f} ({told['low']:.3f} to {told['high']:.3f})"

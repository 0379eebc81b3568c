"""Plots of learning as PNG bytes, drawn without a display.

Belongs here: one function a plot; each takes figures and returns bytes. `png` is for the plots that a single system has
for itself. Nothing is computed that a report's JSON does not hold, except the curves of ROC, precision and
calibration, which are drawn from its predictions.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DPI = 100
COLOURS = ("#2c6fa6", "#d1783c", "#4c9a5f", "#8d62a8", "#b8a13a", "#777777", "#c0392b", "#16a085")
OUTLINES = {"reference": "#4ccf6a", "predicted": "#ffb428"}
RESEARCH_ONLY = "Research use only."
CT_WINDOW = (-1000.0, 400.0)
"""Lower and upper HU of the overlays."""


def data_uri(png: bytes) -> str:
    """Return a PNG as a URI that a single-file page can hold."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def curves(rows_by_fold: Mapping[str, Sequence[Mapping[str, Any]]], *, stacked: bool = False) -> bytes:
    """Draw training loss, validation figures and learning rate over epochs, a line a fold.

    Side by side, or `stacked` for a narrow place.
    """
    figure, axes = plt.subplots(3, 1, figsize=(4.5, 8)) if stacked else plt.subplots(1, 3, figsize=(13, 3.4))
    for number, (fold, rows) in enumerate(sorted(rows_by_fold.items())):
        colour = COLOURS[number % len(COLOURS)]
        epochs = [row["epoch"] for row in rows]
        axes[0].plot(epochs, [row.get("train_loss") for row in rows], color=colour, label=f"fold {fold}")
        validated = [row for row in rows if "val_dice" in row]
        axes[1].plot(
            [row["epoch"] for row in validated],
            [row["val_dice"] for row in validated],
            "o-",
            ms=3,
            color=colour,
        )
        axes[2].plot(epochs, [row.get("learning_rate") for row in rows], color=colour)
    last = max((row["epoch"] for rows in rows_by_fold.values() for row in rows), default=1)
    for axis, title in zip(axes, ("training loss", "validation Dice", "learning rate"), strict=True):
        axis.set(title=title, xlabel="epoch", ylabel=title, xlim=(0, last + 1))
    axes[1].set_ylim(0, 1)
    axes[2].set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    return png(figure)


def roc_and_precision(
    truth: Ints, probabilities: Floats, folds: Sequence[str], stages: Sequence[str]
) -> bytes:
    """Draw ROC and precision-recall curves, one class against the rest, pooled, with each fold thin behind."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4))
    where = np.asarray(folds)
    for c, stage in enumerate(stages):
        is_class = truth == c
        if not is_class.any() or is_class.all():
            continue
        colour = COLOURS[c % len(COLOURS)]
        for fold in sorted(set(folds)):
            rows = where == fold
            if is_class[rows].any() and not is_class[rows].all():
                _draw_roc(axes, is_class[rows], probabilities[rows, c], colour, None)
        _draw_roc(axes, is_class, probabilities[:, c], colour, stage)
    axes[0].plot([0, 1], [0, 1], ":", color="#999")
    axes[0].set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity")
    axes[1].set(title="precision and recall", xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    axes[0].legend(fontsize=8)
    return png(figure)


def _draw_roc(
    axes: Any, is_class: npt.NDArray[np.bool_], score: Floats, colour: str, label: str | None
) -> None:
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    hits = np.cumsum(is_class[order])[last_of_tie]
    false = np.cumsum(~is_class[order])[last_of_tie]
    style: dict[str, Any] = {"color": colour, "lw": 1.8 if label else 0.6, "alpha": 1.0 if label else 0.45}
    recall = hits / is_class.sum()
    axes[0].plot(np.append(0, false / (~is_class).sum()), np.append(0, recall), label=label, **style)
    axes[1].step(recall, hits / (hits + false), where="post", **style)


def reliability(truth: Ints, models: Mapping[str, Floats], bins: int) -> bytes:
    """Draw accuracy over confidence of the called class, a line a model."""
    figure, axis = plt.subplots(figsize=(4.6, 4.4))
    for number, (name, probabilities) in enumerate(models.items()):
        confidence = probabilities.max(1)
        right = probabilities.argmax(1) == truth
        place = np.minimum((confidence * bins).astype(int), bins - 1)
        there = sorted(set(place.tolist()))
        axis.plot(
            [confidence[place == b].mean() for b in there],
            [right[place == b].mean() for b in there],
            "o-",
            ms=4,
            color=COLOURS[number],
            label=name,
        )
    axis.plot([0, 1], [0, 1], ":", color="#999")
    axis.set(
        title="calibration",
        xlabel="confidence of the call",
        ylabel="share of right calls",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axis.legend(fontsize=8)
    return png(figure)


def confusion(matrix: Sequence[Sequence[int]], stages: Sequence[str]) -> bytes:
    """Draw a confusion matrix with counts."""
    counts = np.asarray(matrix)
    figure, axis = plt.subplots(figsize=(4.4, 4.2))
    axis.imshow(counts, cmap="Blues")
    for row, column in np.ndindex(*counts.shape):
        dark = counts[row, column] > counts.max() / 2
        axis.text(column, row, str(counts[row, column]), ha="center", va="center", color="w" if dark else "k")
    axis.set(title="patients", xlabel="called class", ylabel="true class")
    axis.set_xticks(range(len(stages)), stages)
    axis.set_yticks(range(len(stages)), stages)
    return png(figure)


def dice_by_volume(scores: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw Dice over tumour volume, the model's and the baseline's."""
    figure, axis = plt.subplots(figsize=(5.6, 4.2))
    for number, (name, rows) in enumerate((("model", scores), ("threshold in lung", baseline))):
        axis.plot(
            [max(row["reference_ml"], 1e-2) for row in rows],
            [row["dice"] for row in rows],
            "o" if number == 0 else "x",
            ms=5,
            color=COLOURS[number],
            label=name,
        )
    axis.set(
        title="Dice by tumour volume",
        xlabel="tumour volume, ml",
        ylabel="Dice",
        xscale="log",
        ylim=(-0.02, 1.02),
    )
    axis.legend(fontsize=8)
    return png(figure)


def overlay(
    image: npt.NDArray[Any],
    masks: Mapping[str, npt.NDArray[Any]],
    spacing_mm: tuple[float, float, float],
    *,
    title: str = "",
) -> bytes:
    """Draw three planes of a CT (k, j, i; axes LPS) through the masks' largest sections, with their outlines.

    The patient's right is at the left of the picture, the head on top, as radiologists look. The picture may leave the
    page that explains it: it says itself what it shows, and that it is for research.
    """
    drawn = {name: np.asarray(mask) > 0 for name, mask in masks.items()}
    union = np.zeros(image.shape, dtype=bool)
    for mask in drawn.values():
        union |= mask
    k, j, i = (_busiest(union, axis) for axis in range(3))
    dx, dy, dz = spacing_mm
    planes = (
        (lambda a: a[k], dy / dx, "axial"),
        (lambda a: a[::-1, j], dz / dx, "coronal"),
        (lambda a: a[::-1, :, i], dz / dy, "sagittal"),
    )
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.9))
    for axis, (take, aspect, plane) in zip(axes, planes, strict=True):
        _draw_plane(axis, take(image), {name: take(mask) for name, mask in drawn.items()}, aspect, plane)
    for axis, (at, count, sides) in zip(
        axes,
        ((k, image.shape[0], "RLAP"), (j, image.shape[1], "RLSI"), (i, image.shape[2], "APSI")),
        strict=True,
    ):
        _mark_sides(axis, sides)
        axis.set_title(f"{axis.get_title()}, section {at + 1} of {count}", fontsize=9)
    low, high = CT_WINDOW
    lines = [*([title] if title else []), f"{RESEARCH_ONLY}   window {low:g} to {high:g} HU"]
    figure.suptitle("\n".join(lines), fontsize=9)
    for name in drawn:
        axes[0].plot([], [], color=OUTLINES.get(name, COLOURS[0]), label=name)
    axes[0].legend(fontsize=8, loc="lower left")
    return png(figure)


def _draw_plane(axis: Axes, plane: Any, masks: Mapping[str, Any], aspect: float, title: str) -> None:
    low, high = CT_WINDOW
    axis.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    for name, mask in masks.items():
        if mask.any():
            axis.contour(mask, levels=[0.5], colors=OUTLINES.get(name, COLOURS[0]), linewidths=1.0)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def _mark_sides(axis: Axes, sides: str) -> None:
    """Mark the patient's sides at the left, right, top and bottom edge."""
    for side, (x, y) in zip(sides, ((0.02, 0.5), (0.98, 0.5), (0.5, 0.97), (0.5, 0.03)), strict=True):
        axis.text(x, y, side, transform=axis.transAxes, color="#9fd0ff", fontsize=9, ha="center", va="center")


def _busiest(mask: npt.NDArray[np.bool_], axis: int) -> int:
    """Return the slice with most voxels, the middle one where there are none."""
    counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
    return int(counts.argmax()) if counts.any() else mask.shape[axis] // 2


def png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes, and close it."""
    figure.tight_layout()
    buffer = io.BytesIO()
    # no metadata: the same figures give the same bytes
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()

"""Pictures of refused series: where the slices lie along their normal, so that the reason can be seen.

Belongs here: one picture a refused CT series. Does not: the judging (`dicom.series`), pictures of cases.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ct_assets import files, paths, reasons
from ct_assets.dicom.series import Series, is_series_id
from ct_assets.dicom.uids import Kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAULT_COLOUR = "#c0392b"
GOOD_COLOUR = "#2c6fa6"
PICTURE_INCHES = (11.0, 6.5)
PICTURE_DPI = 90


def write_refused(found: Iterable[Series], folder: Path) -> int:
    """Write `<series_id>.png` for each refused CT series; return how many. Others' pictures are removed."""
    refused = [series for series in found if series.kind is Kind.CT and series.decision == "refuse"]
    wanted = {f"{series.series_id}.png" for series in refused}
    for old in folder.glob("*.png"):
        if old.name not in wanted and is_series_id(old.stem):
            old.unlink()
    for series in refused:
        write_picture(series, paths.below(folder, f"{series.series_id}.png"))
    return len(refused)


def write_picture(series: Series, path: Path) -> None:
    """Draw one series: steps between slices, the slices' drift in their plane, and the reasons in words."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=PICTURE_INCHES, dpi=PICTURE_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    told = "\n".join(f"{code}: {reasons.reason(code).meaning}" for code in series.reasons)
    figure.suptitle(f"{series.series_id}\n{told}", fontsize=9, x=0.01, ha="left")
    places = np.array(
        [one.position_lps_mm for one in series.instances if one.position_lps_mm], dtype=np.float64
    )
    if len(places) == 0:
        axes = figure.subplots()
        axes.text(0.5, 0.5, "no slice tells its position", ha="center", va="center")
        axes.set_axis_off()
    elif series.geometry is None:
        _draw_coordinates(figure.subplots(), places)
    else:
        geometry = series.geometry
        rows = figure.subplots(3, 1, height_ratios=(1.0, 1.6, 1.6))
        normal = np.array(geometry.normal)
        heights = (places - places[0]) @ normal
        _draw_places(rows[0], heights)
        _draw_steps(rows[1], heights, geometry.spacing_mm)
        axes_in_plane = np.array([geometry.row_direction, geometry.column_direction])
        _draw_drift(rows[2], heights, (places - places[0]) @ axes_in_plane.T)
    with files.atomic_path(path) as partial:
        figure.savefig(partial, metadata={"Software": None})


def _draw_places(axes: "Axes", heights: np.ndarray) -> None:
    """Draw a stroke for each slice at its place; slices at one place stand on top of each other."""
    _, place, count = np.unique(np.round(heights, 2), return_inverse=True, return_counts=True)
    is_shared = count[place] > 1
    level = np.zeros(len(heights))
    for at in range(1, len(heights)):
        level[at] = level[at - 1] + 1 if place[at] == place[at - 1] else 0
    axes.scatter(heights, level, marker="|", s=160, c=np.where(is_shared, FAULT_COLOUR, GOOD_COLOUR))
    axes.set_ylim(-1, max(level.max(), 1) + 1)
    axes.set_yticks([])
    axes.set_title(f"{len(heights)} slices along the normal", fontsize=8, loc="left")


def _draw_steps(axes: "Axes", heights: np.ndarray, usual: float) -> None:
    steps = np.diff(heights)
    off = np.abs(steps - usual) > max(0.1 * usual, 0.01)
    axes.vlines(heights[:-1], 0, steps, color=np.where(off, FAULT_COLOUR, GOOD_COLOUR))
    axes.axhline(usual, color="grey", linewidth=0.7)
    axes.set_ylabel("step to the next / mm", fontsize=8)
    axes.set_title(f"usual step {usual:.3f} mm", fontsize=8, loc="left")


def _draw_drift(axes: "Axes", heights: np.ndarray, in_plane: np.ndarray) -> None:
    for values, name, colour in zip(
        in_plane.T, ("along rows", "down columns"), (GOOD_COLOUR, FAULT_COLOUR), strict=True
    ):
        axes.plot(heights, values, ".-", markersize=3, linewidth=0.7, label=name, color=colour)
    axes.set_xlabel("place along the normal / mm", fontsize=8)
    axes.set_ylabel("drift / mm", fontsize=8)
    axes.set_title("drift of the slices in their own plane (a tilt is a slope)", fontsize=8, loc="left")
    axes.legend(fontsize=7)


def _draw_coordinates(axes: "Axes", places: np.ndarray) -> None:
    for values, name in zip(places.T, "xyz", strict=True):
        axes.plot(values, ".-", markersize=3, linewidth=0.7, label=f"{name} / mm")
    axes.set_xlabel("instance, by path")
    axes.set_title("positions as the headers tell them; no common plane was found", fontsize=8, loc="left")
    axes.legend(fontsize=7)

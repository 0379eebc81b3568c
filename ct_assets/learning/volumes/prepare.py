"""From a volume to the grid that a network sees, and back.

Belongs here: orientation, crop and resampling by a plan, for the store and for inference alike. Does not:
normalising (`Plan.intensity`), storing (`learning.volumes.fold_volumes`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ct_assets.imaging import crop, resample
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.volumes.fingerprint import BODY_HU, Histogram
from ct_assets.learning.volumes.plan import Plan


@dataclass(frozen=True)
class Prepared:
    """A volume at a plan's spacing."""

    image: Volume
    """int16 HU, axes LPS, cropped, at the target spacing."""
    box: crop.Box
    """What was kept of the volume in LPS axis order (k, j, i)."""
    cropped_by: crop.Mode
    """The mode that found the box: the plan's, or what it fell back to."""

    def facts(self) -> dict[str, Any]:
        """Return what a store entry notes: the case's own statistics and its crop."""
        everything = Histogram.of(self.image.array.astype(np.int16, copy=False))
        body = everything.above(BODY_HU)
        counted = body if body.total else everything
        return {
            "mean_hu": round(counted.mean(), 4),
            "std_hu": round(max(1.0, counted.std()), 4),
            "box_kji": [[side.start, side.stop] for side in self.box],
            "cropped_by": self.cropped_by,
        }


def image(volume: Volume, plan: Plan) -> Prepared:
    """Prepare an image in HU (any axis order): orient, crop, resample."""
    turned = resample.oriented(volume)
    if turned.array.dtype != np.int16:
        turned = Volume(np.rint(np.clip(turned.array, -32768, 32767)).astype(np.int16), turned.grid)
    box, mode = crop.box(turned, plan.crop.mode, plan.crop.margin_mm)
    kept = crop.cut(turned, box)
    grid = resample.grid_at(kept.grid, plan.target_spacing_mm)
    outside = plan.resampling.outside_hu
    # The box is only a view of what to keep: samples just beyond it are there, and are used.
    resampled = resample.onto(kept, grid, plan.resampling.image_order, outside)
    return Prepared(resampled, box, mode)


def label(volume: Volume, onto: Grid) -> Volume:
    """Prepare a mask (any axis order) for the grid of its prepared image."""
    return resample.labels_onto(volume, onto)


def network_input(prepared: Prepared, plan: Plan) -> npt.NDArray[np.float32]:
    """Return the prepared image as the network takes it: float32 (1, k, j, i)."""
    facts = prepared.facts()
    return plan.intensity.normalise(prepared.image.array, facts["mean_hu"], facts["std_hu"])[None]


def back(mask: npt.NDArray[Any], prepared_grid: Grid, native: Grid) -> Volume:
    """Bring a predicted label map from the prepared grid to the native one; outside the crop it is 0."""
    return resample.labels_onto(Volume(mask, prepared_grid), native)


def back_probability(probability: npt.NDArray[np.float32], prepared_grid: Grid, native: Grid) -> Volume:
    """Bring a map of probabilities from the prepared grid to the native one; outside the crop it is 0."""
    return resample.onto(Volume(probability, prepared_grid), native, 1, 0.0)

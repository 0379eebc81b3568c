"""What part of a CT volume to keep: the body, the lungs, or all of it.

Belongs here: boxes found from the image alone. A mask never decides a box: at inference there is none, and a
box that knew the lesion would tell where to look.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Grid, Volume

Mode = Literal["body", "lung", "none"]
Box = tuple[slice, slice, slice]

BODY_HU = -500
"""Half-way between air and water: the surface of the body."""
LUNG_HU = -400
"""Upper bound of aerated lung (Hu et al., IEEE TMI 20, 2001, find it by an optimal threshold near here)."""
COARSE_MM = 4.0
"""Boxes are found on voxels of about this size."""
LEAST_LUNG_ML = 300.0
"""Less air inside the body than this is no pair of lungs."""
LEAST_PART = 0.05
"""Parts of the lungs smaller than this share of the largest are trachea, bowel or noise."""


def box(volume: Volume, mode: Mode, margin_mm: float) -> tuple[Box, Mode]:
    """Return the box (k, j, i) to keep, and the mode that found it (`lung` falls back to `body`, then `none`).

    `volume` is in HU with axes along the patient's (`imaging.resample.oriented`).
    """
    whole: Box = (
        slice(0, volume.grid.shape[0]),
        slice(0, volume.grid.shape[1]),
        slice(0, volume.grid.shape[2]),
    )
    if mode == "none":
        return whole, "none"
    steps = [max(1, int(COARSE_MM // size)) for size in reversed(volume.grid.spacing_mm)]
    coarse = volume.array[:: steps[0], :: steps[1], :: steps[2]]
    body = _body(coarse)
    if body is None:
        return whole, "none"
    found, by = body, mode
    if mode == "lung":
        voxel_ml = volume.grid.voxel_volume_ml * float(np.prod(steps))
        lungs = _lungs(coarse, body, voxel_ml)
        if lungs is None:
            by = "body"
        else:
            found = lungs
    return _grown(found, steps, volume.grid, margin_mm), by


def cut(volume: Volume, kept: Box) -> Volume:
    """Return the part of the volume inside a box, with its own grid."""
    start = np.array([kept[2].start, kept[1].start, kept[0].start], dtype=np.float64)
    affine = volume.grid.affine_lps.copy()
    affine[:3, 3] = volume.grid.world(start)
    array = volume.array[kept]
    return Volume(array, Grid(array.shape, affine))


def _body(coarse: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    from scipy import ndimage

    solid = coarse > BODY_HU
    numbered, count = ndimage.label(solid)
    if not count:
        return None
    sizes = np.bincount(numbered.ravel())
    sizes[0] = 0
    # Arms, or a leg beside another, are parts of their own: everything of some size belongs to the body.
    return np.isin(numbered, np.flatnonzero(sizes >= LEAST_PART * sizes.max()))


def _lungs(
    coarse: npt.NDArray[Any], body: npt.NDArray[np.bool_], voxel_ml: float
) -> npt.NDArray[np.bool_] | None:
    from scipy import ndimage

    air = coarse < LUNG_HU
    inside = np.stack([ndimage.binary_fill_holes(plane) for plane in body]) & air
    numbered, count = ndimage.label(inside)
    if not count:
        return None
    sizes = np.bincount(numbered.ravel())
    sizes[0] = 0
    lungs = np.isin(numbered, np.flatnonzero(sizes >= LEAST_PART * sizes.max()))
    return lungs if lungs.sum() * voxel_ml >= LEAST_LUNG_ML else None


def _grown(found: npt.NDArray[np.bool_], steps: list[int], grid: Grid, margin_mm: float) -> Box:
    slices = []
    for axis in range(3):
        present = np.flatnonzero(found.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = int(np.ceil(margin_mm / grid.spacing_mm[2 - axis])) + steps[axis] - 1
        low = max(0, int(present[0]) * steps[axis] - margin)
        high = min(grid.shape[axis], int(present[-1]) * steps[axis] + 1 + margin)
        slices.append(slice(low, high))
    return slices[0], slices[1], slices[2]

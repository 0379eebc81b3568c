"""What a network learns from nodules: a heat map of centres, sub-voxel offsets and sizes, on a voxel grid.

Belongs here: from centres and diameters in millimetres to arrays (k, j, i). Does not: patches, losses.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Grid

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

SIGMA_MM = 3.0
TRUNCATE = 3.0
"""The heat of a nodule ends at so many sigmas."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The arrays of one volume or patch."""

    heat: Singles
    """(k, j, i), 0 to 1; exactly 1 at the voxel nearest to every nodule's centre."""
    offset: Singles
    """(3, k, j, i): from the nearest voxel to the centre, in voxels along k, j, i; 0 elsewhere."""
    size_mm: Singles
    """(3, k, j, i): the three diameters at the nearest voxel; 0 elsewhere."""
    is_centre: npt.NDArray[np.bool_]
    """(k, j, i): where offset and size mean something."""
    left_out: tuple[int, ...]
    """Nodules whose centre lies outside the grid."""


def targets(
    grid: Grid,
    centres_lps: Floats,
    diameters_mm: Floats,
    *,
    sigma_mm: float = SIGMA_MM,
    join: Literal["max", "sum"] = "max",
) -> Targets:
    """Return the targets of nodules with `centres_lps` (nodules, 3) and `diameters_mm` (nodules, 3).

    Distances are in millimetres, whatever the grid's spacing. Each nodule's heat is scaled by its own value at its
    nearest voxel, so that a centre between voxels reaches 1 too; several are joined by the largest, or summed and
    limited to 1. Where two centres share a voxel, size and offset are those of the larger.
    """
    heat = np.zeros(grid.shape, dtype=np.float64)
    offset, size = np.zeros((3, *grid.shape), dtype=np.float32), np.zeros((3, *grid.shape), dtype=np.float32)
    is_centre = np.zeros(grid.shape, dtype=bool)
    shape = np.array(grid.shape)
    index = grid.index(np.asarray(centres_lps, dtype=np.float64).reshape(-1, 3))[:, ::-1]
    sizes = np.asarray(diameters_mm, dtype=np.float64).reshape(-1, 3)
    left_out = []
    for number in np.argsort(sizes.max(axis=1, initial=0.0), kind="stable").tolist():
        centre = index[number]
        if not np.isfinite(centre).all() or (np.rint(centre) < 0).any() or (np.rint(centre) >= shape).any():
            left_out.append(number)
            continue
        low, distance = _distances(grid, centre, TRUNCATE * sigma_mm)
        nearest = np.unravel_index(int(distance.argmin()), distance.shape)
        own = np.exp((distance[nearest] ** 2 - distance**2) / (2 * sigma_mm**2))
        own[distance > max(TRUNCATE * sigma_mm, distance[nearest])] = 0.0
        box = tuple(slice(start, start + length) for start, length in zip(low, own.shape, strict=True))
        heat[box] = np.maximum(heat[box], own) if join == "max" else np.minimum(heat[box] + own, 1.0)
        voxel = tuple(int(start + step) for start, step in zip(low, nearest, strict=True))
        k, j, i = voxel
        offset[:, k, j, i] = centre - voxel
        size[:, k, j, i] = sizes[number]
        is_centre[voxel] = True
    return Targets(heat.astype(np.float32), offset, size, is_centre, tuple(sorted(left_out)))


def _distances(grid: Grid, centre_kji: Floats, reach_mm: float) -> tuple[Integers, Floats]:
    """Return the first voxel of a box around a centre, and the distance in mm of each of its voxels."""
    steps = grid.affine_lps[:3, :3][:, ::-1]
    # A ball reaches along an axis as far as the row of the inverse says, also where axes are not orthogonal.
    reach = reach_mm * np.linalg.norm(np.linalg.inv(steps), axis=1) + 1
    low = np.maximum(np.floor(centre_kji - reach), 0).astype(np.int64)
    high = np.minimum(np.ceil(centre_kji + reach) + 1, grid.shape).astype(np.int64)
    axes = [np.arange(start, end) - at for start, end, at in zip(low, high, centre_kji, strict=True)]
    away = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) @ steps.T
    return low, np.linalg.norm(away, axis=-1)

"""From an image as scanned to the grid of tokens: RPI, 1 x 1 x 4 mm, whole tokens.

Belongs here: the slice axis, the target grid, the one resampling. Does not: the interpolation itself
(`imaging.resample`), windows and background (`neuro.prepare`).

RPI is SimpleITK's code: where the axes i, j, k run to, so that the identity direction is LPS and RPI has the
direction diag(-1, 1, -1).
"""

from typing import TypeVar

import numpy as np

from ct_assets.imaging import resample
from ct_assets.imaging.orient import orient
from ct_assets.imaging.volume import Floats, Grid, Volume
from ct_assets.settings.neuro import Mode, PreprocessingSettings
from ct_assets.systems.neuro.tokens import PATCH

ORIENTATION = "RPI"
EQUAL_SPACING = 1e-3
"""Spacings that differ by no more than this share are equal: headers round."""
CT_LIKE_MINIMUM = -200.0
"""An image of unknown modality with lower values is taken for CT in HU; MR values are hardly ever negative."""

Size = TypeVar("Size", int, float)


def slice_axis(spacing_mm: tuple[float, ...], size: tuple[int, ...]) -> int:
    """Return the axis (0, 1, 2 for x, y, z) along which the slices follow each other.

    Equal spacings give axis 2. Else the largest spacing decides; where two axes share it, the one whose size
    occurs once (slices are square more often than not), and if that tells nothing the later axis.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    largest = spacing.max()
    tied = [axis for axis in range(3) if spacing[axis] >= largest * (1 - EQUAL_SPACING)]
    if len(tied) == 3:
        return 2
    if len(tied) > 1:
        alone = [axis for axis in tied if size.count(size[axis]) == 1]
        tied = alone if len(alone) == 1 else tied
    return tied[-1]


def preprocess(volume: Volume, mode: Mode | None, settings: PreprocessingSettings) -> Volume:
    """Return the volume in RPI on the token grid, float32: 4 mm along its slice axis, 1 mm across.

    An axis that is shorter than one token keeps its length. CT is held at air or above before it is
    resampled, so that padding values (-2000 and the like) do not bleed; no value leaves the range of the
    values it is made of.
    """
    turned = orient(volume, ORIENTATION)
    array = turned.array.astype(np.float32)
    is_ct = mode == "ct" or (mode is None and float(array.min()) < CT_LIKE_MINIMUM)
    if is_ct:
        np.maximum(array, np.float32(settings.air_hu), out=array)
    low, high = float(array.min()), float(array.max())
    outside = settings.air_hu if is_ct else low
    moved = resample.onto(Volume(array, turned.grid), token_grid(turned.grid, settings), 3, outside)
    # The interpolation is bounded by its samples; this takes the last rounding error away.
    return Volume(np.clip(moved.array, min(low, outside), high), moved.grid)


def token_grid(grid: Grid, settings: PreprocessingSettings) -> Grid:
    """Return the grid at the target spacing, centred on `grid`, cropped about its centre to whole tokens."""
    size = grid.shape[::-1]
    axis = slice_axis(grid.spacing_mm, size)
    old = np.asarray(grid.spacing_mm)
    new = np.full(3, settings.in_plane_mm)
    new[axis] = settings.slice_mm
    count = np.maximum(1, np.floor(np.asarray(size) * old / new + EQUAL_SPACING)).astype(int)
    token = np.array([PATCH[0] if one == axis else PATCH[1] for one in range(3)])
    whole = np.where(count >= token, count // token * token, count)
    first = (np.asarray(size) - 1) / 2 * old - (count - 1) / 2 * new + (count - whole) // 2 * new
    direction = _right_angled(grid.direction)
    affine = np.eye(4)
    affine[:3, :3] = direction * new
    affine[:3, 3] = _centre(grid) + direction @ (first - (np.asarray(size) - 1) / 2 * old)
    return Grid((int(whole[2]), int(whole[1]), int(whole[0])), affine)


def _centre(grid: Grid) -> Floats:
    return grid.world((np.asarray(grid.shape[::-1]) - 1) / 2)


def _right_angled(direction: Floats) -> Floats:
    """Return the axes at right angles: i and j as they are, k along their normal, where a tilt sheared them."""
    i = direction[:, 0]
    k = np.cross(i, direction[:, 1])
    k *= np.sign(k @ direction[:, 2]) / np.linalg.norm(k)
    j = np.cross(k, i) * np.sign(np.linalg.det(direction))
    return np.stack([i, j, k], axis=1)

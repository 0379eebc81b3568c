"""Corrections of a series' geometry by resampling, done only where a setting asks for them.

Belongs here: taking the shear of a tilted gantry away, and bringing uneven slices to an even step; for
images linearly, for masks to the nearest voxel. Does not: deciding whether (`dicom.series`), resampling to
another spacing (`imaging.resample`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.stack import SliceStack
from ct_assets.imaging.volume import Array, Floats, Grid, Volume

SHEAR = "gantry_tilt"
UNEVEN = frozenset(("uneven_spacing", "missing_slices"))


@dataclass(frozen=True, eq=False)
class Correction:
    """How a stack of slices becomes a regular grid: a shift of each slice, and weights between slices."""

    grid: Grid
    shift_pixels: Floats
    """(slices, 2): where the first pixel of each slice lies in the grid, in steps (i, j)."""
    heights: Floats
    """Place of each output slice among the input slices: 2.25 is a quarter of the way from 2 to 3."""

    def apply(self, array: Array, *, nearest: bool, outside: float) -> Volume:
        """Resample `array` (slice, row, column), linearly or to the nearest voxel; `outside` fills the rest.

        Integers stay integers, rounded to the nearest; the range of values never grows.
        """
        result = np.full(self.grid.shape, outside, dtype=array.dtype)
        for k, height in enumerate(self.heights):
            if nearest:
                result[k] = self._shifted(array, int(np.floor(height + 0.5)), nearest, outside)
                continue
            lower = int(np.floor(height))
            share = float(height - lower)
            plane = self._shifted(array, lower, nearest, outside)
            if share > 0:
                plane = (1 - share) * plane + share * self._shifted(array, lower + 1, nearest, outside)
            result[k] = np.rint(plane) if np.issubdtype(array.dtype, np.integer) else plane
        return Volume(result, self.grid)

    def _shifted(self, array: Array, k: int, nearest: bool, outside: float) -> npt.NDArray:
        """Return slice `k` on the grid's pixels: bilinear, or nearest; `outside` where the slice is not."""
        _, rows, columns = self.grid.shape
        i = np.arange(columns) - self.shift_pixels[k, 0]
        j = np.arange(rows) - self.shift_pixels[k, 1]
        source = array[k]
        if nearest:
            plane = np.full((rows, columns), outside, dtype=array.dtype)
            column, row = np.floor(i + 0.5).astype(int), np.floor(j + 0.5).astype(int)
            use_i = (column >= 0) & (column < source.shape[1])
            use_j = (row >= 0) & (row < source.shape[0])
            plane[np.ix_(use_j, use_i)] = source[np.ix_(row[use_j], column[use_i])]
            return plane
        along_rows = _linear(source.astype(np.float64), j, 0, outside)
        return _linear(along_rows, i, 1, outside)


def plan(stack: SliceStack, affine_lps: Floats, faults: tuple[str, ...], step_mm: float) -> Correction:
    """Plan the correction of `faults`; `affine_lps` is the orthogonal grid through the first slice.

    The output keeps the pixel spacing and, where only the tilt is corrected, every slice's place along the
    normal; it is as large as all shifted slices together. Even slices are laid from the first to the last.
    """
    relative = stack.positions_mm - stack.positions_mm[0]
    in_plane = relative @ stack.to_pixels.T
    shifts = in_plane if SHEAR in faults else np.zeros_like(in_plane)
    shifts[np.abs(shifts) < 1e-6] = 0.0
    least = np.floor(shifts.min(axis=0))
    size = np.ceil(shifts.max(axis=0) - least).astype(int)
    offsets = stack.offsets_mm
    if UNEVEN & set(faults):
        count = int(np.floor(offsets[-1] / step_mm + 1e-6)) + 1
        heights = np.interp(np.arange(count) * step_mm, offsets, np.arange(len(offsets)))
    else:
        heights = np.arange(len(offsets), dtype=np.float64)
    affine = affine_lps.copy()
    affine[:3, 2] = stack.normal * step_mm
    affine[:3, 3] = stack.positions_mm[0] + stack.steps_mm @ least
    shape = (len(heights), stack.rows + int(size[1]), stack.columns + int(size[0]))
    return Correction(Grid(shape, affine), shifts - least, heights)


def _linear(plane: Floats, at: Floats, axis: int, outside: float) -> Floats:
    """Interpolate linearly along `axis` at fractional indices; `outside` beyond the first and last sample."""
    count = plane.shape[axis]
    lower = np.floor(at).astype(int)
    share = at - lower
    inside = (at >= 0) & (at <= count - 1)
    first = np.take(plane, np.clip(lower, 0, count - 1), axis=axis)
    second = np.take(plane, np.clip(lower + 1, 0, count - 1), axis=axis)
    shape = [-1 if dimension == axis else 1 for dimension in range(2)]
    mixed = (1 - share.reshape(shape)) * first + share.reshape(shape) * second
    return np.where(inside.reshape(shape), mixed, outside)

"""A stack of parallel slices, each where its header puts it: the ground that conversion and masks stand on.

Belongs here: positions of slices and pixels before any grid is assumed, and how far a regular grid is from
them. Does not: reading headers (`dicom`), deciding what may be converted (`dicom.series`).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ct_assets.imaging.volume import Floats, Grid


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Parallel slices of one size, in ascending order along their normal; LPS millimetres."""

    positions_mm: Floats
    """(slices, 3): centre of each slice's first pixel, Image Position (Patient) (0020,0032)."""
    along_row: Floats
    """Unit vector of growing column index i, first half of Image Orientation (Patient) (0020,0037)."""
    along_column: Floats
    """Unit vector of growing row index j."""
    pixel_spacing_mm: tuple[float, float]
    """Between rows, between columns, Pixel Spacing (0028,0030)."""
    rows: int
    columns: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.positions_mm), self.rows, self.columns

    @cached_property
    def normal(self) -> Floats:
        """Unit vector from slice to slice: row direction x column direction."""
        return np.cross(self.along_row, self.along_column)

    @cached_property
    def offsets_mm(self) -> Floats:
        """Place of each slice along the normal, from the first one."""
        return (self.positions_mm - self.positions_mm[0]) @ self.normal

    @cached_property
    def steps_mm(self) -> Floats:
        """(3, 2): the steps of i and of j."""
        between_rows, between_columns = self.pixel_spacing_mm
        return np.stack([self.along_row * between_columns, self.along_column * between_rows], axis=1)

    @cached_property
    def to_pixels(self) -> Floats:
        """(2, 3): from a displacement in millimetres to columns and rows (i, j)."""
        return np.asarray(np.linalg.pinv(self.steps_mm), dtype=np.float64)

    def corners(self) -> Floats:
        """Return where the headers put the four corner pixels of every slice, (slices, 4, 3)."""
        i, j = self.columns - 1, self.rows - 1
        pixels = np.array([[0, 0], [i, 0], [0, j], [i, j]], dtype=np.float64)
        return self.positions_mm[:, np.newaxis, :] + (pixels @ self.steps_mm.T)[np.newaxis]

    def distance_from(self, grid: Grid) -> float:
        """Return the largest distance, over all slices' corners, between header and grid in millimetres."""
        i, j = self.columns - 1, self.rows - 1
        pixels = np.array([[0, 0], [i, 0], [0, j], [i, j]], dtype=np.float64)
        slices = np.arange(self.shape[0], dtype=np.float64)
        indices = np.empty((len(slices), 4, 3))
        indices[:, :, :2], indices[:, :, 2] = pixels[np.newaxis], slices[:, np.newaxis]
        return float(np.linalg.norm(grid.world(indices) - self.corners(), axis=-1).max())

    def nearest_slice(self, offset_mm: float) -> tuple[int, float]:
        """Return the slice next to a place along the normal, and how far it is."""
        offsets = self.offsets_mm
        k = int(np.abs(offsets - offset_mm).argmin())
        return k, float(abs(offsets[k] - offset_mm))

    def half_step_mm(self, k: int, offset_mm: float) -> float:
        """Return half the step from slice `k` towards `offset_mm`; beyond the ends the step inside counts."""
        offsets = self.offsets_mm
        if len(offsets) == 1:
            return 0.0
        towards = k + 1 if offset_mm >= offsets[k] else k - 1
        if not 0 <= towards < len(offsets):
            towards = k - 1 if towards > k else k + 1
        return float(abs(offsets[towards] - offsets[k])) / 2

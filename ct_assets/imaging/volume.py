"""Voxel grids and volumes: where an array lies in the patient.

Belongs here: shape, spacing, origin, direction and the algebra between them. Does not: reading DICOM or
NIfTI (`imaging.convert`, `imaging.nifti`), resampling (`imaging.resample`).

World coordinates are DICOM patient coordinates, LPS in millimetres (PS3.3 C.7.6.2.1.1); `to_ras` and
`from_ras` are the one place that flips to the RAS of NIfTI. Arrays are indexed (slice k, row j, column i);
affines map index vectors (i, j, k), so that their columns are the steps along a row, down a column, and
from slice to slice.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def to_ras(affine_lps: Floats) -> Floats:
    """Turn an affine into LPS millimetres into one into RAS millimetres."""
    return LPS_TO_RAS @ affine_lps


def from_ras(affine_ras: Floats) -> Floats:
    """Turn an affine into RAS millimetres into one into LPS millimetres."""
    return LPS_TO_RAS @ affine_ras


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular voxel grid in the patient; axes need not be orthogonal, but must span space."""

    shape: tuple[int, int, int]
    """Slices, rows, columns: the shape of the array."""
    affine_lps: Floats
    """4 x 4, from (i, j, k, 1) to LPS millimetres."""

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine_lps, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"affine_lps must be a finite 4 x 4 matrix, got shape {affine.shape}")
        if min(self.shape) < 1 or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise ValueError(f"a grid needs voxels and volume, got shape {self.shape} and {affine[:3, :3]}")
        object.__setattr__(self, "affine_lps", affine)

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float, float],
        origin_lps_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
        direction: Floats | None = None,
    ) -> Self:
        """Build a grid; `shape` is (k, j, i), `spacing_mm` (x, y, z) as steps along i, j, k.

        `direction` is 3 x 3 with the unit vectors of i, j, k as columns; by default the patient's axes.
        """
        affine = np.eye(4)
        affine[:3, :3] = (np.eye(3) if direction is None else direction) * np.asarray(spacing_mm)
        affine[:3, 3] = origin_lps_mm
        return cls(shape, affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Steps along i, j and k in millimetres (x, y, z order, as ITK and NIfTI have it)."""
        i, j, k = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def origin_lps_mm(self) -> tuple[float, float, float]:
        """Centre of voxel (0, 0, 0)."""
        x, y, z = self.affine_lps[:3, 3]
        return float(x), float(y), float(z)

    @property
    def direction(self) -> Floats:
        """Unit vectors of i, j, k as columns."""
        return self.affine_lps[:3, :3] / np.asarray(self.spacing_mm)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel."""
        return float(abs(np.linalg.det(self.affine_lps[:3, :3]))) / 1000.0

    def world(self, indices_ijk: Floats) -> Floats:
        """Return LPS positions of index vectors; `indices_ijk` is (..., 3)."""
        return np.asarray(indices_ijk) @ self.affine_lps[:3, :3].T + self.affine_lps[:3, 3]

    def index(self, points_lps: Floats) -> Floats:
        """Return continuous index vectors (i, j, k) of LPS positions; `points_lps` is (..., 3)."""
        inverse = np.linalg.inv(self.affine_lps)
        return np.asarray(points_lps) @ inverse[:3, :3].T + inverse[:3, 3]

    def corners(self) -> Floats:
        """Return the LPS centres of the eight corner voxels, (8, 3)."""
        k, j, i = (np.array([0, size - 1]) for size in self.shape)
        return self.world(np.stack(np.meshgrid(i, j, k, indexing="ij"), axis=-1).reshape(-1, 3))

    def same_as(self, other: "Grid", tolerance_mm: float = 0.01) -> bool:
        """Tell whether every corner voxel lies where the other grid's does."""
        return self.shape == other.shape and bool(
            np.abs(self.corners() - other.corners()).max() <= tolerance_mm
        )


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels on a grid: an image in HU, or a label map."""

    array: Array
    """Indexed (slice k, row j, column i)."""
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise ValueError(f"array {self.array.shape} does not fit grid {self.grid.shape}")

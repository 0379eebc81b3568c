"""Moving images, masks, points and boxes by one transform of the patient's space.

Belongs here: affine transforms of LPS millimetres and what they do to things that lie in the patient. Does not:
finding a transform (registration), resampling itself (`imaging.resample`).

A transform takes places to places: a point moves forward, and an image moves with its anatomy, so that what was at a
place is found at the transformed place.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.imaging import resample
from ct_assets.imaging.resample import AIR_HU, Order
from ct_assets.imaging.volume import Floats, Grid, Volume


@dataclass(frozen=True)
class Box:
    """A box along the patient's axes, LPS millimetres."""

    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]

    def corners(self) -> Floats:
        """Return the eight corners, (8, 3)."""
        ends = (np.array(pair) for pair in zip(self.low_mm, self.high_mm, strict=True))
        return np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)

    @classmethod
    def around(cls, points_lps: npt.ArrayLike) -> "Box":
        """Return the smallest box that holds all points (n, 3)."""
        points = np.asarray(points_lps, dtype=np.float64)
        low, high = points.min(axis=0), points.max(axis=0)
        return cls((low[0], low[1], low[2]), (high[0], high[1], high[2]))

    @classmethod
    def of_mask(cls, mask: Volume) -> "Box | None":
        """Return the box of all marked voxels, from edge to edge; None where nothing is marked."""
        marked = np.argwhere(mask.array)[:, ::-1]
        if not len(marked):
            return None
        low, high = marked.min(axis=0) - 0.5, marked.max(axis=0) + 0.5
        ends = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)
        return cls.around(mask.grid.world(ends))

    def overlap(self, other: "Box") -> float:
        """Return intersection over union."""
        low = np.maximum(self.low_mm, other.low_mm)
        high = np.minimum(self.high_mm, other.high_mm)
        both = float(np.prod(np.maximum(high - low, 0)))
        whole = [float(np.prod(np.subtract(one.high_mm, one.low_mm))) for one in (self, other)]
        return both / (sum(whole) - both)


@dataclass(frozen=True, eq=False)
class AffineTransform:
    """An affine transform of LPS millimetres."""

    matrix: Floats
    """4 x 4, from a place to where it goes."""

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4) or abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
            raise ValueError(f"an invertible 4 x 4 matrix is needed, got {matrix.tolist()}")
        object.__setattr__(self, "matrix", matrix)

    def inverse(self) -> "AffineTransform":
        """Return the transform back."""
        return AffineTransform(np.linalg.inv(self.matrix).astype(np.float64))

    def points(self, points_lps: npt.ArrayLike) -> Floats:
        """Return where points (..., 3) go."""
        return np.asarray(points_lps, dtype=np.float64) @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def image(self, volume: Volume, onto: Grid, order: Order = 1, outside: float = AIR_HU) -> Volume:
        """Return the moved image on a grid; where nothing came from there is `outside`."""
        return resample.onto(self._moved(volume), onto, order, outside)

    def mask(self, mask: Volume, onto: Grid) -> Volume:
        """Return the moved label map on a grid."""
        return resample.labels_onto(self._moved(mask), onto)

    def box(self, box: Box) -> Box:
        """Return the box around the eight moved corners: never smaller than what it held."""
        return Box.around(self.points(box.corners()))

    def box_by_mask(self, box: Box, onto: Grid) -> Box | None:
        """Return the box of what `box` fills after the move, voxel by voxel; closer than `box` where axes turn.

        `onto` must hold the moved box, and its voxels set the precision; None where nothing of it is on the grid.
        """
        k, j, i = np.meshgrid(*(np.arange(size) for size in onto.shape), indexing="ij")
        came_from = self.inverse().points(onto.world(np.stack([i, j, k], axis=-1)))
        within = (came_from >= box.low_mm) & (came_from <= box.high_mm)
        inside: npt.NDArray[np.bool_] = np.logical_and.reduce(within, axis=-1)
        return Box.of_mask(Volume(inside, onto))

    def _moved(self, volume: Volume) -> Volume:
        return Volume(volume.array, Grid(volume.grid.shape, self.matrix @ volume.grid.affine_lps))

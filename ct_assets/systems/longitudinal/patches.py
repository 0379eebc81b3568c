"""Crops of nodules on two exams in one space, by default 128 x 128 x 32 voxels, kept in the shared store.

Belongs here: where a crop lies, its values, and its key. Does not: bringing images to one space (`registrations`).
A crop is stored as HU (int16) and scaled when it is read, so that one entry serves every window.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ct_assets.imaging import windows
from ct_assets.imaging.resample import AIR_HU
from ct_assets.imaging.store import Store, key_of
from ct_assets.imaging.volume import Floats, Grid, Volume

Mode = Literal["common", "centred"]
Index = tuple[int, int, int]

SHAPE = (32, 128, 128)
"""Slices, rows, columns. The centre is at voxel (16, 64, 64); of any shape at half of each side."""
SPACING_MM = (0.703125, 0.703125, 2.5)
"""Steps along x, y, z of the space that all exams of a patient are brought to."""
WINDOW = "generative"


@dataclass(frozen=True)
class VoxelBox:
    """A box of voxels, both ends included: (i, j, k) of column, row and slice."""

    low: Index
    high: Index

    def __post_init__(self) -> None:
        """Raise `ValueError` for an end below its start."""
        if any(b < a for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"a box must not end before it starts, got {self.low} to {self.high}")

    def union(self, other: "VoxelBox") -> "VoxelBox":
        """Return the smallest box that holds both."""
        low, high = np.minimum(self.low, other.low).tolist(), np.maximum(self.high, other.high).tolist()
        return VoxelBox((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def starts(
    first: VoxelBox, second: VoxelBox, mode: Mode = "common", shape: Index = SHAPE
) -> tuple[Index, Index]:
    """Return where (k, j, i) the crops of both exams begin.

    `common`: one place for both, around the union of the boxes, so that registration stays visible; `centred`: each
    around its own box. Of two middle voxels the upper one is the centre.
    """
    if mode == "common":
        place = _start(first.union(second), shape)
        return place, place
    return _start(first, shape), _start(second, shape)


def cut(volume: Volume, start: Index, shape: Index = SHAPE) -> Volume:
    """Return the crop as HU, air beyond the image, with its place in the patient."""
    array = np.full(shape, AIR_HU, np.int16)
    source, target = [], []
    for low, size, whole in zip(start, shape, volume.grid.shape, strict=True):
        first, last = min(max(0, low), whole), min(max(0, low + size), whole)
        source.append(slice(first, last))
        target.append(slice(first - low, last - low))
    values = volume.array[tuple(source)]
    array[tuple(target)] = np.clip(np.rint(values), -32768, 32767)
    affine: Floats = volume.grid.affine_lps.copy()
    affine[:3, 3] = volume.grid.world(np.array(start[::-1], np.float64))
    return Volume(array, Grid(shape, affine))


def within(box: VoxelBox, start: Index, shape: Index = SHAPE) -> tuple[VoxelBox, bool]:
    """Return a box in the crop's voxels, cut off at its edges, and whether something was; a box outside has one voxel."""
    offset, last = np.array(start[::-1]), np.array(shape[::-1]) - 1
    low, high = np.array(box.low) - offset, np.array(box.high) - offset
    inside = [np.clip(end, 0, last) for end in (low, high)]
    (a, b, c), (d, e, f) = (end.tolist() for end in inside)
    return VoxelBox((a, b, c), (d, e, f)), bool((inside[0] != low).any() or (inside[1] != high).any())


def key(nodule_group: str, exam: str, exam_idx: int, mode: Mode, source: Any, shape: Index = SHAPE) -> str:
    """Return the key of a crop; `source` describes the image it is cut from and its transform (JSON values)."""
    return key_of("nodule patch", nodule_group, exam, exam_idx, mode, list(shape), source)


def read(store: Store, name: str, window: str = WINDOW) -> npt.NDArray[np.float32]:
    """Return a crop scaled to -1 … 1 by a window of the registry, (1, slices, rows, columns)."""
    scaled: npt.NDArray[np.float32] = 2 * windows.window(window).linear(store.open(name).array()) - 1
    return scaled[None]


def _start(box: VoxelBox, shape: Index) -> Index:
    centre = [(low + high + 1) // 2 for low, high in zip(box.low, box.high, strict=True)]
    k, j, i = (middle - size // 2 for middle, size in zip(centre[::-1], shape, strict=True))
    return k, j, i

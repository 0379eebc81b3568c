"""A scan on the network's grid: oriented, cut to the lungs, resampled, and kept in the shared store.

Belongs here: the grid on which a nodule network sees a chest, and images that are read in pieces. Does not: annotations
(`scans`), windows (`patches`).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.resample import grid_at, onto, oriented
from ct_assets.imaging.store import Store, Stored
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.systems.nodules import lungs

AIR_HU = -1000
LOWEST_HU, HIGHEST_HU = -1024, 3071
MARGIN_MM = 10.0
"""So much around the lungs is kept: nodules at the wall need something to be seen against."""
OPEN_VOLUMES = 64
"""Entries that stay open; they are mapped, not loaded."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A chest as the network sees it."""

    image: Volume
    """HU on an isotropic grid along the patient's axes closest to the scan's, cut to the lungs."""
    lungs: npt.NDArray[np.bool_] | None
    """The lung mask on that grid; null where none was found, and then nothing was cut."""


def prepare(volume: Volume, spacing_mm: float) -> Prepared:
    """Return a chest CT in HU on the network's grid. What is no number is air."""
    turned = oriented(volume)
    if np.issubdtype(turned.array.dtype, np.floating):
        finite = np.nan_to_num(turned.array, nan=AIR_HU, posinf=HIGHEST_HU, neginf=LOWEST_HU)
        turned = Volume(np.rint(np.clip(finite, LOWEST_HU, HIGHEST_HU)).astype(np.int16), turned.grid)
    found = lungs.segment(turned)
    mask = None
    if found is not None:
        box = _box(found.mask, turned.grid)
        turned, mask = _cut(turned, box), _cut(Volume(found.mask.astype(np.uint8), turned.grid), box)
    fine = onto(turned, grid_at(turned.grid, (spacing_mm,) * 3))
    inside = None if mask is None else np.asarray(onto(mask, fine.grid, order=0, outside=0).array, dtype=bool)
    return Prepared(fine, inside)


def _box(mask: npt.NDArray[np.bool_], grid: Grid) -> tuple[slice, slice, slice]:
    slices = []
    for axis, (size, step) in enumerate(zip(mask.shape, grid.spacing_mm[::-1], strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        at, margin = np.flatnonzero(mask.any(axis=others)), int(np.ceil(MARGIN_MM / step))
        slices.append(slice(max(int(at[0]) - margin, 0), min(int(at[-1]) + margin + 1, size)))
    k, j, i = slices
    return k, j, i


def _cut(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    affine = volume.grid.affine_lps.copy()
    affine[:3, 3] = volume.grid.world(np.array([part.start for part in box[::-1]], dtype=np.float64))
    array = volume.array[box]
    return Volume(array, Grid((array.shape[0], array.shape[1], array.shape[2]), affine))


@dataclass(frozen=True, eq=False)
class StoredImage:
    """A volume of the store, opened where it is read: loader processes are given its name, not its voxels."""

    root: Path
    """The store's folder."""
    key: str
    grid: Grid

    @classmethod
    def open(cls, root: Path, key: str) -> "StoredImage":
        """Open an entry. Raises `MissingEntryError` or `DamagedEntryError`."""
        return cls(root, key, _entry(root, key).grid)

    def volume(self) -> Volume:
        """Return the whole volume."""
        return _entry(self.root, self.key).volume()

    def read(
        self, start: tuple[int, int, int], side: tuple[int, int, int], outside: int
    ) -> npt.NDArray[np.generic]:
        """Return the box of `side` from `start` (k, j, i); beyond the volume lies `outside`."""
        return _entry(self.root, self.key).read(start, side, outside)


@lru_cache(maxsize=OPEN_VOLUMES)
def _entry(root: Path, key: str) -> Stored:
    return Store(root).open(key)


Image = Volume | StoredImage


def whole(image: Image) -> Volume:
    """Return an image as a volume."""
    return image if isinstance(image, Volume) else image.volume()


def read(
    image: Image, start: tuple[int, int, int], side: tuple[int, int, int], outside: int
) -> npt.NDArray[np.generic]:
    """Return a box of an image; `start` is not negative, and beyond the volume lies `outside`."""
    if isinstance(image, StoredImage):
        return image.read(start, side, outside)
    part = image.array[tuple(slice(low, low + size) for low, size in zip(start, side, strict=True))]
    missing = [(0, size - here) for size, here in zip(side, part.shape, strict=True)]
    return np.pad(part, missing, constant_values=outside)


def stored(image: Image, inside: Image | None) -> Prepared:
    """Return what `prepare` returned, from an image and the lung mask beside it."""
    return Prepared(whole(image), None if inside is None else np.asarray(whole(inside).array, dtype=bool))

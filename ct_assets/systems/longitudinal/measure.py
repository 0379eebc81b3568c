"""The volume of a nodule in a crop, measured the same way in real and in predicted crops.

Belongs here: finding the nodule near the expected place, its volume, its mask. Does not: comparing volumes (`evaluate`).

The volume is the sum of densities above the lung around it, over a contrast that belongs to the nodule: the one with
which its earlier exam has the tracked volume. Partial volume at the edge counts by its share, so that a change of a
quarter of 4 mm nodules is seen at voxels of 1.5 mm; a count of voxels above half height is 12 to 17 % off there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LUNG_BELOW_HU = -600.0
LUNG_HU = -860.0
"""Background where a crop shows no lung."""
ABOVE_HU = 150.0
"""A voxel belongs to something solid from so far above the lung."""
REACH_MM = 10.0
"""The nodule is the part nearest the expected place, within this."""
GROWN = 2.0
"""A nodule is looked for in its earlier box, widened to so many times its sides: what else it touches does not count."""
LEAST_SIDE_MM = 8.0
"""Of that widened box."""


@dataclass(frozen=True)
class Contrast:
    """Densities of a nodule and the lung around it, from its earlier exam."""

    lung_hu: float
    nodule_hu: float


@dataclass(frozen=True, eq=False)
class Measured:
    """A nodule in a crop."""

    volume_mm3: float
    mask: Mask
    """Voxels of which at least half is nodule."""


def contrast_of(
    earlier_hu: npt.ArrayLike, box: Sequence[int], spacing_mm: tuple[float, float, float], volume_mm3: float
) -> Contrast | None:
    """Return the contrast with which the earlier crop has its tracked volume; None where it shows no nodule."""
    crop = np.asarray(earlier_hu, np.float32)
    lung = crop[crop < LUNG_BELOW_HU]
    background = float(np.median(lung)) if lung.size else LUNG_HU
    region = _region(crop, box, spacing_mm, background)
    if region is None:
        return None
    mass = float((crop - background)[region].sum()) * float(np.prod(spacing_mm))
    return Contrast(background, background + mass / volume_mm3) if mass > 0 else None


def measure(
    crop_hu: npt.ArrayLike,
    box: Sequence[int],
    spacing_mm: tuple[float, float, float],
    contrast: Contrast,
) -> Measured | None:
    """Measure a nodule in a crop in HU; None where nothing solid is within `REACH_MM` of its earlier box.

    `box` is the earlier one, inclusive voxels (i, j, k low, i, j, k high): where the later one lies is not looked up.
    """
    crop = np.asarray(crop_hu, np.float32)
    region = _region(crop, box, spacing_mm, contrast.lung_hu)
    if region is None:
        return None
    above = np.where(region, crop - contrast.lung_hu, 0.0)
    height = contrast.nodule_hu - contrast.lung_hu
    volume = max(0.0, float(above.sum()) / height * float(np.prod(spacing_mm)))
    return Measured(volume, np.asarray(region & (above > height / 2)))


def _region(
    crop: Floats32, box: Sequence[int], spacing_mm: tuple[float, float, float], background: float
) -> Mask | None:
    """Return the nodule's voxels and the layer around them; None where there is nothing solid near the box."""
    from scipy import ndimage

    steps = np.array(spacing_mm[::-1])
    low, high = np.array(box[:3])[::-1], np.array(box[3:])[::-1]
    centre = (low + high) / 2
    half = np.maximum((high - low + 1) * GROWN, LEAST_SIDE_MM * GROWN / steps) / 2
    first = np.maximum(0, np.floor(centre - half)).astype(int)
    last = np.minimum(crop.shape, np.ceil(centre + half) + 1).astype(int)
    near = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    solid = np.zeros(crop.shape, bool)
    solid[near] = ndimage.gaussian_filter(crop, 0.5)[near] > background + ABOVE_HU
    numbered, count = ndimage.label(solid)
    if not count:
        return None
    voxels = np.argwhere(solid)
    distance = np.linalg.norm((voxels - centre) * steps, axis=1)
    nearest = int(distance.argmin())
    if distance[nearest] > REACH_MM:
        return None
    core = numbered == numbered[tuple(voxels[nearest])]
    region: Mask = ndimage.binary_dilation(core) & (core | (numbered == 0))
    return region


def dice(first: Mask, second: Mask) -> float | None:
    """Return the Dice coefficient of two masks; null where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return None if total == 0 else 2 * int((first & second).sum()) / total

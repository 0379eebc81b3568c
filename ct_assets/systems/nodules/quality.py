"""Whether a CT volume is complete enough to look for nodules in it, and whether its annotations lie within it.

Belongs here: checks of one volume and its annotations, each with a reason code. Does not: geometry of DICOM series
(`dicom.series`), tables.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Grid, Volume

Floats = npt.NDArray[np.float64]

LEAST_SIZE = 32
SPACING_MM = (0.1, 10.0)
AIR_HU, BONE_HU = -900.0, 200.0
"""A chest in HU holds air around these lowest, and bone from these highest values."""
LOWEST_HU, HIGHEST_HU = -4096.0, 32767.0
SATURATED_SHARE = 0.01
"""More voxels than this at the highest value, above bone, mean that values were cut off."""


@dataclass(frozen=True)
class Quality:
    """What is wrong with a volume: refusals end its use, warnings do not."""

    refusals: tuple[str, ...]
    warnings: tuple[str, ...]


def of_volume(volume: Volume) -> Quality:
    """Return the reason codes of a volume in HU, before resampling."""
    array = np.asarray(volume.array)
    refusals: list[str] = []
    warnings: list[str] = []
    if min(array.shape) < LEAST_SIZE:
        refusals.append("volume_too_small")
    low, high = SPACING_MM
    if not all(low <= step <= high for step in volume.grid.spacing_mm):
        refusals.append("spacing_out_of_range")
    least, most = (np.asarray(reduced(array, axis=(1, 2)), dtype=np.float64) for reduced in (np.min, np.max))
    # NaN and infinity pass through minimum and maximum.
    if not (np.isfinite(least) & np.isfinite(most)).all():
        return Quality((*refusals, "values_not_finite"), ())
    if least.min() < LOWEST_HU or most.max() > HIGHEST_HU or least.min() > AIR_HU or most.max() < BONE_HU:
        refusals.append("hu_range_implausible")
    if (least == most).any():
        warnings.append("empty_slices")
    if most.max() > BONE_HU and (array == most.max()).mean() > SATURATED_SHARE:
        warnings.append("values_cut_off")
    return Quality(tuple(refusals), tuple(warnings))


def outside(grid: Grid, centres_lps: Floats) -> npt.NDArray[np.bool_]:
    """Return which annotations lie outside a volume: beyond half a voxel from its outer voxels' centres."""
    index = grid.index(np.asarray(centres_lps, dtype=np.float64).reshape(-1, 3))
    size = np.array(grid.shape[::-1])
    within = np.isfinite(index).all(axis=1) & (index >= -0.5).all(axis=1) & (index < size - 0.5).all(axis=1)
    return np.asarray(~within)

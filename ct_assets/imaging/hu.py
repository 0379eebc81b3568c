"""Hounsfield units from stored values, exactly.

Belongs here: rescaling (PS3.3 C.11.1), the choice of the voxel type, padding values. Does not: decoding
(`dicom.pixels`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

INT16 = np.iinfo(np.int16)
LARGEST_EXACT_FLOAT32 = 1 << 24


@dataclass(frozen=True, slots=True)
class Rescale:
    """Rescale Slope (0028,1053) and Intercept (0028,1052) of one slice: HU = slope x stored + intercept."""

    slope: float
    intercept: float

    @property
    def is_integer(self) -> bool:
        """Whether every stored integer becomes an integer."""
        return float(self.slope).is_integer() and float(self.intercept).is_integer()


def range_after(stored: npt.NDArray, rescale: Rescale) -> tuple[float, float]:
    """Return the smallest and largest HU that the stored values give."""
    ends = (
        float(stored.min()) * rescale.slope + rescale.intercept,
        float(stored.max()) * rescale.slope + rescale.intercept,
    )
    return min(ends), max(ends)


def fits_int16(stored: npt.NDArray, rescale: Rescale) -> bool:
    """Tell whether all values become integers within int16, so that nothing is rounded or wrapped."""
    if not rescale.is_integer:
        return False
    low, high = range_after(stored, rescale)
    return low >= INT16.min and high <= INT16.max


def rescale_into(out: npt.NDArray, stored: npt.NDArray, rescale: Rescale) -> None:
    """Write the HU of one slice into `out` (int16 where `fits_int16`, else float32), same shape.

    Integers are computed as integers; for float32 the product is formed in double precision and rounded
    once.
    """
    if out.dtype == np.int16 and rescale.slope == 1.0:
        if stored.dtype in (np.int16, np.uint16):
            # Addition modulo 2^16 is exact whenever the result fits, which the caller has made sure of.
            np.add(stored.view(np.int16), np.int16(_wrapped(rescale.intercept)), out=out)
        else:
            out[...] = stored.astype(np.int64) + int(rescale.intercept)
    elif out.dtype == np.int16:
        out[...] = stored.astype(np.int64) * int(rescale.slope) + int(rescale.intercept)
    else:
        out[...] = stored.astype(np.float64) * rescale.slope + rescale.intercept


def _wrapped(value: float) -> int:
    return (int(value) + 0x8000) % 0x10000 - 0x8000

"""What the values of an image without DICOM headers prove: Hounsfield units, and whole labels.

Belongs here: the checks of CT images and label maps that come as NIfTI, MetaImage or NRRD. Does not: reading files
(`imaging.nifti_read`), rescaling of DICOM (`imaging.hu`).

No header of these formats says that a value is a Hounsfield unit. Values that cannot be HU are refused by name;
values that may be are used, and a warning says what is not proven.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ct_assets.imaging import nifti_read
from ct_assets.imaging.nifti_read import NiftiImage, NiftiRefused
from ct_assets.imaging.volume import Volume

NORMALISED_RANGE = 20.0
"""Noise alone spreads the HU of any CT further; images scaled to 0..1, -1..1 or to unit variance lie within."""
EIGHT_BITS = 255
AIR_BELOW_HU = -200
"""Air and lung lie below, no tissue does: an image with such values is on the HU scale."""
LABEL_ROUNDING = 0.001
"""A label may be so far from a whole number: single precision and scaled storage, not interpolation."""
EXACT_LABEL = 1e-5
"""What single precision explains without a warning."""
MOST_LABELS = 255


def read_ct(path: Path, *, not_finite: Literal["refuse", "air"] = "refuse") -> NiftiImage:
    """Read a NIfTI file as a CT in HU, with the warnings of its header and its values.

    Raises `NiftiRefused` for what is no 3-D image, no CT's extent, one slice, or certainly not in HU; `OSError`.
    """
    image = nifti_read.read(path)
    nifti_read.check_extent(image.volume.grid)
    if min(image.volume.grid.shape) < 2:
        raise NiftiRefused(
            "single_slice", f"its shape is {image.volume.grid.shape[::-1]}: one slice is no volume"
        )
    volume, warnings = as_hu(image.volume, not_finite=not_finite)
    return NiftiImage(volume, (*image.warnings, *warnings))


def as_hu(
    volume: Volume, *, not_finite: Literal["refuse", "air"] = "refuse", air_hu: float = -1000.0
) -> tuple[Volume, tuple[str, ...]]:
    """Return the volume and warnings of what its values do not prove; voxels that are no number become air if asked.

    Raises `NiftiRefused` where the values are certainly no HU: all alike, or within a range narrower than noise.
    """
    array, warnings = volume.array, []
    if np.issubdtype(array.dtype, np.floating):
        finite = np.isfinite(array)
        if not finite.all():
            share = 1 - np.count_nonzero(finite) / array.size
            if not_finite == "refuse" or not finite.any():
                raise NiftiRefused("image_not_finite", f"{share:.2%} of its voxels are NaN or infinite")
            warnings.append("non_finite_voxels")
            array = np.where(finite, array, array.dtype.type(air_hu))
            known = array[finite]
            low, high = float(known.min()), float(known.max())
            volume = Volume(array, volume.grid)
        else:
            low, high = float(array.min()), float(array.max())
    else:
        low, high = float(array.min()), float(array.max())
    if low == high:
        raise NiftiRefused("image_constant", "all its voxels have one value")
    if high - low <= NORMALISED_RANGE:
        raise NiftiRefused("image_normalised", f"its values lie between {low:g} and {high:g}: they are no HU")
    if low >= 0 and high <= EIGHT_BITS:
        warnings.append("values_of_8_bits")
    elif low >= AIR_BELOW_HU:
        warnings.append("no_air_in_ct")
    return volume, tuple(warnings)


def read_labels(path: Path) -> NiftiImage:
    """Read a NIfTI file as a label map, whole numbers from 0 to 255, with the warnings of its header and its values.

    Raises `NiftiRefused` for what is no 3-D image or no label map; `OSError`.
    """
    image = nifti_read.read(path)
    labels, warnings = as_labels(image.volume.array)
    return NiftiImage(Volume(labels, image.volume.grid), (*image.warnings, *warnings))


def as_labels(array: npt.NDArray) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Return a label map as whole numbers from 0 to 255, and the warning `label_rounded` where that changed values.

    Values within `LABEL_ROUNDING` of a whole number are rounded. Raises `NiftiRefused` for others.
    """
    warnings: tuple[str, ...] = ()
    if not np.issubdtype(array.dtype, np.integer) and array.dtype != np.bool_:
        if not np.isfinite(array).all():
            raise NiftiRefused("label_not_integer", "some voxels of the mask are NaN or infinite")
        whole = np.rint(array)
        error = float(np.abs(array - whole).max(initial=0.0))
        if error > LABEL_ROUNDING:
            raise NiftiRefused(
                "label_not_integer", f"a value of the mask is {error:.3g} away from a whole number"
            )
        if error > EXACT_LABEL:
            warnings = ("label_rounded",)
        array = whole
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if low < 0 or high > MOST_LABELS:
        raise NiftiRefused(
            "label_out_of_range", f"its values lie between {low:g} and {high:g}, not 0 to {MOST_LABELS}"
        )
    return array.astype(np.uint8), warnings

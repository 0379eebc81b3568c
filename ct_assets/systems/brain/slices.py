"""One slice of head CT: from a DICOM file, or a plane of a volume, to Hounsfield units as the model sees them.

Belongs here: reading one file, what makes it unusable, the floor of low values, turning it upright. Does
not: cropping and windows (`brain.preprocess`), whole folders (`brain.features`).
"""

import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ct_assets.dicom.pixels import FrameReader, PixelError, PixelFormat
from ct_assets.imaging import hu as hounsfield
from ct_assets.imaging.hu import Rescale

Floats = npt.NDArray[np.float32]

FLOOR_HU = -1024.0
"""What the darkest pixels become: air, padding and the corners outside the reconstruction circle."""
FLOOR_PERCENTILE = 1.0
AIR_BELOW_HU = -500.0
"""A slice of a head has air around it; without any darker pixel its values are no Hounsfield units."""
LEAST_SIDE = 16
OBLIQUE_DEG = 1.0
"""Planes tilted by more than this are named; rounding of direction cosines stays below."""
AXIAL_WITHIN_DEG = 45.0


class SliceRefusedError(Exception):
    """A slice that cannot be used; `code` is one of `ct_assets.reasons`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, eq=False)
class Slice:
    """A usable slice."""

    hu: Floats
    """(rows, columns), the floor applied, as stored."""
    stored: npt.NDArray[Any]
    """The same before the rescale."""
    orientation: tuple[float, ...] | None
    """ImageOrientationPatient: directions of a row and of a column."""
    warnings: tuple[str, ...]
    header: Dataset
    """Without pixels."""


def read(path: Path) -> Slice:
    """Read one single-slice DICOM file. Raises `SliceRefusedError` with the reason."""
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, EOFError):
        raise SliceRefusedError("no_dicom_file") from None
    except Exception:
        # Whatever a broken header raises in the reader, it is one slice with a code.
        raise SliceRefusedError("unreadable_header") from None
    try:
        return _of(path, header)
    except PixelError as error:
        raise SliceRefusedError(error.code) from None
    except SliceRefusedError:
        raise
    except Exception:
        raise SliceRefusedError("pixel_data_unreadable") from None


def _of(path: Path, header: Dataset) -> Slice:
    if str(header.get("Modality", "CT")) != "CT":
        raise SliceRefusedError("slice_not_ct")
    if "LOCALIZER" in [str(part).upper() for part in values_of(header, "ImageType")]:
        raise SliceRefusedError("localizer")
    form = PixelFormat.of(header)
    if form.frames > 1:
        raise SliceRefusedError("slice_multi_frame")
    if min(form.rows, form.columns) < LEAST_SIDE:
        raise SliceRefusedError("too_small_slice")
    stored, _ = FrameReader().read(path, form)
    orientation = orientation_of(header)
    if orientation is not None and tilt_deg(orientation) > AXIAL_WITHIN_DEG:
        raise SliceRefusedError("slice_not_axial")
    warnings = []
    if orientation is None:
        warnings.append("slice_orientation_unknown")
    elif tilt_deg(orientation) > OBLIQUE_DEG:
        warnings.append("slice_oblique")
    if str(header.get("LossyImageCompression", "")) == "01":
        warnings.append("lossy_compression")
    return Slice(floored(_hu(stored, header)), stored, orientation, tuple(warnings), header)


def _hu(stored: npt.NDArray[Any], header: Dataset) -> Floats:
    try:
        rescale = Rescale(float(header.RescaleSlope), float(header.RescaleIntercept))
    except (AttributeError, TypeError, ValueError):
        raise SliceRefusedError("missing_rescale") from None
    if not np.isfinite((rescale.slope, rescale.intercept)).all() or rescale.slope == 0:
        raise SliceRefusedError("invalid_rescale")
    out = np.empty(stored.shape, dtype=np.float32)
    hounsfield.rescale_into(out, stored, rescale)
    return out


def floored(hu: npt.NDArray[Any]) -> Floats:
    """Return HU with everything at or below the slice's first percentile as -1024.

    Raises `SliceRefusedError` for a slice of one value, or one without air.
    """
    values = np.asarray(hu, dtype=np.float32)
    if values.min() == values.max():
        raise SliceRefusedError("slice_constant")
    if values.min() > AIR_BELOW_HU:
        raise SliceRefusedError("slice_values_not_hu")
    limit = np.percentile(values, FLOOR_PERCENTILE)
    return np.where(values <= limit, np.float32(FLOOR_HU), values).astype(np.float32)


def orientation_of(header: Dataset) -> tuple[float, ...] | None:
    """Return the direction cosines of a row and a column, None where the header does not prove them."""
    try:
        cosines = tuple(float(value) for value in values_of(header, "ImageOrientationPatient"))
    except (TypeError, ValueError):
        return None
    if len(cosines) != 6 or not np.isfinite(cosines).all():
        return None
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    is_frame = np.allclose([row @ row, column @ column], 1, atol=1e-2) and abs(row @ column) < 1e-2
    return cosines if is_frame else None


def tilt_deg(orientation: Sequence[float]) -> float:
    """Return the angle between the slice's normal and the axis from feet to head, 0 to 90 degrees."""
    normal = np.cross(orientation[:3], orientation[3:])
    return float(np.degrees(np.arccos(np.clip(abs(normal[2]) / np.linalg.norm(normal), 0, 1))))


def upright(image: npt.NDArray[Any], orientation: Sequence[float] | None) -> npt.NDArray[Any]:
    """Return a slice with its rows running to the patient's left and its columns to the back, by flips and turns.

    Scanners and positions differ in this, anatomy does not. Without an orientation it is returned as it is.
    """
    if orientation is None:
        return image
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    if abs(row[0]) + abs(column[1]) < abs(row[1]) + abs(column[0]):
        image, row, column = image.T, column, row
    if column[1] < 0:
        image = image[::-1]
    if row[0] < 0:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def values_of(header: Dataset, keyword: str) -> list[Any]:
    """Return the values of an element as a list, empty where it is absent or empty."""
    value = header.get(keyword)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple | pydicom.multival.MultiValue) else [value]

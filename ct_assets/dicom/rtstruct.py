"""RT Structure Sets: regions of interest and their contours, as they are written.

Belongs here: reading ROIs, contours and what they refer to (PS3.3 C.8.8.5, C.8.8.6). Does not: turning
contours into voxels (`imaging.rtstruct`), which series is meant (`imaging.masks_reference`).
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from ct_assets.dicom.codes import Code
from ct_assets.dicom.seg import MaskError, Segment

CLOSED = frozenset(("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"))
"""Contour Geometric Types that enclose an area (PS3.3 C.8.8.6.1)."""
_CONTOUR_DATA = Tag(0x3006, 0x0050)


@dataclass(frozen=True, eq=False)
class Contour:
    """One closed outline."""

    points_lps_mm: npt.NDArray[np.float64]
    """(n, 3)."""
    source_sop_uids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Roi:
    """One region of interest."""

    segment: Segment
    frame_of_reference_uid: str
    contours: tuple[Contour, ...]
    left_out: int
    """Contours that enclose nothing: points, open lines, fewer than three points, unreadable numbers."""


@dataclass(frozen=True, eq=False)
class StructureSet:
    """A structure set object."""

    sop_instance_uid: str
    rois: tuple[Roi, ...]


def read(path: Path) -> StructureSet:
    """Read a structure set. Raises `MaskError` where the file cannot be one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path)
            return StructureSet(str(dataset.get("SOPInstanceUID") or ""), tuple(_rois(dataset)))
    except MaskError:
        raise
    except Exception as error:  # a damaged file may fail anywhere in its sequences
        raise MaskError("mask_unreadable", f"the object cannot be read: {type(error).__name__}") from None


def _rois(dataset: Dataset) -> list[Roi]:
    contours = {
        int(item.ReferencedROINumber): list(item.get("ContourSequence") or [])
        for item in dataset.get("ROIContourSequence") or []
        if item.get("ReferencedROINumber") is not None
    }
    observations = {
        int(item.ReferencedROINumber): item
        for item in dataset.get("RTROIObservationsSequence") or []
        if item.get("ReferencedROINumber") is not None
    }
    rois = []
    seen: set[int] = set()
    for item in dataset.get("StructureSetROISequence") or []:
        number = int(item.ROINumber)
        if number in seen:
            raise MaskError("segment_numbers_invalid", "ROI numbers are repeated")
        seen.add(number)
        closed, left_out = _closed(contours.get(number, []))
        rois.append(
            Roi(
                segment=_segment(item, observations.get(number, Dataset())),
                frame_of_reference_uid=str(item.get("ReferencedFrameOfReferenceUID") or ""),
                contours=closed,
                left_out=left_out,
            )
        )
    return rois


def _segment(item: Dataset, observation: Dataset) -> Segment:
    return Segment(
        number=int(item.ROINumber),
        label=str(item.get("ROIName") or "").strip(),
        description=str(item.get("ROIDescription") or "").strip(),
        type_code=Code.first_of(observation, "RTROIIdentificationCodeSequence"),
        algorithm_type=str(item.get("ROIGenerationAlgorithm") or "").strip(),
        interpreted_type=str(observation.get("RTROIInterpretedType") or "").strip(),
    )


def _closed(items: list[Dataset]) -> tuple[tuple[Contour, ...], int]:
    closed = []
    for item in items:
        if str(item.get("ContourGeometricType") or "").strip() not in CLOSED:
            continue
        points = _points(item)
        if points is None:
            continue
        sources = [
            str(image.ReferencedSOPInstanceUID)
            for image in item.get("ContourImageSequence") or []
            if image.get("ReferencedSOPInstanceUID")
        ]
        closed.append(Contour(points, tuple(sources)))
    return tuple(closed), len(items) - len(closed)


def _points(item: Dataset) -> npt.NDArray[np.float64] | None:
    """Return Contour Data (3006,0050) as (n, 3); parsed from the raw bytes, a hundredfold quicker than DS."""
    if _CONTOUR_DATA not in item:
        return None
    element = item.get_item(_CONTOUR_DATA)
    raw = element.value if isinstance(element, RawDataElement) else None
    try:
        parts = raw.split(b"\\") if isinstance(raw, bytes) else list(item[_CONTOUR_DATA].value or [])
        values = np.array(parts, dtype=np.float64) if parts and parts != [b""] else np.empty(0)
    except (TypeError, ValueError):
        return None
    if values.size < 9 or values.size % 3 or not np.isfinite(values).all():
        return None
    return values.reshape(-1, 3)

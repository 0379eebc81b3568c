"""RT Structure Sets: regions of interest and their contours, as they are written.

Belongs here: reading ROIs, contours and what they refer to (PS3.3 C.8.8.5, C.8.8.6); the contours' points
stay in the file until an ROI is asked for, so that memory follows one ROI. Does not: turning contours into
voxels (`imaging.rtstruct`), which series is meant (`imaging.masks_reference`).
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from ct_assets.dicom import contour_text, item_walk
from ct_assets.dicom.codes import Code
from ct_assets.dicom.elements import NotPlainError
from ct_assets.dicom.item_walk import InFile, Item
from ct_assets.dicom.seg import MaskError, Segment
from ct_assets.dicom.sources import Source, frame_numbers, sources

XOR = "CLOSEDPLANAR_XOR"
CLOSED = frozenset(("CLOSED_PLANAR", XOR))
"""Contour Geometric Types that enclose an area (PS3.3 C.8.8.6.1)."""
LEAST_POINTS = 3
BATCH_BYTES = 4 * 2**20
"""Contours are read as many at a time as hold this much text."""

ROI_CONTOUR_SEQUENCE = 0x30060039
_CONTOUR_SEQUENCE, _CONTOUR_IMAGES = 0x30060040, 0x30060016
_TYPE, _COUNT, _DATA, _ROI_NUMBER = 0x30060042, 0x30060046, 0x30060050, 0x30060084
_SOP_UID, _FRAMES = 0x00081155, 0x00081160
_WALKED = frozenset((_CONTOUR_SEQUENCE, _CONTOUR_IMAGES))


@dataclass(frozen=True, slots=True)
class Contour:
    """One contour, its points unread."""

    geometric_type: str
    stated_points: int | None
    sources: tuple[Source, ...]
    text: bytes | InFile


@dataclass(frozen=True, eq=False)
class Outline:
    """One closed outline."""

    points_lps_mm: npt.NDArray[np.float64]
    """(n, 3)."""
    is_xor: bool
    sources: tuple[Source, ...]


@dataclass(frozen=True, eq=False)
class Outlines:
    """The closed outlines of an ROI, and what became of its other contours."""

    closed: tuple[Outline, ...]
    open: int
    """Contours that enclose nothing: points, open lines, fewer than three points."""
    damaged: int
    """Closed contours whose numbers cannot be read, or are fewer than stated."""
    repaired: int
    """Contours read in spite of commas or a backslash at the end."""


@dataclass(frozen=True, eq=False)
class Roi:
    """One region of interest."""

    segment: Segment
    frame_of_reference_uid: str
    """Referenced Frame of Reference UID (3006,0024): the space of its numbers; empty where untold."""
    contours: tuple[Contour, ...]
    items: int
    """Items of ROIContourSequence that are its."""


@dataclass(frozen=True, eq=False)
class StructureSet:
    """A structure set object."""

    sop_instance_uid: str
    frame_of_reference_uids: tuple[str, ...]
    """Of ReferencedFrameOfReferenceSequence, else of the object."""
    rois: tuple[Roi, ...]
    has_invalid_numbers: bool
    """ROI numbers are missing or repeated: which contours are whose is unknown."""
    contours_without_roi: int
    """Contours whose Referenced ROI Number is no ROI's."""
    dataset: Dataset
    """All but the contours."""
    path: Path

    def outlines(self, roi: Roi) -> Outlines:
        """Read the closed outlines of an ROI."""
        enclosing = [one for one in roi.contours if one.geometric_type in CLOSED]
        closed = []
        damaged = repaired = 0
        for contours, points in self._points(enclosing):
            for contour, read in zip(contours, points, strict=True):
                repaired += read.fault == contour_text.REPAIRED
                damaged += read.points is None
                if read.points is not None and len(read.points) >= LEAST_POINTS:
                    closed.append(Outline(read.points, contour.geometric_type == XOR, contour.sources))
        return Outlines(tuple(closed), len(roi.contours) - len(closed) - damaged, damaged, repaired)

    def _points(self, contours: list[Contour]) -> Iterator[tuple[list[Contour], list[contour_text.Points]]]:
        with self.path.open("rb") as opened:
            batch: list[Contour] = []
            texts: list[bytes] = []
            size = 0
            for contour in contours:
                text = contour.text
                if isinstance(text, InFile):
                    opened.seek(text.offset)
                    text = opened.read(text.length)
                batch.append(contour)
                texts.append(text)
                size += len(text)
                if size > BATCH_BYTES:
                    yield batch, contour_text.read(texts, [one.stated_points for one in batch])
                    batch, texts, size = [], [], 0
            yield batch, contour_text.read(texts, [one.stated_points for one in batch])


def read(path: Path) -> StructureSet:
    """Read a structure set. Raises `MaskError` where the file cannot be one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(path)
    except (MaskError, OSError):
        raise
    except Exception as error:  # a damaged file may fail anywhere in its sequences
        raise MaskError("mask_unreadable", f"the object cannot be read: {type(error).__name__}") from None


def _read(path: Path) -> StructureSet:
    try:
        sequence = item_walk.find(path, ROI_CONTOUR_SEQUENCE)
        if sequence is None:
            dataset, contours = dcmread(path), []
        else:
            contours = [_from_item(item) for item in sequence.items(_WALKED)]
            dataset = dcmread(sequence.rest())
    except NotPlainError:
        dataset = dcmread(path)
        contours = [_from_dataset(item) for item in dataset.get("ROIContourSequence") or []]
    by_number: dict[int | None, list[tuple[Contour, ...]]] = {}
    for number, several in contours:
        by_number.setdefault(number, []).append(several)
    observations = {
        integer(item.get("ReferencedROINumber")): item
        for item in dataset.get("RTROIObservationsSequence") or []
    }
    rois = []
    seen: set[int] = set()
    has_invalid_numbers = False
    for item in dataset.get("StructureSetROISequence") or []:
        number = integer(item.get("ROINumber"))
        if number is None or number in seen:
            has_invalid_numbers = True
            continue
        seen.add(number)
        own = by_number.pop(number, [])
        rois.append(
            Roi(
                segment=_segment(item, number, observations.get(number, Dataset())),
                frame_of_reference_uid=str(item.get("ReferencedFrameOfReferenceUID") or "").strip(),
                contours=tuple(contour for several in own for contour in several),
                items=len(own),
            )
        )
    named = [
        str(item.get("FrameOfReferenceUID") or "").strip()
        for item in dataset.get("ReferencedFrameOfReferenceSequence") or []
    ] or [str(dataset.get("FrameOfReferenceUID") or "").strip()]
    return StructureSet(
        sop_instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        frame_of_reference_uids=tuple(dict.fromkeys(uid for uid in named if uid)),
        rois=tuple(rois),
        has_invalid_numbers=has_invalid_numbers,
        contours_without_roi=sum(len(several) for own in by_number.values() for several in own),
        dataset=dataset,
        path=path,
    )


def integer(value: Any) -> int | None:
    """Return an integer string's value; None where it is none."""
    try:
        return None if value is None or float(value) != int(value) else int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _segment(item: Dataset, number: int, observation: Dataset) -> Segment:
    return Segment(
        number=number,
        label=str(item.get("ROIName") or "").strip(),
        description=str(item.get("ROIDescription") or "").strip(),
        type_code=Code.first_of(observation, "RTROIIdentificationCodeSequence"),
        algorithm_type=str(item.get("ROIGenerationAlgorithm") or "").strip(),
        interpreted_type=str(observation.get("RTROIInterpretedType") or "").strip(),
    )


def _from_item(item: Item) -> tuple[int | None, tuple[Contour, ...]]:
    """Return the ROI number and the contours of an item that was walked."""
    contours = [
        Contour(
            geometric_type=_text(contour.get(_TYPE)),
            stated_points=integer(_text(contour.get(_COUNT)) or None),
            sources=tuple(
                Source(uid, frame_numbers(_text(image.get(_FRAMES)).split("\\")))
                for image in _items(contour.get(_CONTOUR_IMAGES))
                if (uid := _text(image.get(_SOP_UID)))
            ),
            text=_data(contour.get(_DATA)),
        )
        for contour in _items(item.get(_CONTOUR_SEQUENCE))
    ]
    return integer(_text(item.get(_ROI_NUMBER)) or None), tuple(contours)


def _items(value: "bytes | InFile | list[Item] | None") -> "Sequence[Item]":
    return value if isinstance(value, list) else ()


def _text(value: "bytes | InFile | list[Item] | None") -> str:
    return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else ""


def _data(value: "bytes | InFile | list[Item] | None") -> bytes | InFile:
    return value if isinstance(value, bytes | InFile) else b""


def _from_dataset(item: Dataset) -> tuple[int | None, tuple[Contour, ...]]:
    """Return the same of a file that only pydicom reads."""
    contours = []
    for contour in item.get("ContourSequence") or []:
        element = contour.get_item(_DATA)
        value = None if element is None else element.value
        if not isinstance(element, RawDataElement) and not isinstance(value, bytes):
            several: Any = [value] if isinstance(value, str | int | float) else list(value or ())
            value = "\\".join(str(one) for one in several).encode()
        contours.append(
            Contour(
                geometric_type=str(contour.get("ContourGeometricType") or "").strip(),
                stated_points=integer(contour.get("NumberOfContourPoints")),
                sources=sources(contour.get("ContourImageSequence") or []),
                text=value or b"",
            )
        )
    return integer(item.get("ReferencedROINumber")), tuple(contours)

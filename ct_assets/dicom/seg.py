"""DICOM Segmentation objects: segments, frames with their places, and the pixels of each frame.

Belongs here: BINARY, FRACTIONAL (PS3.3 A.51) and LABELMAP (PS3.3 A.87) objects as they are written, frame by
frame, so that many segments cost no more memory than few. Does not: putting frames onto a CT's grid
(`imaging.masks`), which series is meant (`imaging.masks_reference`).
"""

import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRBigEndian

from ct_assets.dicom.codes import Code
from ct_assets.dicom.functional_groups import RawGroup, per_frame
from ct_assets.dicom.pixels import NATIVE, PixelError, PixelFormat, Stored, iterate_frames

DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression (PS3.5 A.4.15): each frame is a raw deflate stream."""
LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_LITTLE_ENDIAN = NATIVE - {str(ExplicitVRBigEndian)}
TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")


class MaskError(Exception):
    """A mask object that cannot be used; `code` is the reason code for the tables."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a SEG, or one ROI of a structure set: what a label stands for."""

    number: int
    label: str
    description: str = ""
    category: Code | None = None
    type_code: Code | None = None
    algorithm_type: str = ""
    interpreted_type: str = ""
    """RT ROI Interpreted Type (3006,00A4); empty for a SEG."""


@dataclass(frozen=True, slots=True)
class SegFrame:
    """Where one frame lies, and whose it is."""

    index: int
    segment: int | None
    """Segment number; None in a LABELMAP, whose pixels say it."""
    position_mm: tuple[float, float, float] | None
    """Centre of the first pixel, LPS; None where the frame does not tell."""
    orientation: tuple[float, ...]
    pixel_spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    source_sop_uids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A SEG object: header facts, and the data set for its pixels."""

    sop_instance_uid: str
    kind: str
    max_fractional: int
    fractional_type: str
    slice_thickness_mm: float | None
    segments: tuple[Segment, ...]
    frames: tuple[SegFrame, ...]
    form: PixelFormat
    dataset: Dataset

    def pixels(self, wanted: Iterable[int]) -> Iterator[tuple[int, Stored]]:
        """Yield (frame index, pixels (rows, columns)) of the wanted frames; BINARY frames hold 0 and 1.

        Raises `PixelError` where a frame is missing or damaged.
        """
        if self.form.transfer_syntax_uid == DEFLATED_IMAGE_FRAME:
            yield from self._deflated(set(wanted))
        elif self.form.bits_allocated == 1 and self.form.transfer_syntax_uid in NATIVE:
            for index in wanted:
                yield index, self._packed(np.frombuffer(self.dataset.PixelData, np.uint8), index)
        elif self.form.transfer_syntax_uid in _LITTLE_ENDIAN:
            content = np.frombuffer(self.dataset.PixelData, self.form.dtype)
            for index in wanted:
                yield index, self._whole(content, index)
        else:
            yield from iterate_frames(self.dataset, self.form, sorted(wanted))

    def _packed(self, content: npt.NDArray[np.uint8], frame: int) -> npt.NDArray[np.uint8]:
        """Unpack one single-bit frame; frames follow each other without padding (PS3.5 8.1.1)."""
        count = self.form.rows * self.form.columns
        first = frame * count
        needed = content[first // 8 : (first + count + 7) // 8]
        bits = np.unpackbits(needed, bitorder="little")[first % 8 : first % 8 + count]
        if bits.size < count:
            raise PixelError("truncated_pixel_data", "the last frames are missing")
        return bits.reshape(self.form.rows, self.form.columns)

    def _whole(self, content: npt.NDArray, frame: int) -> npt.NDArray[np.unsignedinteger]:
        """Return one frame of whole bytes out of all of them."""
        count = self.form.rows * self.form.columns
        values = content[frame * count : (frame + 1) * count]
        if values.size < count:
            raise PixelError("truncated_pixel_data", "the last frames are missing")
        return values.reshape(self.form.rows, self.form.columns)

    def _deflated(self, wanted: set[int]) -> Iterator[tuple[int, npt.NDArray[np.unsignedinteger]]]:
        several = generate_frames(self.dataset.PixelData, number_of_frames=self.form.frames)
        for index, content in enumerate(several):
            if index not in wanted:
                continue
            try:
                raw = np.frombuffer(zlib.decompress(content, wbits=-zlib.MAX_WBITS), np.uint8)
            except zlib.error:
                raise PixelError("pixel_data_unreadable", "a deflated frame is damaged") from None
            if self.form.bits_allocated == 1:
                yield index, self._packed(raw, 0)
                continue
            whole = raw[: raw.size - raw.size % self.form.dtype.itemsize]
            yield index, self._whole(whole.view(self.form.dtype), 0)


def read(path: Path) -> Segmentation:
    """Read a SEG. Raises `MaskError` where it cannot be one, `PixelError` where it has no usable pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path)
            return _from_dataset(dataset)
    except (MaskError, PixelError):
        raise
    except Exception as error:  # a damaged file may fail anywhere in its sequences
        raise MaskError("mask_unreadable", f"the object cannot be read: {type(error).__name__}") from None


def _from_dataset(dataset: Dataset) -> Segmentation:
    form = PixelFormat.of(dataset)
    kind = str(dataset.get("SegmentationType") or "").strip().upper()
    if dataset.get("SOPClassUID") == LABEL_MAP_STORAGE:
        kind = "LABELMAP"
    if kind not in TYPES:
        raise MaskError(
            "segmentation_type_unknown", "Segmentation Type (0062,0001) is none of the known ones"
        )
    if "PixelData" not in dataset:
        raise PixelError("no_pixel_data", "Pixel Data (7FE0,0010) is missing")
    frames = tuple(_frames(dataset, kind))
    if len(frames) != form.frames:
        raise MaskError("mask_frames_incomplete", f"{len(frames)} frame descriptions, {form.frames} frames")
    measures = _shared(dataset, "PixelMeasuresSequence")
    thickness = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") if measures else None
    return Segmentation(
        sop_instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        kind=kind,
        max_fractional=int(dataset.get("MaximumFractionalValue") or 255),
        fractional_type=str(dataset.get("SegmentationFractionalType") or ""),
        slice_thickness_mm=float(thickness) if thickness else None,
        segments=tuple(_segments(dataset)),
        frames=frames,
        form=form,
        dataset=dataset,
    )


def _segments(dataset: Dataset) -> Iterator[Segment]:
    seen: set[int] = set()
    for item in dataset.get("SegmentSequence") or []:
        number = int(item.get("SegmentNumber", -1))
        if number < 0 or number in seen:
            raise MaskError("segment_numbers_invalid", "segment numbers are missing or repeated")
        seen.add(number)
        yield Segment(
            number=number,
            label=str(item.get("SegmentLabel") or "").strip(),
            description=str(item.get("SegmentDescription") or "").strip(),
            category=Code.first_of(item, "SegmentedPropertyCategoryCodeSequence"),
            type_code=Code.first_of(item, "SegmentedPropertyTypeCodeSequence"),
            algorithm_type=str(item.get("SegmentAlgorithmType") or "").strip(),
        )


def _frames(dataset: Dataset, kind: str) -> Iterator[SegFrame]:
    """Yield the frames' places; what a frame does not say itself, the shared groups say (PS3.3 C.7.6.16)."""
    for index, group in enumerate(per_frame(dataset)):
        position = _macro(dataset, group, "PlanePositionSequence", "ImagePositionPatient")
        orientation = _macro(dataset, group, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = _macro(dataset, group, "PixelMeasuresSequence", "PixelSpacing")
        segment = _macro(dataset, group, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
        if segment is None and kind != "LABELMAP":
            raise MaskError("mask_frames_incomplete", "a frame names no segment")
        sources = [
            str(source.get("ReferencedSOPInstanceUID"))
            for item in group.get("DerivationImageSequence") or []
            for source in item.get("SourceImageSequence") or []
            if source.get("ReferencedSOPInstanceUID")
        ]
        yield SegFrame(
            index=index,
            segment=None if kind == "LABELMAP" else int(segment),
            position_mm=_three(position),
            orientation=tuple(float(value) for value in orientation) if orientation is not None else (),
            pixel_spacing_mm=(float(spacing[0]), float(spacing[1])) if spacing is not None else (0.0, 0.0),
            source_sop_uids=tuple(dict.fromkeys(sources)),
        )


def _three(values: Iterable[float] | None) -> tuple[float, float, float] | None:
    if values is None:
        return None
    x, y, z = (float(value) for value in values)
    return x, y, z


def _macro(dataset: Dataset, group: Dataset | RawGroup, sequence: str, keyword: str) -> Any:
    for item in (*(group.get(sequence) or [])[:1], _shared(dataset, sequence)):
        if item is not None and item.get(keyword) is not None:
            return item.get(keyword)
    return None


def _shared(dataset: Dataset, sequence: str) -> Dataset | None:
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    items = shared[0].get(sequence) if shared else None
    return items[0] if items else None

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
from ct_assets.dicom.sources import Source, sources

DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression (PS3.5 A.4.15): each frame is a raw deflate stream."""
LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_LITTLE_ENDIAN = NATIVE - {str(ExplicitVRBigEndian)}
TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
BACKGROUND = ("DCM", "125040")
"""The code by which a segment description says that it is the background (PS3.16 CID 7150)."""
Positions = npt.NDArray[np.int64]


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
    sources: tuple[Source, ...]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A SEG object: header facts, and the data set for its pixels."""

    sop_instance_uid: str
    kind: str
    max_fractional: int
    fractional_type: str
    plane_spacing_mm: float | None
    """Spacing Between Slices (0018,0088)."""
    slice_thickness_mm: float | None
    segments: tuple[Segment, ...]
    """Without those of a LABELMAP that describe its background."""
    backgrounds: frozenset[int] | None
    """Values of a LABELMAP that are no segment; None where the object does not tell what 0 is."""
    frames: tuple[SegFrame, ...]
    form: PixelFormat
    dataset: Dataset

    def lit(self, threshold_share: float) -> Iterator[tuple[SegFrame, int, Positions]]:
        """Yield frame, segment number and positions in the flattened frame of all that is lit.

        A pixel of a FRACTIONAL frame is lit from `threshold_share` of the maximum on. Raises `PixelError`, and
        `MaskError` where the background of a LABELMAP is unknown.
        """
        if self.form.bits_allocated == 1 and self.form.transfer_syntax_uid in NATIVE:
            content = np.frombuffer(self.dataset.PixelData, np.uint8)
            for frame in self.frames:
                positions = self._lit_packed(content, frame.index)
                if positions.size:
                    yield frame, frame.segment or 0, positions
            return
        for index, pixels in self.pixels(range(len(self.frames))):
            frame, flat = self.frames[index], pixels.reshape(-1)
            if self.kind == "LABELMAP":
                yield from self._by_value(frame, flat)
                continue
            least = threshold_share * self.max_fractional if self.kind == "FRACTIONAL" else 1
            positions = np.flatnonzero(flat >= least)
            if positions.size:
                yield frame, frame.segment or 0, positions

    def _by_value(self, frame: SegFrame, flat: Stored) -> Iterator[tuple[SegFrame, int, Positions]]:
        for value in np.unique(flat).tolist():
            if self.backgrounds is None and value == 0:
                raise MaskError("label_map_background_unknown", "nothing tells whether 0 is a segment")
            if not self.backgrounds or value not in self.backgrounds:
                yield frame, value, np.flatnonzero(flat == value)

    def _lit_packed(self, content: npt.NDArray[np.uint8], frame: int) -> Positions:
        """Return the lit pixels of a single-bit frame; empty bytes are stepped over."""
        count = self.form.rows * self.form.columns
        first = frame * count
        if first + count > content.size * 8:
            raise PixelError("truncated_pixel_data", "the last frames are missing")
        raw = content[first // 8 : (first + count + 7) // 8]
        used = np.flatnonzero(raw.view(np.uint64) if raw.size % 8 == 0 else raw)
        if not used.size:
            return used
        width = 64 if raw.size % 8 == 0 else 8
        held = raw.reshape(-1, width // 8)[used]
        bits = np.flatnonzero(np.unpackbits(held.reshape(-1), bitorder="little"))
        positions = used[bits // width] * width + bits % width - first % 8
        if first % 8 or count % 8:
            positions = positions[(positions >= 0) & (positions < count)]
        return positions

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
            return from_dataset(dcmread(path))
    except (MaskError, PixelError, OSError):
        raise
    except Exception as error:  # a damaged file may fail anywhere in its sequences
        raise MaskError("mask_unreadable", f"the object cannot be read: {type(error).__name__}") from None


def from_dataset(dataset: Dataset) -> Segmentation:
    """Return a SEG that pydicom read. Raises as `read`, and whatever a damaged one raises."""
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
    groups = per_frame(dataset)
    frames = tuple(_frames(dataset, groups, kind))
    if len(frames) != form.frames:
        raise MaskError("mask_frames_incomplete", f"{len(frames)} frame descriptions, {form.frames} frames")
    measures = _shared(dataset, "PixelMeasuresSequence") or _first(
        groups[0] if groups else Dataset(), "PixelMeasuresSequence"
    )
    spacing = _value(measures, "SpacingBetweenSlices")
    thickness = _value(measures, "SliceThickness")
    described = tuple(_segments(dataset))
    backgrounds = _backgrounds(dataset, described, form) if kind == "LABELMAP" else frozenset[int]()
    return Segmentation(
        sop_instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        kind=kind,
        max_fractional=_max_fractional(dataset) if kind == "FRACTIONAL" else 0,
        fractional_type=str(dataset.get("SegmentationFractionalType") or ""),
        plane_spacing_mm=abs(float(spacing)) if spacing else None,
        slice_thickness_mm=abs(float(thickness)) if thickness else None,
        segments=tuple(one for one in described if not backgrounds or one.number not in backgrounds),
        backgrounds=backgrounds,
        frames=frames,
        form=form,
        dataset=dataset,
    )


def _max_fractional(dataset: Dataset) -> int:
    """Return Maximum Fractional Value (0062,000E), which is required (PS3.3 C.8.20.2)."""
    value = dataset.get("MaximumFractionalValue")
    if not value:
        raise MaskError("fractional_maximum_missing", "Maximum Fractional Value (0062,000E) is missing")
    return int(value)


def _backgrounds(dataset: Dataset, segments: Iterable[Segment], form: PixelFormat) -> frozenset[int] | None:
    """Return the values of a LABELMAP that are no segment.

    Pixel Padding Value (0028,0120) is the background (PS3.3 C.8.20.2); without it 0 is, unless a segment 0
    is described. A segment that is coded as background is none.
    """
    coded = {
        segment.number
        for segment in segments
        if segment.type_code and (segment.type_code.scheme, segment.type_code.value) == BACKGROUND
    }
    padding = dataset.get("PixelPaddingValue")
    if padding is not None and padding != "":
        return frozenset({*coded, int(padding) % (1 << form.bits_allocated)})
    if not coded and any(segment.number == 0 for segment in segments):
        return None
    return frozenset({*coded, 0} if 0 not in {segment.number for segment in segments} else coded)


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


def _frames(dataset: Dataset, groups: list[Any], kind: str) -> Iterator[SegFrame]:
    """Yield the frames' places; what a frame does not say itself, the shared groups say (PS3.3 C.7.6.16)."""
    shared = {name: _value(_shared(dataset, name), keyword) for name, keyword in _MACROS.items()}
    places: dict[tuple[int, ...], Any] = {}  # frames of many segments share the very same items
    for index, group in enumerate(groups):
        items = [group.get(name) or () for name in _MACROS]
        derivations = group.get("DerivationImageSequence") or ()
        key = tuple(id(several) for several in (*items, derivations))
        if key not in places:
            told = [
                value
                if (value := _value(several[0] if several else None, keyword)) is not None
                else shared[name]
                for several, (name, keyword) in zip(items, _MACROS.items(), strict=True)
            ]
            places[key] = (_place(told, kind), _sources(derivations), (items, derivations))
        (segment, position, orientation, spacing), named, _ = places[key]
        yield SegFrame(index, segment, position, orientation, spacing, named)


def _place(told: list[Any], kind: str) -> tuple[Any, ...]:
    """Return segment, position, orientation and spacing from the values of `_MACROS`."""
    position, orientation, spacing, segment = told
    if segment is None and kind != "LABELMAP":
        raise MaskError("mask_frames_incomplete", "a frame names no segment")
    return (
        None if kind == "LABELMAP" else int(segment),
        _three(position),
        tuple(float(value) for value in orientation or ()),
        (float(spacing[0]), float(spacing[1])) if spacing is not None else (0.0, 0.0),
    )


def _sources(derivations: Iterable[Any]) -> tuple[Source, ...]:
    return sources(source for item in derivations for source in item.get("SourceImageSequence") or [])


_MACROS = {
    "PlanePositionSequence": "ImagePositionPatient",
    "PlaneOrientationSequence": "ImageOrientationPatient",
    "PixelMeasuresSequence": "PixelSpacing",
    "SegmentIdentificationSequence": "ReferencedSegmentNumber",
}


def _first(item: Dataset | RawGroup, sequence: str) -> Any:
    items = item.get(sequence)
    return items[0] if items else None


def _value(item: Dataset | RawGroup | None, keyword: str) -> Any:
    return None if item is None else item.get(keyword)


def _three(values: Iterable[float] | None) -> tuple[float, float, float] | None:
    if values is None:
        return None
    x, y, z = (float(value) for value in values)
    return x, y, z


def _shared(dataset: Dataset, sequence: str) -> Dataset | None:
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    items = shared[0].get(sequence) if shared else None
    return items[0] if items else None

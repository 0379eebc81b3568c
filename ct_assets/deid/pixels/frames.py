"""Reading the frames of one instance, one at a time, without touching its dataset.

Belongs here: decoding pixels to arrays and bringing them to 8 bit for the eye and for text detection.
Does not: judging what is seen (`burned_in`), changing pixels (`redact`).
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import iter_pixels
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from ct_assets.dicom import jpeg_extended
from ct_assets.dicom.pixels import PixelFormat, iterate_frames

PIXEL_DATA = 0x7FE00010
LONGEST_REMEMBERED = 256
"""Bytes of a value up to which its decoded form is remembered."""
PIXEL_TAGS = (Tag(0x7FE00010), Tag(0x7FE00008), Tag(0x7FE00009))
"""PixelData, FloatPixelData, DoubleFloatPixelData."""

_NATIVE_LITTLE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"})
_IMAGE_PIXEL_TAGS = (
    0x00280002,  # SamplesPerPixel
    0x00280004,  # PhotometricInterpretation
    0x00280006,  # PlanarConfiguration
    0x00280008,  # NumberOfFrames
    0x00280010,  # Rows
    0x00280011,  # Columns
    0x00280100,  # BitsAllocated
    0x00280101,  # BitsStored
    0x00280102,  # HighBit
    0x00280103,  # PixelRepresentation
    *range(0x00281101, 0x00281104),  # palette descriptors
    *range(0x00281201, 0x00281204),  # palette data
    *range(0x00281221, 0x00281224),  # palette data in segments
    0x7FE00001,  # ExtendedOffsetTable
    0x7FE00002,  # ExtendedOffsetTableLengths
    0x7FE00008,  # FloatPixelData
    0x7FE00009,  # DoubleFloatPixelData
    PIXEL_DATA,
)


class UnreadablePixelsError(Exception):
    """The pixel data of an instance cannot be decoded; the text names no value of the header."""


def value(dataset: Dataset, tag: int, default: Any = None) -> Any:
    """Return the value of `tag` without turning a raw element of `dataset` into a decoded one.

    Elements that nobody changes stay raw, so that they are written back byte for byte. A value that cannot
    be decoded counts as absent.
    """
    element = dataset._dict.get(Tag(tag))
    if element is None:
        return default
    if isinstance(element, RawDataElement):
        if element.value is None:
            raw = dataset.get_item(Tag(tag))
            element = raw if isinstance(raw, RawDataElement) else element
        try:
            found = _decoded(element)
        except Exception:
            return default
    else:
        found = element.value
    return default if found is None or found == "" else found


def _decoded(element: RawDataElement) -> Any:
    if element.value is None or len(element.value) > LONGEST_REMEMBERED:
        return convert_raw_data_element(element).value
    known = (int(element.tag), element.VR, element.value, element.is_implicit_VR, element.is_little_endian)
    return _decoded_before(*known)


@lru_cache(maxsize=4096)
def _decoded_before(tag: int, vr: str | None, raw: bytes, is_implicit: bool, is_little: bool) -> Any:
    """Return a short value decoded: those of a series are mostly equal, and decoding costs 50 microseconds."""
    element = RawDataElement(BaseTag(tag), vr, len(raw), raw, 0, is_implicit, is_little)
    return convert_raw_data_element(element).value


def texts(dataset: Dataset, tag: int) -> tuple[str, ...]:
    """Return the values of `tag` as upper-case strings, none where it is absent or empty."""
    found = value(dataset, tag)
    if found is None:
        return ()
    parts = [found] if isinstance(found, str) or not hasattr(found, "__iter__") else list(found)
    return tuple(str(part).strip().upper() for part in parts)


def text(dataset: Dataset, tag: int) -> str:
    """Return the first value of `tag` as an upper-case string, empty where it is absent."""
    found = texts(dataset, tag)
    return found[0] if found else ""


def number(dataset: Dataset, tag: int, default: int = 0) -> int:
    """Return the whole number in `tag`, or `default` where there is none."""
    try:
        return int(value(dataset, tag, default))
    except (TypeError, ValueError):
        return default


def has_pixels(dataset: Dataset) -> bool:
    """Whether the instance carries pixel data of any kind."""
    return any(tag in dataset._dict for tag in PIXEL_TAGS)


def transfer_syntax(dataset: Dataset) -> str:
    """Return the transfer syntax of the instance, Explicit VR Little Endian where it names none."""
    meta = getattr(dataset, "file_meta", None)
    return str(getattr(meta, "TransferSyntaxUID", "") or "1.2.840.10008.1.2.1")


def image_pixel(dataset: Dataset, *, with_pixels: bool = True) -> Dataset:
    """Return a dataset of nothing but the Image Pixel module (PS3.3 C.7.6.3) and the transfer syntax."""
    image = Dataset()
    for tag in _IMAGE_PIXEL_TAGS:
        if tag in dataset and (with_pixels or tag >> 16 != 0x7FE0):
            item = dataset.get_item(Tag(tag))
            image.add(convert_raw_data_element(item) if isinstance(item, RawDataElement) else _copy(item))
    image.file_meta = dataset.file_meta if hasattr(dataset, "file_meta") else FileMetaDataset()
    syntax = UID(transfer_syntax(dataset))
    image.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    return image


def stored_frames(dataset: Dataset) -> Iterator[np.ndarray]:
    """Yield the frames: `(rows, columns)` of stored values, or `(rows, columns, 3)` in RGB.

    YBR frames are turned to RGB, planar ones to colour by pixel, palette colours stay indices. Raises
    `UnreadablePixelsError`.
    """
    fast = _native_monochrome(dataset)
    if fast is not None:
        yield from fast
        return
    try:
        image = image_pixel(dataset)
        if transfer_syntax(dataset) == jpeg_extended.SYNTAX and number(dataset, 0x00280101) > 8:
            form = PixelFormat.of(image)
            yield from (decoded for _, decoded in iterate_frames(image, form, list(range(form.frames))))
        else:
            yield from iter_pixels(image)
    except Exception as error:
        raise UnreadablePixelsError(type(error).__name__) from None


def _native_monochrome(dataset: Dataset) -> np.ndarray | None:
    """Return uncompressed 8 or 16 bit monochrome pixels as `(frames, rows, columns)` without a copy."""
    if transfer_syntax(dataset) not in _NATIVE_LITTLE or number(dataset, 0x00280002, 1) != 1:
        return None
    bits, rows, columns = (number(dataset, tag) for tag in (0x00280100, 0x00280010, 0x00280011))
    pixels = value(dataset, PIXEL_DATA)
    if bits not in (8, 16) or rows < 1 or columns < 1 or not isinstance(pixels, bytes):
        return None
    kind = "i" if number(dataset, 0x00280103) else "u"
    frames = max(number(dataset, 0x00280008, 1), 1)
    needed = frames * rows * columns * bits // 8
    if len(pixels) < needed:
        raise UnreadablePixelsError("too few bytes")
    return np.frombuffer(pixels, f"<{kind}{bits // 8}", frames * rows * columns).reshape(
        frames, rows, columns
    )


def to_8bit(frame: np.ndarray, *, low_percent: float = 0.5, high_percent: float = 99.5) -> np.ndarray:
    """Return `frame` as 8 bit, the given percentiles at black and white; 8 bit colour stays as it is."""
    if frame.ndim == 3 and frame.dtype == np.uint8:
        return frame
    values = frame.astype(np.float32)
    low, high = np.percentile(values, [low_percent, high_percent])
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(frame.shape, np.uint8)
    return (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _copy(element: DataElement) -> DataElement:
    return DataElement(element.tag, element.VR, element.value, already_converted=True)

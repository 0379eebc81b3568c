"""Blanking declared regions of an image: the only change that pixels ever see.

Belongs here: masking one instance's frames in its own encoding. Does not: deciding where (`burned_in`).
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from ct_assets.deid.pixels import frames
from ct_assets.deid.pixels.frames import UnreadablePixelsError

WRITTEN_AGAIN_IN = frozenset({RLELossless, JPEGLSLossless, JPEG2000Lossless})
"""Transfer syntaxes that lose nothing and can be written: images in them stay in them."""


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of an image, in pixels from its upper left corner."""

    column: int
    row: int
    width: int
    height: int


def apply(dataset: Dataset, regions: Iterable[Region]) -> None:
    """Blank `regions` on every frame of `dataset`, in place, and touch nothing else of its pixels.

    Blank is the darkest that the frame shows: its lowest stored value in MONOCHROME2, its highest in
    MONOCHROME1, black in colour images. Uncompressed pixels keep their encoding, byte for byte outside the
    regions. Losslessly compressed ones are compressed again in the same transfer syntax where that can be
    written; all others become Explicit VR Little Endian: a lossy image is not compressed a second time.
    Raises `UnreadablePixelsError`, the dataset being as it was.
    """
    boxes = list(regions)
    if not boxes:
        return
    try:
        _apply(dataset, boxes)
    except UnreadablePixelsError:
        raise
    except Exception as error:
        raise UnreadablePixelsError(type(error).__name__) from None


def _apply(dataset: Dataset, boxes: list[Region]) -> None:
    syntax = UID(frames.transfer_syntax(dataset))
    work = frames.image_pixel(dataset)
    if syntax.is_encapsulated:
        work.file_meta = copy.deepcopy(work.file_meta)
        work.decompress(as_rgb=False, generate_instance_uid=False)
        if work.PhotometricInterpretation == "YBR_FULL_422":
            work.PhotometricInterpretation = "YBR_FULL"  # decoders give every pixel its own colour
    work.PixelData = _blanked(work, boxes, big_endian=not syntax.is_little_endian)
    if syntax in WRITTEN_AGAIN_IN:
        work.compress(syntax, generate_instance_uid=False)
    for tag in _DESCRIBE_THE_CODING:
        if tag in work:
            dataset[tag] = work[tag]
        elif tag in dataset:
            del dataset[tag]
    if syntax.is_encapsulated:
        dataset.file_meta.TransferSyntaxUID = work.file_meta.TransferSyntaxUID


def _blanked(image: Dataset, boxes: list[Region], *, big_endian: bool) -> bytes:
    """Return the uncompressed pixel data of `image` with the boxes blank."""
    pixels = bytes(image.PixelData)
    bits = int(image.BitsAllocated)
    words_swapped = big_endian and bits == 8 and image["PixelData"].VR == "OW"
    if words_swapped:
        pixels = _swap(pixels)
    if bits == 1:
        pixels = _blank_bits(image, pixels, boxes)
    elif image.PhotometricInterpretation == "YBR_FULL_422":
        pixels = _blank_422(image, pixels, boxes)
    else:
        pixels = _blank_samples(image, pixels, boxes, ">" if big_endian else "<")
    return _swap(pixels) if words_swapped else pixels


def _blank_samples(image: Dataset, pixels: bytes, boxes: list[Region], order: str) -> bytes:
    """Blank whole samples of 8, 16 or 32 bit, monochrome, palette or colour, by pixel or by plane."""
    samples = int(image.get("SamplesPerPixel", 1))
    size = int(image.BitsAllocated) // 8
    kind = "i" if samples == 1 and image.get("PixelRepresentation", 0) else "u"
    by_plane = samples > 1 and image.get("PlanarConfiguration", 0) == 1
    count, rows, columns = _shape(image)
    shape = (count, samples, rows, columns) if by_plane else (count, rows, columns, samples)
    values = _array(pixels, f"{order}{kind}{size}", math.prod(shape)).reshape(shape)
    seen = values if by_plane else np.moveaxis(values, -1, 1)
    for frame in seen:
        dark = _darkest(image, frame)
        for box in boxes:
            frame[:, box.row : box.row + box.height, box.column : box.column + box.width] = dark
    return values.tobytes() + pixels[values.nbytes :]


def _darkest(image: Dataset, frame: np.ndarray) -> np.ndarray:
    """Return the stored values of the darkest colour of `frame`, which is `(samples, rows, columns)`."""
    photometric = str(image.PhotometricInterpretation)
    if photometric == "MONOCHROME1":
        dark = [frame.max()]
    elif photometric == "PALETTE COLOR":
        dark = [_darkest_index(image)]
    elif photometric.startswith("YBR"):
        middle = 1 << (int(image.BitsStored) - 1)
        dark = [0, middle, middle]
    elif frame.shape[0] > 1:
        dark = [0] * frame.shape[0]
    else:
        dark = [frame.min()]
    return np.array(dark, dtype=frame.dtype).reshape(-1, 1, 1)


def _darkest_index(image: Dataset) -> int:
    """Return the stored value whose palette colour is darkest (PS3.3 C.7.6.3.1.5 and 6)."""
    entries, first, depth = (int(part) for part in image.RedPaletteColorLookupTableDescriptor)
    entries = entries or 1 << 16
    total = np.zeros(entries, np.int64)
    for colour in ("Red", "Green", "Blue"):
        table = bytes(image[f"{colour}PaletteColorLookupTableData"].value)
        wide = depth > 8 or len(table) >= 2 * entries
        total += np.frombuffer(table, "<u2" if wide else "u1", entries)
    return int(first + total.argmin())


def _blank_422(image: Dataset, pixels: bytes, boxes: list[Region]) -> bytes:
    """Blank uncompressed YBR_FULL_422: two columns share one pair of colours, stored Y Y B R."""
    count, rows, columns = _shape(image)
    pairs = _array(pixels, "u1", count * rows * columns * 2).reshape(count, rows, columns // 2, 4)
    for box in boxes:
        first, last = box.column // 2, -(-(box.column + box.width) // 2)
        pairs[:, box.row : box.row + box.height, first:last] = (0, 0, 128, 128)
    return pairs.tobytes() + pixels[pairs.nbytes :]


def _blank_bits(image: Dataset, pixels: bytes, boxes: list[Region]) -> bytes:
    """Blank pixels of one bit, which run on from frame to frame without padding (PS3.5 8.1.1)."""
    count, rows, columns = _shape(image)
    bits = np.unpackbits(np.frombuffer(pixels, "u1"), bitorder="little")
    seen = bits[: count * rows * columns].reshape(count, rows, columns)
    dark = 1 if image.PhotometricInterpretation == "MONOCHROME1" else 0
    for box in boxes:
        seen[:, box.row : box.row + box.height, box.column : box.column + box.width] = dark
    return np.packbits(bits, bitorder="little").tobytes()


def _shape(image: Dataset) -> tuple[int, int, int]:
    return max(int(image.get("NumberOfFrames") or 1), 1), int(image.Rows), int(image.Columns)


def _array(pixels: bytes, kind: str, count: int) -> np.ndarray:
    """Return a writable copy of the first `count` values. Raises `UnreadablePixelsError` where bytes miss."""
    if len(pixels) < count * np.dtype(kind).itemsize:
        raise UnreadablePixelsError("too few bytes")
    return np.frombuffer(pixels, kind, count).copy()


def _swap(pixels: bytes) -> bytes:
    return np.frombuffer(pixels, "<u2").byteswap().tobytes()


_DESCRIBE_THE_CODING = (
    0x00280004,  # PhotometricInterpretation
    0x00280006,  # PlanarConfiguration
    0x7FE00001,  # ExtendedOffsetTable
    0x7FE00002,  # ExtendedOffsetTableLengths
    0x7FE00010,  # PixelData
)

"""Stored pixel values of DICOM images, whatever their transfer syntax.

Belongs here: finding and decoding pixel data, sign and unused bits. Does not: Hounsfield units
(`imaging.hu`), positions (`dicom.series`), colour (refused).

Native little-endian pixels are read straight from the end of the file when the element header found there
proves the place; everything else goes through pydicom with its plug-ins (GDCM, pyjpegls, openjpeg, RLE).
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ct_assets.dicom import codestream, jpeg_extended
from ct_assets.dicom.codestream import Precision

Stored = npt.NDArray[np.signedinteger | np.unsignedinteger]

NATIVE = frozenset(
    (
        str(ImplicitVRLittleEndian),
        str(ExplicitVRLittleEndian),
        str(ExplicitVRBigEndian),
        str(DeflatedExplicitVRLittleEndian),
    )
)
PIXEL_HEADER = 12
"""Bytes of tag, VR and length of Pixel Data in explicit VR; with implicit VR the last 8 of them."""
SMALLEST_HEADER = 128
PIXEL_DATA_TAG = b"\xe0\x7f\x10\x00"
END_OF_IMAGE = b"\xff\xd9"
"""Last marker of JPEG and JPEG-LS images (ISO 10918-1, 14495-1) and JPEG 2000 codestreams (15444-1)."""
LONGEST_FRAME_PADDING = 64
PLUGIN_ORDER = ("pyjpegls", "pylibjpeg", "gdcm", "pydicom")
"""Quickest first among those that agree bit for bit; Pillow is left out, it knows 8-bit JPEG only."""


class PixelError(Exception):
    """Pixel data that cannot be read; `code` is the reason code for the tables."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """What the image pixel module says (PS3.3 C.7.6.3)."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    samples: int = 1
    frames: int = 1

    @classmethod
    def of(cls, dataset: Dataset) -> "PixelFormat":
        """Read the format from a header. Raises `PixelError` where an element is missing or absurd."""
        try:
            allocated = int(dataset.BitsAllocated)
            stored = int(dataset.get("BitsStored") or allocated)
            return cls(
                transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
                rows=int(dataset.Rows),
                columns=int(dataset.Columns),
                bits_allocated=allocated,
                bits_stored=stored,
                high_bit=int(dataset.get("HighBit", stored - 1)),
                is_signed=int(dataset.get("PixelRepresentation") or 0) == 1,
                samples=int(dataset.get("SamplesPerPixel") or 1),
                frames=int(dataset.get("NumberOfFrames") or 1),
            )
        except (AttributeError, TypeError, ValueError):
            raise PixelError("pixel_format_invalid", "the image pixel module is incomplete") from None

    @property
    def dtype(self) -> np.dtype:
        """The numpy type of one stored value, little-endian."""
        return np.dtype(f"<{'i' if self.is_signed else 'u'}{self.bits_allocated // 8}")

    def check_gray(self) -> None:
        """Refuse what is no plain grey image of 8, 16 or 32 bits a value."""
        if self.samples != 1:
            raise PixelError("not_monochrome", f"SamplesPerPixel (0028,0002) is {self.samples}, not 1")
        sensible = 1 <= self.bits_stored <= self.bits_allocated and (
            self.bits_stored - 1 <= self.high_bit < self.bits_allocated
        )
        if self.bits_allocated not in (8, 16, 32) or not sensible or min(self.rows, self.columns) < 1:
            raise PixelError(
                "pixel_format_invalid",
                f"{self.bits_stored} of {self.bits_allocated} bits, high bit {self.high_bit}, "
                f"{self.rows} x {self.columns}",
            )


class FrameReader:
    """Reads stored values image by image; keeps one opened multi-frame object, so that it is parsed once."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._dataset: Dataset | None = None
        self._precisions: list[Precision | None] = []

    def read(self, path: Path, form: PixelFormat, frame: int | None = None) -> tuple[Stored, bool]:
        """Return the stored values of one image, (rows, columns), and whether unused bits held anything.

        `frame` counts from 0 in a multi-frame image. Sign and unused bits follow PS3.5 section 8.1.1: only
        the bits from High Bit down to Bits Stored count. Raises `PixelError`.
        """
        form.check_gray()
        stored = _native_at_end(path, form, frame or 0)
        if stored is None:
            stored = decode_frames(self._open(path, form), form, frame or 0)
            if form.transfer_syntax_uid not in NATIVE and (stated := self._precisions[frame or 0]):
                _check_precision(stored, form, stated)
        return clear_unused_bits(stored, form)

    def _open(self, path: Path, form: PixelFormat) -> Dataset:
        if self._dataset is None or self._path != path:
            self._dataset, self._path = _dataset(path), path
            if form.transfer_syntax_uid not in NATIVE:
                _decoder(form)
                contents = _check_encapsulated(self._dataset, form)
                self._precisions = [codestream.precision(content) for content in contents]
        return self._dataset


def read_native(paths: Sequence[str], form: PixelFormat) -> Stored | None:
    """Return the stored values of single-frame images of one form, (images, rows, columns), bits as they lie.

    None where the pixels of any are compressed or not proven to lie at the end of its file: `FrameReader` then
    reads them one by one. Raises `OSError`.
    """
    implicit = form.transfer_syntax_uid == ImplicitVRLittleEndian
    if form.frames != 1 or (not implicit and form.transfer_syntax_uid != ExplicitVRLittleEndian):
        return None
    stored = np.empty((len(paths), form.rows, form.columns), form.dtype)
    size = stored[0].nbytes
    padded = size + size % 2
    lengths = {length.to_bytes(4, "little") for length in (size, padded)}
    heads = (
        {bytes(4) + PIXEL_DATA_TAG} if implicit else {PIXEL_DATA_TAG + vr for vr in (b"OW\0\0", b"OB\0\0")}
    )
    head = bytearray(PIXEL_HEADER)
    for path, values in zip(paths, stored, strict=True):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            at = os.fstat(descriptor).st_size - padded - PIXEL_HEADER
            if at < SMALLEST_HEADER or os.preadv(descriptor, [head, values.data], at) != PIXEL_HEADER + size:
                return None
        finally:
            os.close(descriptor)
        if implicit:
            head[:4] = bytes(4)  # the end of the element before
        if bytes(head[:8]) not in heads or bytes(head[8:]) not in lengths:
            return None
    return stored


def clear_unused_bits(stored: Stored, form: PixelFormat) -> tuple[Stored, bool]:
    """Take sign and value from the stored bits alone; tell whether bits beyond them carried something else.

    A plain missing sign extension is mended without a word; anything else in the unused bits (overlays of
    old scanners, values that do not fit Bits Stored) is worth a warning.
    """
    width, bits = form.bits_allocated, form.bits_stored
    shift = form.high_bit + 1 - bits
    if bits == width:
        return stored, False
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if form.is_signed else (0, (1 << bits) - 1)
    smallest, largest = int(stored.min()), int(stored.max())
    if shift == 0 and low <= smallest and largest <= high:
        return stored, False
    unsigned = stored.astype(np.dtype(f"u{width // 8}")) >> shift
    mask = (1 << bits) - 1
    value = (unsigned & mask).astype(stored.dtype)
    if form.is_signed:
        value = ((value << (width - bits)) >> (width - bits)).astype(stored.dtype)
    only_sign_missing = shift == 0 and form.is_signed and smallest >= 0 and largest <= mask
    beyond = False if only_sign_missing else bool(np.any(_beyond(unsigned, value, form, shift)))
    return value, beyond


def _beyond(unsigned: Stored, value: Stored, form: PixelFormat, shift: int) -> npt.NDArray[np.bool_]:
    """Tell where the bits above the stored ones are neither zero nor the sign."""
    above = unsigned >> form.bits_stored
    ones = (1 << (form.bits_allocated - shift - form.bits_stored)) - 1
    return (above != 0) & ~((above == ones) & (value < 0))


def _native_at_end(path: Path, form: PixelFormat, frame: int) -> Stored | None:
    """Read uncompressed little-endian pixels from the end of the file; None where they are not proven there.

    Proven means: the element header of Pixel Data (7FE0,0010), with exactly the length that the image pixel
    module implies, stands right before the last so many bytes of the file.
    """
    implicit = form.transfer_syntax_uid == ImplicitVRLittleEndian
    if not implicit and form.transfer_syntax_uid != ExplicitVRLittleEndian:
        return None
    count = form.rows * form.columns
    size = count * form.frames * form.bits_allocated // 8
    padded = size + size % 2
    with path.open("rb") as opened:
        value_at = opened.seek(0, 2) - padded
        if value_at < 140:
            return None
        opened.seek(value_at - 12)
        header = opened.read(12)
        if implicit:
            proven = header[4:8] == PIXEL_DATA_TAG
        else:
            proven = header[:4] == PIXEL_DATA_TAG and header[4:8] in (b"OW\0\0", b"OB\0\0")
        if not proven or int.from_bytes(header[8:], "little") not in (size, padded):
            return None
        opened.seek(value_at + frame * count * form.bits_allocated // 8)
        stored = np.fromfile(opened, form.dtype, count)
    return stored.reshape(form.rows, form.columns)


def _dataset(path: Path) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path)
    except (InvalidDicomError, EOFError, OSError, ValueError) as error:
        raise PixelError(
            "pixel_data_unreadable", f"the file cannot be read: {type(error).__name__}"
        ) from None
    if "PixelData" not in dataset:
        raise PixelError("no_pixel_data", "Pixel Data (7FE0,0010) is missing")
    return dataset


def decode_frames(dataset: Dataset, form: PixelFormat, frame: int) -> Stored:
    """Decode one frame (rows, columns) of a dataset with pixels. Raises `PixelError`."""
    for _, decoded in iterate_frames(dataset, form, [frame]):
        return decoded
    raise PixelError("truncated_pixel_data", "the frame is not there")


def iterate_frames(dataset: Dataset, form: PixelFormat, frames: list[int]) -> Iterator[tuple[int, Stored]]:
    """Decode several frames one after the other; yield (frame, values (rows, columns)).

    A decoder that fails is followed by the next one, from the frame on where it failed. Single-bit frames
    come unpacked, a byte a pixel. Raises `PixelError`.
    """
    syntax = UID(form.transfer_syntax_uid)
    if syntax == jpeg_extended.SYNTAX and form.bits_stored > 8:
        yield from _jpeg_extended(dataset, form, frames)
        return
    decoder = _decoder(form)
    left = list(frames)
    failure: Exception | None = None
    for plugin in [name for name in PLUGIN_ORDER if name in decoder._available] or [""]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                several = decoder.iter_array(dataset, indices=left.copy(), raw=True, decoding_plugin=plugin)
                for decoded, _ in several:
                    if decoded.shape != (form.rows, form.columns):
                        raise PixelError("pixel_data_length_mismatch", "frames have another size than stated")
                    yield left.pop(0), np.ascontiguousarray(decoded)
        except PixelError:
            raise
        except Exception as error:  # decoders raise whatever their libraries do
            failure = error
        if not left:
            return
    code = "truncated_pixel_data" if _is_short(dataset, form) else "pixel_data_unreadable"
    raise PixelError(code, f"pixel data cannot be decoded: {type(failure).__name__}") from None


def _decoder(form: PixelFormat) -> Decoder:
    """Return pydicom's decoder of the transfer syntax. Raises `PixelError` where there is none."""
    syntax = UID(form.transfer_syntax_uid)
    try:
        return get_decoder(syntax)
    except NotImplementedError:  # what pydicom raises for a syntax that it does not know
        raise PixelError("transfer_syntax_unsupported", f"no decoder for {syntax}") from None


def _jpeg_extended(dataset: Dataset, form: PixelFormat, frames: list[int]) -> Iterator[tuple[int, Stored]]:
    try:
        several = list(generate_frames(dataset.PixelData, number_of_frames=form.frames))
        for frame in frames:
            yield frame, jpeg_extended.decode(several[frame], form)
    except Exception as error:
        raise PixelError("pixel_data_unreadable", f"JPEG Extended: {type(error).__name__}") from None


def _is_short(dataset: Dataset, form: PixelFormat) -> bool:
    bits = form.rows * form.columns * form.samples * form.frames * form.bits_allocated
    return form.transfer_syntax_uid in NATIVE and len(dataset.PixelData) < (bits + 7) // 8


def _check_precision(stored: Stored, form: PixelFormat, stated: Precision) -> None:
    """Refuse values whose sign depends on whether codestream or header holds (PS3.5 A.4.4).

    Where both have one sign, the decoder's values are right whatever the bits. Where the signs differ and the bits
    agree, or no value reaches the codestream's highest bit, both readings give the same values. JPEG and JPEG-LS
    know no sign: decoders extend the codestream's highest bit or not, as they like.
    """
    if stated.is_signed == form.is_signed or (stated.is_signed is None and not form.is_signed):
        return
    if form.is_signed and stated.bits >= form.bits_stored:
        return
    if not np.any((stored.view(f"u{stored.dtype.itemsize}") >> (stated.bits - 1)) & 1):
        return
    raise PixelError(
        "codestream_contradicts_header",
        f"the codestream has {stated.bits} bits, signed: {stated.is_signed}; BitsStored (0028,0101) is "
        f"{form.bits_stored}, PixelRepresentation (0028,0103) {int(form.is_signed)}",
    )


def _check_encapsulated(dataset: Dataset, form: PixelFormat) -> list[bytes]:
    """Return the compressed frames; refuse cut-off ones, which some decoders fill up silently."""
    table: dict[str, Any] = {}
    if "ExtendedOffsetTable" in dataset:
        table["extended_offsets"] = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    try:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=form.frames, **table))
    except Exception as error:
        raise PixelError("truncated_pixel_data", f"fragments are damaged: {type(error).__name__}") from None
    if len(frames) < form.frames:
        raise PixelError("truncated_pixel_data", f"{len(frames)} of {form.frames} frames are there")
    if form.transfer_syntax_uid == RLELossless:
        return frames
    for content in frames:
        if END_OF_IMAGE not in content[-LONGEST_FRAME_PADDING:]:
            raise PixelError("truncated_pixel_data", "a compressed frame ends before its last marker")
    return frames

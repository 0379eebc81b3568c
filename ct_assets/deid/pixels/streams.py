"""Pixel data of one instance without anything that is no picture.

Belongs here: choosing between native and encapsulated, the conditions under which an object cannot be cleaned,
and the proof that each changed frame decodes as before. Does not: text in the picture (`burned_in`), parsing
(`native`, `encapsulated` and the codecs).

The image is never touched: native samples stay byte for byte, entropy-coded data too. What a decoder skips goes:
comments and metadata of codestreams, bytes behind the last pixel or the end of an image, surplus frames, entries
of offset tables that point nowhere.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from blake3 import blake3
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from ct_assets.deid.pixels import encapsulated, frames, native
from ct_assets.deid.pixels.codestream import DamagedStreamError, Shape, UnparsedStreamError
from ct_assets.deid.pixels.encapsulated import Tables
from ct_assets.deid.pixels.frames import PIXEL_DATA, PIXEL_TAGS
from ct_assets.deid.pixels.native import Samples
from ct_assets.dicom import jpeg_extended
from ct_assets.dicom.pixels import PixelFormat

OFFSETS, LENGTHS, TOTAL_LENGTH = 0x7FE00001, 0x7FE00002, 0x7FE00003
"""ExtendedOffsetTable, ExtendedOffsetTableLengths, EncapsulatedPixelDataValueTotalLength."""
_BITS_OF_FLOATS = {0x7FE00008: 32, 0x7FE00009: 64}
_LAST = ("gdcm", "pydicom")
_IMPLICIT, _EXPLICIT_BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


class UncleanablePixelsError(Exception):
    """Pixel data that may hold more than a picture and cannot be freed of it; `code` is the reason."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Stripped:
    """What was taken out of the pixel data of one instance."""

    removed: Mapping[str, str] = field(default_factory=dict)
    """Size by kind, in words; empty where the pixel data are as they came."""
    decoded_digest: str = ""
    """BLAKE3 of what the changed frames decode to, the same before and after; "" where nothing was decoded."""

    @property
    def action(self) -> str:
        """The action of the audit line."""
        if not self.removed:
            return "kept"
        return "image kept, removed " + ", ".join(f"{kind} ({size})" for kind, size in self.removed.items())


def _sizes(removed: Mapping[str, int]) -> dict[str, str]:
    """Return sizes of at most four digits: a longer number could be some patient's."""
    sizes = {}
    for kind, count in sorted(removed.items()):
        unit = "bytes"
        for larger in ("kB", "MB", "GB"):
            if count >= 10_000:
                count, unit = -(-count // 1000), larger
        sizes[kind] = f"{count} {unit}"
    return sizes


def strip(dataset: Dataset, syntax: str, *, is_little_endian: bool) -> Stripped:
    """Take everything out of the pixel data of `dataset`, in place, that decodes to no pixel.

    Raises `UncleanablePixelsError`, the dataset being as it was.
    """
    present = [int(tag) for tag in PIXEL_TAGS if tag in dataset._dict]
    if not present:
        return Stripped()
    element = dataset._dict[Tag(present[0])]
    if len(present) > 1 or not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        raise UncleanablePixelsError("pixel_stream_damaged")
    layout = _layout_of(dataset, present[0])
    try:
        if syntax in encapsulated.CODECS:
            return _strip_encapsulated(dataset, element, syntax, layout)
        known = UID(syntax)
        if syntax and (not known.is_transfer_syntax or known.is_encapsulated):
            raise UncleanablePixelsError("pixel_stream_unparsed")
        return _strip_native(dataset, element, layout, is_little_endian=is_little_endian)
    except UnparsedStreamError:
        raise UncleanablePixelsError("pixel_stream_unparsed") from None
    except (DamagedStreamError, IndexError, ValueError):
        raise UncleanablePixelsError("pixel_stream_damaged") from None


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the header says of the pixels."""

    shape: Shape
    frames: int
    is_halved: bool
    samples: Samples


_HEADER = tuple(
    Tag(tag)
    for tag in (
        *(0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011),
        *(0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120),
    )
)
_layouts: dict[object, _Layout] = {}
"""Layouts by the raw values of the header: those of a series are equal, and decoding them takes 0.1 ms."""


def _layout_of(dataset: Dataset, tag: int) -> _Layout:
    """Return the layout of the pixels in the element `tag`. Raises `UncleanablePixelsError`."""
    own = dataset._dict
    header = [own.get(one) for one in _HEADER]
    raw = [(one.VR, one.value, one.is_little_endian) for one in header if isinstance(one, RawDataElement)]
    is_raw = len(raw) == len(header) - header.count(None)
    key = (tag, tuple(one is None for one in header), *raw) if is_raw else None
    layout = _layouts.get(key) if key is not None else None
    if layout is None:
        layout = _read_layout(dataset, tag)
        if key is not None:
            if len(_layouts) > 256:
                _layouts.clear()
            _layouts[key] = layout
    return layout


def _read_layout(dataset: Dataset, tag: int) -> _Layout:
    allocated = _BITS_OF_FLOATS.get(tag) or frames.number(dataset, 0x00280100)
    shape = Shape(
        frames.number(dataset, 0x00280010),
        frames.number(dataset, 0x00280011),
        frames.number(dataset, 0x00280002, 1),
        allocated,
    )
    stored = frames.number(dataset, 0x00280101) or allocated
    padding = frames.value(dataset, 0x00280120)
    samples = Samples(
        stored,
        frames.number(dataset, 0x00280102, stored - 1),
        frames.number(dataset, 0x00280103) == 1,
        padding if isinstance(padding, int) else None,
    )
    is_image = min(shape.rows, shape.columns, shape.samples, shape.bits) > 0
    if not is_image or (tag == PIXEL_DATA and not samples.are_sensible(allocated)):
        raise UncleanablePixelsError("pixel_stream_damaged")
    count = max(frames.number(dataset, 0x00280008, 1), 1)
    return _Layout(shape, count, frames.text(dataset, 0x00280004) == "YBR_FULL_422", samples)


def _strip_native(
    dataset: Dataset, element: RawDataElement, layout: _Layout, *, is_little_endian: bool
) -> Stripped:
    value, shape = element.value or b"", layout.shape
    expected = native.expected_bytes(shape, layout.frames, is_halved=layout.is_halved)
    if element.length == 0xFFFFFFFF or len(value) < expected:
        raise DamagedStreamError("fewer bytes than pixels")
    if shape.bits == 8 and not is_little_endian and element.VR == "OW":
        expected += expected & 1  # the last word holds its padding before its sample
    bits = shape.rows * shape.columns * shape.samples * layout.frames * shape.bits % 8
    if (
        int(element.tag) == PIXEL_DATA
        and shape.bits in (8, 16, 32)
        and layout.samples.bits_stored < shape.bits
    ):
        kind = (
            f"{'<' if is_little_endian else '>'}{'i' if layout.samples.is_signed else 'u'}{shape.bits // 8}"
        )
        _check_bits(np.frombuffer(value, kind, expected * 8 // shape.bits), layout.samples)
    kept, removed = native.stripped(value, expected, bits or 8)
    if not removed:
        return Stripped()
    _replace(dataset, element, kept)
    return Stripped(_sizes({"bytes behind the last pixel": removed}), blake3(kept[:expected]).hexdigest())


def _strip_encapsulated(dataset: Dataset, element: RawDataElement, syntax: str, layout: _Layout) -> Stripped:
    if element.length != 0xFFFFFFFF:
        raise DamagedStreamError("compressed pixels of defined length")
    tables = Tables(_raw(dataset, OFFSETS), _raw(dataset, LENGTHS))
    done = encapsulated.clean(
        element.value or b"",
        syntax,
        layout.shape,
        layout.frames,
        tables,
        lambda before, after: _decoded_alike(dataset, syntax, before, after) is not None,
    )
    stored = layout.samples.bits_stored
    is_wider = any(one.shape is None or one.shape.bits > stored for one in done.frames)
    if stored < layout.shape.bits and is_wider:
        _check_decoded_bits(dataset, syntax, layout.samples, [one.content for one in done.frames])
    if not done.removed:
        return Stripped()
    digest = _prove(dataset, syntax, done.changed)
    _replace(dataset, element, done.value)
    for tag, content in ((OFFSETS, done.tables.offsets), (LENGTHS, done.tables.lengths)):
        table = dataset._dict.get(Tag(tag))
        if content is not None and isinstance(table, RawDataElement):
            _replace(dataset, table, content)
    dataset._dict.pop(Tag(TOTAL_LENGTH), None)
    return Stripped(_sizes(done.removed), digest)


def _check_bits(stored: np.ndarray, samples: Samples) -> None:
    """Refuse words with something in bits that no stored value uses (PS3.5 8.1.1)."""
    if native.uses_other_bits(stored, samples):
        raise UncleanablePixelsError("unused_bits")


def _check_decoded_bits(dataset: Dataset, syntax: str, samples: Samples, contents: list[bytes]) -> None:
    for content in contents:
        decoded = next((array for array in _decodings(dataset, syntax, content) if array is not None), None)
        if decoded is None:
            raise UncleanablePixelsError("pixel_stream_damaged")
        if decoded.ndim == 2:
            kind = "i" if samples.is_signed else "u"
            _check_bits(decoded.view(f"{kind}{decoded.dtype.itemsize}"), samples)


def _prove(dataset: Dataset, syntax: str, changed: tuple[tuple[bytes, bytes], ...]) -> str:
    """Return the digest of what the changed frames decode to. Raises where it is not what it was."""
    digest = blake3()
    for before, after in changed:
        decoded = _decoded_alike(dataset, syntax, before, after)
        if decoded is None:
            raise UncleanablePixelsError("pixel_stream_damaged")
        digest.update(decoded.tobytes())
    return digest.hexdigest() if changed else ""


def _decoded_alike(dataset: Dataset, syntax: str, before: bytes, after: bytes) -> np.ndarray | None:
    """Return what both frames decode to, None where it differs.

    Raises `DamagedStreamError` where no decoder takes the first one.
    """
    is_readable = False
    for old, new in zip(_decodings(dataset, syntax, before), _decodings(dataset, syntax, after), strict=True):
        if old is not None and new is not None:
            return new if old.dtype == new.dtype and np.array_equal(old, new) else None
        is_readable |= old is not None
    if not is_readable:
        raise DamagedStreamError("no decoder takes the frame")
    return None


def _decodings(dataset: Dataset, syntax: str, content: bytes) -> Iterator[np.ndarray | None]:
    """Yield one compressed frame as each decoder in turn gives it, without change of colour; None for a failure.

    pydicom's own decoder of RLE takes twenty times as long as pylibjpeg's, so it comes behind it. GDCM comes last:
    damaged JPEG can end its process.
    """
    single = frames.image_pixel(dataset)
    for tag in (OFFSETS, LENGTHS, 0x00280008):
        if tag in single:
            del single[tag]
    single.PixelData = encapsulate([content + b"\0" * (len(content) & 1)])
    single["PixelData"].VR, single["PixelData"].is_undefined_length = "OB", True
    if syntax == jpeg_extended.SYNTAX and frames.number(dataset, 0x00280101) > 8:
        yield _or_none(lambda: jpeg_extended.decode(content, PixelFormat.of(single)))
        return
    decoder = get_decoder(UID(syntax))
    for plugin in sorted(decoder._available, key=lambda name: (*(name == last for last in _LAST), name)):
        yield _or_none(partial(_first_frame, decoder, single, plugin))


def _first_frame(decoder: Decoder, single: Dataset, plugin: str) -> np.ndarray:
    several = decoder.iter_array(single, raw=True, decoding_plugin=plugin, correct_unused_bits=False)
    return next(several)[0]


def _or_none(decode: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        return np.ascontiguousarray(decode())
    except Exception:  # decoders raise whatever their libraries do
        return None


def _raw(dataset: Dataset, tag: int) -> bytes | None:
    element = dataset._dict.get(Tag(tag))
    if element is None:
        return None
    return element.value or b"" if isinstance(element, RawDataElement) else b""


def _replace(dataset: Dataset, element: RawDataElement, value: bytes) -> None:
    length = element.length if element.length == 0xFFFFFFFF else len(value)
    dataset._dict[BaseTag(element.tag)] = element._replace(value=value, length=length)

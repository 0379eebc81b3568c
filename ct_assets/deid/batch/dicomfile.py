"""Reading whatever comes as a file, and writing elements byte by byte.

Belongs here: telling DICOM from other files, truncated from whole ones, and the encoding of elements in the
source's own transfer syntax. pydicom reads; elements stay raw, so that what is kept is kept byte for byte.
Does not: what happens to an element (`engine`).
"""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from collections.abc import Sequence as ItemSequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from io import BytesIO

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import dcmread
from pydicom.sequence import Sequence
from pydicom.uid import UID
from pydicom.valuerep import STANDARD_VR
from pydicom.values import convert_SQ

from ct_assets.deid.batch import odd_files, plainfile, raw_items
from ct_assets.deid.batch.plainfile import CHARACTER_SET, LONG_VRS, PIXEL_DATA
from ct_assets.deid.batch.raw_items import RawItems
from ct_assets.deid.elements import vrs
from ct_assets.deid.elements.rules import vr_in_dictionary
from ct_assets.dicom import unknown_sequences

DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
DEFLATED_EXPLICIT = "1.2.840.10008.1.2.1.99"
DEFLATED = frozenset((DEFLATED_EXPLICIT,))
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
IMPLEMENTATION_CLASS_UID = "2.25.191234523771623598247182903412985634177"
IMPLEMENTATION_VERSION = "CT_ASSETS_1"
PIXEL_TAGS, UNDEFINED = plainfile.PIXEL_TAGS, plainfile.UNDEFINED
LONG_CHUNK_BYTES = 1 << 16

_PADDED_BY_BLANK = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT")
)
_KNOWN_GROUPS = frozenset((0x0002, 0x0008))


@contextmanager
def silence() -> Iterator[None]:
    """Keep pydicom's warnings and log lines inside: they quote values of the files."""
    logger = logging.getLogger("pydicom")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled


class NotReadableError(Exception):
    """A file that cannot be taken as a DICOM instance; `code` is its reason."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Source:
    """A DICOM file as read: elements raw, values as bytes."""

    dataset: Dataset
    transfer_syntax: str
    is_implicit: bool
    is_little_endian: bool


def read(content: bytes) -> Source:
    """Read a file's bytes. Raises `NotReadableError` with a reason code.

    A file without preamble is taken where it begins like a data set of group 0002 or 0008. Values that end
    before their length says make a file `truncated`.
    """
    if not content:
        raise NotReadableError("empty_file")
    source = read_beginning(content, len(content))
    if source is None and plainfile.repeats_identity(content):
        raise NotReadableError("repeated_element")
    return source or _read_odd(content)


def read_beginning(content: bytes, size: int) -> Source | None:
    """Read an ordinary file of `size` bytes from as many of its first bytes as there are.

    Pixels that lie beyond them are there without a value. None where the file has to be read as a whole.
    """
    try:
        dataset, is_implicit = plainfile.read(content, size)
    except plainfile.NotPlainError:
        return None
    if not dataset._dict or _lacks_pixels(dataset):
        return None
    return Source(dataset, _transfer_syntax(dataset), is_implicit, True)


def _read_odd(content: bytes) -> Source:
    """Read a file that is out of the ordinary, put right where its bytes show what its header should say."""
    if odd_files.is_archive(content) and content[128:132] != b"DICM":
        raise NotReadableError("archive")
    try:
        right = odd_files.put_right(content)
    except odd_files.DamagedDeflateError as error:
        raise NotReadableError("truncated" if error.is_short else "damaged_deflate") from None
    source = _read_right(right)
    if not odd_files.is_deflated(content):
        return source
    source.dataset.file_meta.TransferSyntaxUID = UID(DEFLATED_EXPLICIT)  # it is written deflated again
    return replace(source, transfer_syntax=DEFLATED_EXPLICIT)


def _read_right(content: bytes) -> Source:
    """Read a file whose data set is encoded as its header says, but for VRs and what stands behind it."""
    is_stray = False
    try:
        dataset, is_implicit = plainfile.read(content, is_lenient=True)
        if dataset._dict and not _lacks_pixels(dataset):
            return Source(dataset, _transfer_syntax(dataset), is_implicit, True)
    except plainfile.CutOffError:
        raise NotReadableError("truncated") from None
    except plainfile.StrayBytesError:
        is_stray = True
    except plainfile.NotPlainError:
        pass
    try:
        return _read_with_pydicom(content)
    except NotReadableError as error:
        raise NotReadableError(
            "stray_bytes" if is_stray and error.code == "truncated" else error.code
        ) from None


def _read_with_pydicom(content: bytes) -> Source:
    has_preamble = content[128:132] == b"DICM"
    if not has_preamble and not _begins_like_a_data_set(content):
        raise NotReadableError("not_dicom")
    try:
        with silence():
            dataset = dcmread(BytesIO(content), force=not has_preamble)
    except EOFError:
        raise NotReadableError("truncated") from None
    except RecursionError:
        raise NotReadableError("nested_too_deep") from None
    except Exception:
        raise NotReadableError("unreadable_dicom") from None
    if not elements(dataset):
        raise NotReadableError("not_dicom" if not has_preamble else "truncated")
    if any(is_truncated(element) for element in elements(dataset).values()) or _lacks_pixels(dataset):
        raise NotReadableError("truncated")
    is_implicit, is_little = dataset.original_encoding
    return Source(dataset, _transfer_syntax(dataset), bool(is_implicit), bool(is_little))


def of_changed(source: Source) -> Source:
    """Return the source again after its pixels were changed in place: written and read, so raw once more."""
    from pydicom import dcmwrite

    buffer = BytesIO()
    with silence():
        dcmwrite(buffer, source.dataset, enforce_file_format=False)
    return read(buffer.getvalue())


def elements(dataset: Dataset) -> dict[int, RawDataElement | DataElement]:
    """Return the elements as they were read: raw, except sequences of undefined length.

    pydicom converts SpecificCharacterSet while it reads; here it is made raw again.
    """
    own: dict[int, RawDataElement | DataElement] = dataset._dict  # type: ignore[assignment]
    converted = own.get(CHARACTER_SET)
    if converted is not None and not isinstance(converted, RawDataElement):
        own[CHARACTER_SET] = _raw_again(converted, dataset)
    return own


def _raw_again(element: DataElement, dataset: Dataset) -> RawDataElement:
    value = element.value
    terms = [value] if isinstance(value, str) else list(value or ())
    raw = "\\".join(str(term) for term in terms).encode("ascii", "replace")
    raw += b" " * (len(raw) & 1)
    is_implicit, is_little = dataset.original_encoding
    return RawDataElement(
        element.tag, "CS", len(raw), raw, 0, bool(is_implicit), is_little is not False, True
    )


def raw_bytes(element: RawDataElement) -> bytes:
    """Return the value of a raw element; b"" where it has none."""
    return element.value or b""


def items_of(element: RawDataElement | DataElement) -> ItemSequence[Dataset] | None:
    """Return the items of a sequence, also of one stored as UN; None where the bytes are no sequence."""
    if not isinstance(element, RawDataElement):
        if not isinstance(element.value, Sequence):
            return None
        items = list(element.value)
        # A UN of undefined length with Explicit VR inside: pydicom reads past the ends of values.
        return None if any(is_truncated(one) for item in items for one in elements(item).values()) else items
    value = raw_bytes(element)
    if not value:
        return []
    if element.VR == "UN":
        return unknown_sequences.items(value)
    if not value.startswith(b"\xfe\xff\x00\xe0" if element.is_little_endian else b"\xff\xfe\xe0\x00"):
        return None
    places = raw_items.parted(value) if element.is_little_endian and len(value) > 8 * raw_items.MANY else None
    if places is not None and len(places) >= raw_items.MANY:
        return RawItems(value, places, partial(_item_of, is_implicit=element.is_implicit_VR))
    try:
        return list(convert_SQ(value, element.is_implicit_VR, element.is_little_endian, None))
    except Exception:
        return None


def _item_of(raw: bytes, *, is_implicit: bool) -> Dataset:
    """Return one item of a little-endian sequence from its bytes."""
    with suppress(plainfile.NotPlainError):
        return plainfile.item(raw, is_implicit=is_implicit)
    head = struct.pack("<HHL", 0xFFFE, 0xE000, len(raw))
    (item,) = convert_SQ(head + raw, is_implicit, True, None)
    return item


def text_of(dataset: Dataset, tag: int) -> str:
    """Return a short ASCII value of the root (a code, date or age); "" where there is none."""
    element = elements(dataset).get(tag)
    if not isinstance(element, RawDataElement):
        return ""
    return raw_bytes(element).decode("ascii", "replace").strip(" \0")


def is_truncated(element: RawDataElement | DataElement) -> bool:
    """Whether an element's value is shorter than its length says."""
    return (
        isinstance(element, RawDataElement)
        and element.length != UNDEFINED
        and len(element.value or b"") != element.length
    )


def effective_vr(element: RawDataElement | DataElement, tag: int) -> str:
    """Return the VR to go by: the dictionary's, where it has one; else the file's."""
    vr = vrs.contradicted(tag, element.VR) or element.VR
    if vr is None or vr == "UN" or vr not in STANDARD_VR:
        return vr_in_dictionary(tag)
    return str(vr)


def is_known_vr(element: RawDataElement | DataElement) -> bool:
    """Whether the file says no VR (implicit) or one that PS3.5 6.2 has."""
    return element.VR is None or element.VR in STANDARD_VR


def encode(tag: int, vr: str, value: bytes, source: Source) -> bytes:
    """Return one element in the source's encoding; the value is padded to even length (PS3.5 6.2)."""
    if len(value) & 1:
        value += b" " if vr in _PADDED_BY_BLANK else b"\0"
    return header(tag, vr, len(value), source) + value


def header(tag: int, vr: str, length: int, source: Source) -> bytes:
    """Return tag, VR and length in the source's encoding (PS3.5 7.1)."""
    order = "<" if source.is_little_endian else ">"
    group, element = tag >> 16, tag & 0xFFFF
    if source.is_implicit:
        return struct.pack(f"{order}HHL", group, element, length)
    code = vr.encode()
    if code not in LONG_VRS and length <= 0xFFFF:
        return struct.pack(f"{order}HH2sH", group, element, code, length)
    if code not in LONG_VRS:
        code = b"UN"  # PS3.5 6.2.2: too long for the short form
    return struct.pack(f"{order}HH2sHL", group, element, code, 0, length)


def item(content: bytes, source: Source) -> bytes:
    """Return a sequence item of defined length."""
    order = "<" if source.is_little_endian else ">"
    return struct.pack(f"{order}HHL", 0xFFFE, 0xE000, len(content)) + content


def raw_element(tag: int, element: RawDataElement, source: Source) -> tuple[bytes, ...]:
    """Return a raw element again as it was read, header and value apart; encapsulated pixels included."""
    vr = str(element.VR or "UN") if is_known_vr(element) else vr_in_dictionary(tag)
    value = raw_bytes(element)
    if element.length == UNDEFINED:
        order = "<" if source.is_little_endian else ">"
        end = struct.pack(f"{order}HHL", 0xFFFE, 0xE0DD, 0)
        return header(tag, vr, UNDEFINED, source), value, end
    return header(tag, vr, len(value), source), value


def file_bytes(
    chunks: list[bytes], sop_class: str, sop_instance: str, transfer_syntax: str
) -> Iterator[bytes]:
    """Yield a Part 10 file: empty preamble, file meta made anew, the data set (deflated where it was)."""
    little = Source(Dataset(), "", False, True)
    meta = b"".join(
        (
            encode(0x00020001, "OB", b"\0\1", little),
            encode(0x00020002, "UI", sop_class.encode(), little),
            encode(0x00020003, "UI", sop_instance.encode(), little),
            encode(0x00020010, "UI", transfer_syntax.encode(), little),
            encode(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode(), little),
            encode(0x00020013, "SH", IMPLEMENTATION_VERSION.encode(), little),
        )
    )
    head = b"\0" * 128 + b"DICM" + encode(0x00020000, "UL", struct.pack("<L", len(meta)), little) + meta
    if transfer_syntax not in DEFLATED:
        yield from _joined(head, chunks)
        return
    yield head
    packer = zlib.compressobj(level=6, wbits=-15)
    deflated = b"".join((*(packer.compress(chunk) for chunk in chunks), packer.flush()))
    yield deflated + (b"\0" if len(deflated) & 1 else b"")


def _joined(head: bytes, chunks: list[bytes]) -> Iterator[bytes]:
    """Yield the bytes again in few pieces: short chunks joined, long ones (pixels) as they are."""
    short = [head]
    for chunk in chunks:
        if len(chunk) < LONG_CHUNK_BYTES:
            short.append(chunk)
            continue
        yield b"".join(short)
        yield chunk
        short = []
    yield b"".join(short)


def _begins_like_a_data_set(content: bytes) -> bool:
    if len(content) < 16:
        return False
    group, element = struct.unpack("<HH", content[:4])
    if group not in _KNOWN_GROUPS or element > 0x0100:
        return False
    length = struct.unpack("<L", content[4:8])[0]
    return content[4:6].isalpha() or length < len(content)


def _transfer_syntax(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    stated = str(meta.get("TransferSyntaxUID", "") or "") if isinstance(meta, FileMetaDataset) else ""
    if stated:
        return stated.strip(" \0")
    is_implicit, is_little = dataset.original_encoding
    return IMPLICIT if is_implicit else "1.2.840.10008.1.2.1" if is_little else BIG_ENDIAN


def _lacks_pixels(dataset: Dataset) -> bool:
    """Whether there are fewer pixels than the header promises."""
    pixels = elements(dataset).get(PIXEL_DATA)
    if pixels is None or not isinstance(pixels, RawDataElement) or pixels.length == UNDEFINED:
        return False
    if not _is_native(_transfer_syntax(dataset)):
        return False  # what an unknown coding must hold, nobody knows; the verdict over pixels refuses it
    expected = _expected_pixel_bytes(dataset)
    return expected is not None and pixels.length < expected


@lru_cache(maxsize=64)
def _is_native(transfer_syntax: str) -> bool:
    syntax = UID(transfer_syntax)
    return syntax.is_transfer_syntax and not syntax.is_encapsulated


def _expected_pixel_bytes(dataset: Dataset) -> int | None:
    rows, columns, bits = (_unsigned(dataset, tag) for tag in (0x00280010, 0x00280011, 0x00280100))
    if rows is None or columns is None or bits is None:
        return None
    samples = _unsigned(dataset, 0x00280002) or 1
    own = elements(dataset)
    frames_element, colours = own.get(0x00280008), own.get(0x00280004)
    frames = 1
    if isinstance(frames_element, RawDataElement):
        text = raw_bytes(frames_element).strip(b" \0")
        frames = int(text) if text.isdigit() else 1
    if isinstance(colours, RawDataElement) and raw_bytes(colours).startswith(b"YBR_FULL_422"):
        samples = 2
    return (rows * columns * frames * samples * bits + 7) // 8


def _unsigned(dataset: Dataset, tag: int) -> int | None:
    element = elements(dataset).get(tag)
    if not isinstance(element, RawDataElement) or len(raw_bytes(element)) != 2:
        return None
    if element.VR not in (None, "US", "UN"):
        return None
    return int.from_bytes(raw_bytes(element), "little" if element.is_little_endian else "big")

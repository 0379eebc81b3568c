"""The quick way to the elements of an ordinary DICOM file, raw as they stand.

Belongs here: a walk over the top level of a little-endian Part 10 file (PS3.5 7.1, PS3.10 7.1) that makes
what pydicom's reader makes of it, in a fifth of the time. Does not: anything out of the ordinary. What is
told by `NotPlainError` (other byte orders, deflated, no preamble, elements out of order, VRs that are none,
values that end too early) pydicom reads, so that a doubtful file is judged in one place (`dicomfile`).
"""

import struct
from functools import cache, lru_cache
from io import BytesIO

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import STANDARD_VR

IMPLICIT = b"1.2.840.10008.1.2"
NOT_PLAIN = frozenset(
    (
        b"1.2.840.10008.1.2.2",  # big endian
        b"1.2.840.10008.1.2.1.99",  # deflated
        b"1.2.840.10008.1.2.4.95",  # JPIP referenced, deflated
        b"1.2.840.10008.1.2.4.205",  # JPIP HTJ2K referenced, deflated
    )
)
PIXEL_DATA = 0x7FE00010
PIXEL_TAGS = frozenset((PIXEL_DATA, 0x7FE00008, 0x7FE00009))
"""PixelData, FloatPixelData, DoubleFloatPixelData (PS3.3 C.7.6.3)."""
META_START = 132
_IDENTITY = frozenset(
    (0x00080016, 0x00080018, 0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x0020000D, 0x0020000E)
)
CHARACTER_SET = 0x00080005
UNDEFINED = 0xFFFFFFFF

LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_VRS = {vr.encode(): str(vr) for vr in STANDARD_VR}
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_LAST_GROUP = 0xFFFC
"""DataSetTrailingPadding (FFFC,FFFC) is the last element that a data set can hold (PS3.6)."""

_explicit = struct.Struct("<HH2sH").unpack_from
_implicit = struct.Struct("<HHL").unpack_from
_length = struct.Struct("<L").unpack_from
_tag_at = struct.Struct("<HH").unpack_from


class NotPlainError(Exception):
    """The file is out of the ordinary; ask pydicom."""


class StrayBytesError(NotPlainError):
    """Bytes stand where an element has to be: no VR, no tag of this place, or a length beyond the file."""


class CutOffError(NotPlainError):
    """The file ends inside the head of an element."""


class RepeatedElementError(NotPlainError):
    """An element that says whose or which object it is occurs twice (PS3.5 7.1: it may occur once)."""


def repeats_identity(content: bytes) -> bool:
    """Whether an element that says whose or which object it is occurs twice at the root."""
    try:
        read(content)
    except RepeatedElementError:
        return True
    except NotPlainError:
        return False
    return False


def read(content: bytes, size: int | None = None, *, is_lenient: bool = False) -> tuple[Dataset, bool]:
    """Return the data set with its file meta information, and whether it is Implicit VR.

    `content` may be the beginning of a file of `size` bytes: pixels that reach beyond it stay without their
    value (None) where the file is long enough to hold them. `is_lenient`: an element whose VR is none gets the
    dictionary's, and what stands behind the pixels and is no element is left out. Raises `NotPlainError`.
    """
    size = len(content) if size is None else size
    if content[128:132] != b"DICM":
        raise NotPlainError
    try:
        meta, position, syntax = _file_meta(content)
        is_implicit = syntax == IMPLICIT
        raw = _elements(content, position, size, is_implicit=is_implicit, is_lenient=is_lenient)
    except struct.error:
        raise (CutOffError if is_lenient else NotPlainError) from None
    dataset = Dataset(raw)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta._dict.update(meta)
    dataset.set_original_encoding(is_implicit, True)
    return dataset, is_implicit


def item(content: bytes, *, is_implicit: bool) -> Dataset:
    """Return the data set of a sequence item from its bytes, little-endian. Raises `NotPlainError`."""
    try:
        raw = _elements(content, 0, len(content), is_implicit=is_implicit, is_lenient=False)
    except struct.error:
        raise NotPlainError from None
    dataset = Dataset(raw)
    dataset.set_original_encoding(is_implicit, True)
    return dataset


def _file_meta(content: bytes) -> tuple[dict[BaseTag, RawDataElement], int, bytes]:
    """Return the elements of group 0002, where the data set begins, and the transfer syntax."""
    found: dict[BaseTag, RawDataElement] = {}
    position, syntax, previous = META_START, b"", 0
    while content[position : position + 2] == b"\x02\0":
        group, number, vr, length = _explicit(content, position)
        tag = group << 16 | number
        start = position + 8
        if vr in LONG_VRS:
            (length,) = _length(content, start)
            start += 4
        position = start + length
        if vr not in _VRS or tag <= previous or position > len(content):
            raise NotPlainError
        previous = tag
        value = content[start:position]
        if number == 0x0010:
            syntax = value.strip(b" \0")
        found[_tag(tag)] = RawDataElement(_tag(tag), _VRS[vr], length, value, start, False, True)
    if not syntax or syntax in NOT_PLAIN:
        raise NotPlainError
    return found, position, syntax


def _elements(
    content: bytes, position: int, size: int, *, is_implicit: bool, is_lenient: bool
) -> dict[BaseTag, RawDataElement | DataElement]:
    found: dict[BaseTag, RawDataElement | DataElement] = {}
    if is_implicit and content[position + 4 : position + 6] in _VRS:
        raise NotPlainError  # says implicit and is explicit
    here, previous, vr = len(content), 0, None
    while position < size:
        if is_lenient and _is_stray(content, position, previous, is_implicit):
            if not found.keys() & PIXEL_TAGS:
                raise StrayBytesError
            break
        if is_implicit:
            group, number, length = _implicit(content, position)
            start = position + 8
        else:
            group, number, coded, length = _explicit(content, position)
            start = position + 8
            if coded in LONG_VRS:
                (length,) = _length(content, start)
                start += 4
            vr = _VRS.get(coded)
            if vr is None:
                if not is_lenient:
                    raise NotPlainError
                vr = _dictionary_vr(group << 16 | number)
                vr = vr if len(vr) == 2 else "UN"
                start, length = _long_form(content, position) or (start, length)
        tag = group << 16 | number
        if tag <= previous or group > _LAST_GROUP:
            if tag in _IDENTITY and _tag(tag) in found:
                raise RepeatedElementError
            raise NotPlainError
        previous = tag
        value: bytes | None
        if length == UNDEFINED:
            if (vr or _dictionary_vr(tag)) == "SQ":
                declared = found.get(_tag(CHARACTER_SET))
                codecs = _codecs((declared.value if declared else None) or b"")
                found[_tag(tag)], position = _sequence(content, tag, start, is_implicit, codecs)
                continue
            if tag != PIXEL_DATA or vr is None:
                raise NotPlainError
            position = _after_fragments(content, start)
            value = content[start : position - 8]
        else:
            position = start + length
            if position <= here:
                value = content[start:position] if length else _empty(vr)
            elif position <= size and tag in PIXEL_TAGS:
                value = None
                here = size  # what stands behind the pixels is out of reach
                if position < size:
                    raise NotPlainError
            else:
                raise NotPlainError
        found[_tag(tag)] = RawDataElement(_tag(tag), vr, length, value, start, is_implicit, True)
    return found


def _is_stray(content: bytes, position: int, previous: int, is_implicit: bool) -> bool:
    """Whether no element begins here: too few bytes, a tag that does not ascend, or one that nobody knows with a
    VR that is none, or with a length beyond the file."""
    if position + 4 > len(content):
        return True
    group, number = _tag_at(content, position)
    tag = group << 16 | number
    if tag <= previous or group > _LAST_GROUP:
        return True
    if not _dictionary_vr(tag) and (not group & 1 or position + 8 > len(content)):
        return True
    if position + 8 > len(content):
        return False  # a known element, cut off inside its head
    if is_implicit:
        length = _length(content, position + 4)[0]
        return length != UNDEFINED and position + 8 + length > len(content) and not _dictionary_vr(tag)
    return content[position + 4 : position + 6] not in _VRS and not _dictionary_vr(tag)


def _long_form(content: bytes, position: int) -> tuple[int, int] | None:
    """Return where the value begins and its length, where a VR that is none has the long form (PS3.5 7.1.2): two
    bytes of zero before a length that leads to the next element."""
    if content[position + 6 : position + 8] != b"\0\0" or position + 12 > len(content):
        return None
    (length,) = _length(content, position + 8)
    end = position + 12 + length
    follows = content[end : end + 4]
    is_next = len(follows) == 4 and struct.unpack("<HH", follows) > struct.unpack_from(
        "<HH", content, position
    )
    return (position + 12, length) if end == len(content) or is_next else None


def _sequence(
    content: bytes, tag: int, start: int, is_implicit: bool, codecs: tuple[str, ...]
) -> tuple[DataElement, int]:
    """Return a sequence of undefined length as pydicom reads it, and where it ends."""
    opened = BytesIO(content)
    opened.seek(start)
    try:
        items = read_sequence(opened, is_implicit, True, UNDEFINED, list(codecs))
    except Exception:
        raise NotPlainError from None
    return DataElement(_tag(tag), "SQ", items, start, is_undefined_length=True), opened.tell()


def _after_fragments(content: bytes, position: int) -> int:
    """Return where encapsulated pixels end, their delimiter included (PS3.5 A.4)."""
    while True:
        head = content[position : position + 4]
        if head == _DELIMITER:
            if position + 8 > len(content):
                raise NotPlainError
            return position + 8
        if head != _ITEM:
            raise NotPlainError
        position += 8 + _length(content, position + 4)[0]


@lru_cache(maxsize=65536)
def _tag(tag: int) -> BaseTag:
    return BaseTag(tag)


@lru_cache(maxsize=256)
def _codecs(character_set: bytes) -> tuple[str, ...]:
    terms = character_set.decode("ascii", "ignore").strip(" \0").split("\\")
    try:
        return tuple(convert_encodings(terms))
    except Exception:
        return (default_encoding,)


@cache
def _dictionary_vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


@cache
def _empty(vr: str | None) -> bytes | None:
    """Return what pydicom gives for a value of no bytes."""
    empty = empty_value_for_VR(vr, raw=True)
    return empty if isinstance(empty, bytes) else None

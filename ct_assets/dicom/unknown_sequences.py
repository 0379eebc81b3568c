"""Sequences whose VR was lost: stored as UN, or private and in Implicit VR.

Belongs here: finding out whether the bytes of such a value are items, and in which encoding. PS3.5 6.2.2 says
Implicit VR Little Endian; writers before CP-246 left the items in Explicit VR. A reading counts only where every
length and every tag fits; bytes that fit neither way are no sequence. Does not: what happens to the items.
"""

import struct
from functools import lru_cache

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import STANDARD_VR

UNDEFINED = 0xFFFFFFFF
DEEPEST = 64
"""Levels of sequences of undefined length that are followed."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_VRS = {vr.encode(): str(vr) for vr in STANDARD_VR}
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_head = struct.Struct("<HHL").unpack_from
_explicit_head = struct.Struct("<HH2sH").unpack_from
_length = struct.Struct("<L").unpack_from


class _NoSequenceError(Exception):
    """The bytes do not fit this reading."""


def items(value: bytes) -> list[Dataset] | None:
    """Return the items in the value of an element of VR UN; None where the bytes are no sequence.

    Elements are raw; sequences in them are raw bytes too, to be read by their own VR.
    """
    for is_implicit in (True, False):
        try:
            found, end = _items(value, 0, len(value), is_implicit, 0)
        except (_NoSequenceError, struct.error):
            continue
        if end == len(value):
            return found
    return None


def _items(
    content: bytes, position: int, limit: int, is_implicit: bool, depth: int, *, delimited: bool = False
) -> tuple[list[Dataset], int]:
    """Return the items from `position` on and where they end: at `limit`, or at the delimiter."""
    if depth > DEEPEST:
        raise _NoSequenceError
    found: list[Dataset] = []
    while position < limit:
        group, element, length = _head(content, position)
        tag = group << 16 | element
        if delimited and tag == _SEQUENCE_END:
            return found, position
        if tag != _ITEM:
            raise _NoSequenceError
        position += 8
        end = limit if length == UNDEFINED else position + length
        if end > limit:
            raise _NoSequenceError
        dataset, position = _item(content, position, end, is_implicit, depth, delimited=length == UNDEFINED)
        found.append(dataset)
    if delimited:
        raise _NoSequenceError
    return found, position


def _item(
    content: bytes, position: int, limit: int, is_implicit: bool, depth: int, *, delimited: bool
) -> tuple[Dataset, int]:
    raw: dict[BaseTag, RawDataElement] = {}
    previous = 0
    while position < limit:
        group, element, length = _head(content, position)
        tag = group << 16 | element
        if delimited and tag == _ITEM_END:
            return _dataset(raw, is_implicit), position + 8
        if tag <= previous or group == 0xFFFE:
            raise _NoSequenceError
        previous, vr = tag, None
        start = position + 8
        if not is_implicit:
            _, _, coded, length = _explicit_head(content, position)
            vr = _VRS.get(coded)
            if vr is None:
                raise _NoSequenceError
            if coded in _LONG_VRS:
                (length,) = _length(content, start)
                start += 4
        if length == UNDEFINED:
            # A UN of undefined length holds implicit items in every syntax (PS3.5 6.2.2, note 4).
            inner = is_implicit or vr == "UN"
            _, end = _items(content, start, limit, inner, depth + 1, delimited=True)
            position = end + 8
        else:
            end = position = start + length
        if position > limit:
            raise _NoSequenceError
        value = content[start:end]
        raw[_tag(tag)] = RawDataElement(_tag(tag), vr, length, value, start, is_implicit, True)
    if delimited:
        raise _NoSequenceError
    return _dataset(raw, is_implicit), position


def _dataset(raw: dict[BaseTag, RawDataElement], is_implicit: bool) -> Dataset:
    dataset = Dataset(raw)  # type: ignore[arg-type]
    dataset.set_original_encoding(is_implicit, True)
    return dataset


@lru_cache(maxsize=4096)
def _tag(tag: int) -> BaseTag:
    return BaseTag(tag)

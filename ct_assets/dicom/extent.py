"""Whether a data set is whole: every element ends where its length says, the last one where the bytes end.

Belongs here: stepping over elements, whatever they hold (PS3.5 section 7). Does not: what is in them; whether
there are as many pixels as the header says.
"""

import struct
from dataclasses import dataclass

UNDEFINED = 0xFFFFFFFF
DEEPEST = 200
"""Levels of sequences of undefined length that are followed."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)


class CutOffError(Exception):
    """The bytes end inside an element, or stop being elements."""


@dataclass(frozen=True, slots=True)
class _Encoding:
    explicit: bool
    order: str


def check_whole(content: "bytes | memoryview", start: int, *, explicit: bool, little: bool = True) -> None:
    """Step over the data set in `content` from `start` on. Raises `CutOffError` where it does not end with the bytes.

    A few zero bytes behind the last element are padding.
    """
    position, encoding = start, _Encoding(explicit, "<" if little else ">")
    try:
        while position < len(content):
            if len(content) - position < 8 and not any(content[position:]):
                return
            position = _after_element(content, position, encoding, 0)
    except struct.error:
        raise CutOffError from None


def _after_element(content: "bytes | memoryview", position: int, encoding: _Encoding, depth: int) -> int:
    order = encoding.order
    vr = b""
    _, _, length = struct.unpack_from(f"{order}HHL", content, position)
    position += 8
    if encoding.explicit:
        vr = bytes(content[position - 4 : position - 2])
        (length,) = struct.unpack_from(f"{order}H", content, position - 2)
        if vr in _LONG_VRS:
            (length,) = struct.unpack_from(f"{order}L", content, position)
            position += 4
    if length == UNDEFINED:
        inner = _Encoding(False, "<") if vr == b"UN" else encoding  # PS3.5 6.2.2, note 4
        return _after_items(content, position, inner, depth + 1)
    if position + length > len(content):
        raise CutOffError
    return position + length


def _after_items(content: "bytes | memoryview", position: int, encoding: _Encoding, depth: int) -> int:
    """Return where items or fragments end that begin at `position`, their delimiter included."""
    if depth > DEEPEST:
        raise CutOffError
    while True:
        group, element, length = struct.unpack_from(f"{encoding.order}HHL", content, position)
        tag = group << 16 | element
        position += 8
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM or (length != UNDEFINED and position + length > len(content)):
            raise CutOffError
        position = (
            position + length if length != UNDEFINED else _after_item(content, position, encoding, depth)
        )


def _after_item(content: "bytes | memoryview", position: int, encoding: _Encoding, depth: int) -> int:
    while True:
        group, element = struct.unpack_from(f"{encoding.order}HH", content, position)
        if group << 16 | element == _ITEM_END:
            return position + 8
        position = _after_element(content, position, encoding, depth)

"""One sequence of a file, item by item, its long values left in the file until they are asked for.

Belongs here: finding a top-level sequence of a plain little-endian file and walking its items (PS3.5 7.5),
so that an object of hundreds of megabytes costs no memory. Does not: what the values mean (`dicom.rtstruct`),
top-level values (`dicom.elements`).
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ct_assets.dicom import elements
from ct_assets.dicom.elements import NotPlainError, RawHeader

LONG_VALUE_BYTES = 512
"""Longer values stay in the file."""
BUFFER_BYTES = 4096

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_explicit = struct.Struct("<HH2sH").unpack
_implicit = struct.Struct("<HHL").unpack
_length = struct.Struct("<L").unpack


@dataclass(frozen=True, slots=True)
class InFile:
    """A value that was left in the file."""

    offset: int
    length: int


Item = dict[int, "bytes | InFile | list[Item]"]
"""Values by tag."""


@dataclass(frozen=True)
class SequenceInFile:
    """A top-level sequence, and the file without it."""

    path: Path
    is_explicit: bool
    start: int
    """Where its element begins."""
    first_item: int
    end: int
    """Where the next element begins."""

    def rest(self) -> io.BytesIO:
        """Return the file without the sequence."""
        with self.path.open("rb") as opened:
            head = opened.read(self.start)
            opened.seek(self.end)
            return io.BytesIO(head + opened.read())

    def items(self, sequences: frozenset[int]) -> Iterator[Item]:
        """Yield the items one by one; `sequences` are the tags of sequences in them that are walked too."""
        with self.path.open("rb", buffering=BUFFER_BYTES) as opened:
            yield from _Walk(opened, sequences, explicit=self.is_explicit).items(self.first_item, self.end)


def find(path: Path, tag: int) -> SequenceInFile | None:
    """Return a top-level sequence; None where the file has none.

    Raises `NotPlainError` where pydicom must read the file.
    """
    with path.open("rb", buffering=BUFFER_BYTES) as opened:
        size = opened.seek(0, io.SEEK_END)
        opened.seek(0)
        syntax, position = elements.file_meta(opened)
        explicit = syntax != elements.IMPLICIT_LITTLE_ENDIAN
        walk = _Walk(opened, frozenset(), explicit=explicit)
        while position < size:
            start = position
            found, vr, length, position = walk.element(position)
            end = walk.end_of(vr, length, position)
            if found == tag:
                if explicit and vr not in (b"SQ", b"UN"):
                    raise NotPlainError("no sequence where one is due")
                return SequenceInFile(path, explicit and vr != b"UN", start, position, end)
            position = end
        if position != size:
            raise NotPlainError("the last value ends beyond the file")
    return None


def read_header(path: Path, wanted: frozenset[int]) -> RawHeader:
    """Return the same as `elements.read_header`, stepping over what is not wanted without reading it."""
    with path.open("rb", buffering=BUFFER_BYTES) as opened:
        size = opened.seek(0, io.SEEK_END)
        opened.seek(0)
        syntax, position = elements.file_meta(opened)
        start, name = position, syntax.decode("ascii")
        walk = _Walk(opened, frozenset(), explicit=syntax != elements.IMPLICIT_LITTLE_ENDIAN)
        values: dict[int, bytes] = {}
        previous = 0
        while position < size:
            tag, vr, length, position = walk.element(position)
            if tag <= previous:
                raise NotPlainError("elements out of order")
            previous = tag
            if tag == elements.PIXEL_DATA:
                return RawHeader(name, values, start, position, None if length == _UNDEFINED else length)
            if tag > elements.PIXEL_DATA | 0xFFFF:
                break
            end = walk.end_of(vr, length, position)
            if tag in wanted:
                if end > size:
                    raise NotPlainError("ends inside a value")
                opened.seek(position)
                values[tag] = opened.read(end - position)
            position = end
    return RawHeader(name, values, start, None, None)


class _Walk:
    def __init__(self, opened: BinaryIO, sequences: frozenset[int], *, explicit: bool) -> None:
        self.opened = opened
        self.sequences = sequences
        self.explicit = explicit

    def element(self, position: int) -> tuple[int, bytes, int, int]:
        """Return tag, VR, length and where the value begins."""
        self.opened.seek(position)
        head = self.opened.read(8)
        if len(head) < 8:
            raise NotPlainError("ends inside an element")
        group, number, length = _implicit(head)
        if group == 0xFFFE or not self.explicit:
            return group << 16 | number, b"", length, position + 8
        _, _, vr, length = _explicit(head)
        if vr not in _LONG_VRS:
            if not vr.isalpha():
                raise NotPlainError("no VR where one is due")
            return group << 16 | number, vr, length, position + 8
        more = self.opened.read(4)
        if len(more) < 4:
            raise NotPlainError("ends inside an element")
        (length,) = _length(more)
        return group << 16 | number, vr, length, position + 12

    def end_of(self, vr: bytes, length: int, position: int) -> int:
        """Return where a value ends."""
        if length != _UNDEFINED:
            return position + length
        # A UN of undefined length holds implicit items in every syntax (PS3.5 6.2.2).
        inner = _Walk(self.opened, frozenset(), explicit=self.explicit and vr != b"UN")
        while True:
            tag, _, length, position = inner.element(position)
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise NotPlainError("no item where one is due")
            position = position + length if length != _UNDEFINED else inner.end_of_item(position)

    def end_of_item(self, position: int) -> int:
        while True:
            tag, vr, length, position = self.element(position)
            if tag == _ITEM_END:
                return position
            position = self.end_of(vr, length, position)

    def items(self, position: int, end: int) -> Iterator[Item]:
        """Yield the items between two places."""
        while position < end:
            tag, _, length, position = self.element(position)
            if tag == _SEQUENCE_END:
                return
            item, position = self._item(tag, length, position, end)
            yield item

    def _sequence(self, length: int, position: int, stop: int) -> tuple[list[Item], int]:
        """Return a sequence's items and where it ends."""
        end = stop if length == _UNDEFINED else position + length
        found: list[Item] = []
        while position < end:
            tag, _, length_of_item, position = self.element(position)
            if tag == _SEQUENCE_END:
                break
            item, position = self._item(tag, length_of_item, position, end)
            found.append(item)
        return found, position

    def _item(self, tag: int, length: int, position: int, end: int) -> tuple[Item, int]:
        if tag != _ITEM:
            raise NotPlainError("no item where one is due")
        stop = end if length == _UNDEFINED else position + length
        if stop > end:
            raise NotPlainError("an item ends beyond its sequence")
        values: Item = {}
        while position < stop:
            tag, vr, length, position = self.element(position)
            if tag == _ITEM_END:
                break
            if tag in self.sequences:
                inner = _Walk(self.opened, self.sequences, explicit=self.explicit and vr != b"UN")
                values[tag], position = inner._sequence(length, position, stop)
                continue
            value_end = self.end_of(vr, length, position)
            if value_end > stop:
                raise NotPlainError("a value ends beyond its item")
            if length == _UNDEFINED or length > LONG_VALUE_BYTES:
                values[tag] = InFile(position, value_end - position)
            else:
                self.opened.seek(position)
                values[tag] = self.opened.read(length)
            position = value_end
        return values, position

"""The fast way to a file's header: the raw values of wanted top-level elements, and nothing else.

Belongs here: walking the data elements of a little-endian file (PS3.5 section 7) up to the pixel data, and
telling where it lies. Does not: what values mean (`dicom.header`), sequences (`dicom.nested` uses pydicom).

Only the wanted values are cut out of the bytes; everything else is stepped over. What this walker does not
understand (big endian, deflated, no preamble, broken lengths) is told by `NotPlainError`: pydicom then
reads the file.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ct_assets.dicom.layouts import Layout, Layouts, Step

FIRST_READ_BYTES = 12 * 1024
"""Most CT headers end within this many bytes; longer ones are read on."""

EXPLICIT_LITTLE_ENDIAN_SYNTAXES_NOT_PLAIN = {
    b"1.2.840.10008.1.2.1.99",  # deflated
    b"1.2.840.10008.1.2.4.95",  # JPIP referenced, deflated
    b"1.2.840.10008.1.2.4.205",
    b"1.2.840.10008.1.2.2",  # big endian
}
IMPLICIT_LITTLE_ENDIAN = b"1.2.840.10008.1.2"

PIXEL_DATA = 0x7FE00010
_PIXEL_GROUP = 0x7FE0
_UNDEFINED = 0xFFFFFFFF
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_ITEM = 0xFFFEE000
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_META_START = 132

_read_short = struct.Struct("<HH2sH").unpack_from
_read_implicit = struct.Struct("<HHI").unpack_from
_read_length = struct.Struct("<I").unpack_from


_LAYOUTS: dict[frozenset[int], Layouts] = {}
"""By the wanted tags; what this process has learnt so far changes the time, never the result."""


class NotPlainError(Exception):
    """The file is no plain little-endian DICOM file; ask pydicom."""


@dataclass(frozen=True, slots=True)
class RawHeader:
    """Raw values of one file's header."""

    transfer_syntax_uid: str
    values: dict[int, bytes]
    """By tag (group in the upper 16 bits), values as stored, padding included."""
    dataset_offset: int
    """Where the data set begins, after the file meta information."""
    pixel_offset: int | None
    """Where the value of the pixel data begins; None where there is none."""
    pixel_bytes: int | None
    """Its stated length; None where there is none or it is encapsulated."""
    file_size: int = 0


class _Window:
    """The beginning of a file, read on as far as needed."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.data = os.pread(descriptor, FIRST_READ_BYTES, 0)
        self.at_end = len(self.data) < FIRST_READ_BYTES

    def reach(self, end: int) -> bool:
        """Read on until `end` bytes are here; False where the file ends before."""
        while end > len(self.data) and not self.at_end:
            wanted = max(end - len(self.data), len(self.data))
            more = os.pread(self.descriptor, wanted, len(self.data))
            self.at_end = len(more) < wanted
            self.data += more
        return end <= len(self.data)


def read_header(path: Path | str, wanted: frozenset[int]) -> RawHeader:
    """Return the raw values of the `wanted` top-level tags of a DICOM file.

    Raises `NotPlainError` where the file is not a plain little-endian DICOM file with preamble and file meta
    information, or breaks off before its pixel data; `OSError` where it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        window = _Window(descriptor)
        layouts = _LAYOUTS.setdefault(wanted, Layouts())
        if (found := layouts.find(window.data, size)) is not None:
            values, (syntax, start, pixel_offset, pixel_bytes) = found
            return RawHeader(syntax, values, start, pixel_offset, pixel_bytes, size)
        return _walk_and_learn(window, size, layouts, wanted)
    finally:
        os.close(descriptor)


def file_meta(opened: BinaryIO) -> tuple[bytes, int]:
    """Return the transfer syntax of a file that is at its beginning, and where its data set begins.

    Raises `NotPlainError`.
    """
    return _file_meta(_Window(opened.fileno()), [], set())


def _walk_and_learn(window: _Window, size: int, layouts: Layouts, wanted: frozenset[int]) -> RawHeader:
    steps: list[Step] = []
    whole: set[int] = set()
    transfer_syntax, start = _file_meta(window, steps, whole)
    explicit = transfer_syntax != IMPLICIT_LITTLE_ENDIAN
    raw = _walk(window, start, transfer_syntax.decode("ascii"), explicit, wanted, size, steps, whole)
    if raw.pixel_offset and raw.pixel_offset <= FIRST_READ_BYTES and layouts.is_worth_learning(size):
        layout = Layout(window.data, steps, wanted, frozenset(whole))
        layouts.learn(size, layout, (raw.transfer_syntax_uid, start, raw.pixel_offset, raw.pixel_bytes))
    return raw


def _file_meta(window: _Window, steps: list[Step], whole: set[int]) -> tuple[bytes, int]:
    data = window.data
    if data[128:132] != b"DICM":
        raise NotPlainError("no preamble")
    position = _META_START
    syntax = None
    while window.reach(position + 12):
        data = window.data
        group, element, vr, length = _read_short(data, position)
        if group != 2:
            break
        start = position + 8
        if vr in _LONG_VRS:
            (length,) = _read_length(data, start)
            start += 4
        if element == 0x0010:
            window.reach(start + length)
            syntax = window.data[start : start + length].rstrip(b"\0 ")
            whole.add(position)
        steps.append((position, start, start + length, element))
        position = start + length
    if not syntax or syntax in EXPLICIT_LITTLE_ENDIAN_SYNTAXES_NOT_PLAIN or not syntax.isascii():
        raise NotPlainError("no plain little-endian transfer syntax")
    return syntax, position


def _walk(
    window: _Window,
    start: int,
    syntax: str,
    explicit: bool,
    wanted: frozenset[int],
    file_size: int,
    steps: list[Step],
    whole: set[int],
) -> RawHeader:
    values: dict[int, bytes] = {}
    position = start
    previous = 0
    data = window.data
    size = len(data)
    while True:
        if position + 12 > size:
            window.reach(position + 12)
            data = window.data
            size = len(data)
            if position == size:
                return RawHeader(syntax, values, start, None, None, file_size)
            if position + 8 > size:
                raise NotPlainError("ends inside an element")
        began = position
        if explicit:
            group, element, vr, length = _read_short(data, position)
            position += 8
            if vr in _LONG_VRS:
                if position + 4 > size:
                    raise NotPlainError("ends inside an element")
                (length,) = _read_length(data, position)
                position += 4
            elif not vr.isalpha():
                raise NotPlainError("no VR where one is due")
        else:
            group, element, length = _read_implicit(data, position)
            vr = b""
            position += 8
        tag = group << 16 | element
        if tag <= previous:
            raise NotPlainError("elements out of order")
        previous = tag
        if group >= _PIXEL_GROUP:
            if tag == PIXEL_DATA:
                steps.append((began, position, position, 0))
                stated = None if length == _UNDEFINED else length
                return RawHeader(syntax, values, start, position, stated, file_size)
            if group > _PIXEL_GROUP:
                return RawHeader(syntax, values, start, None, None, file_size)
        if length == _UNDEFINED:
            # A UN of undefined length holds implicit items in every syntax (PS3.5 section 6.2.2, note 4).
            value_at = position
            position = _after_items(window, position, explicit and vr != b"UN")
            steps.append((began, value_at, position, tag))
            whole.add(began)
            data = window.data
            size = len(data)
            continue
        end = position + length
        if tag in wanted:
            if end > size:
                if not window.reach(end):
                    raise NotPlainError("ends inside a value")
                data = window.data
                size = len(data)
            values[tag] = data[position:end]
        steps.append((began, position, end, tag))
        position = end


def _after_items(window: _Window, position: int, explicit: bool) -> int:
    """Return where a sequence of undefined length that begins at `position` ends."""
    while window.reach(position + 8):
        group, element, length = _read_implicit(window.data, position)
        tag = group << 16 | element
        position += 8
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM:
            raise NotPlainError("no item where one is due")
        position = position + length if length != _UNDEFINED else _after_item(window, position, explicit)
    raise NotPlainError("ends inside a sequence")


def _after_item(window: _Window, position: int, explicit: bool) -> int:
    """Return where an item of undefined length that begins at `position` ends."""
    while window.reach(position + 8):
        group, element, length = _read_implicit(window.data, position)
        tag = group << 16 | element
        if tag == _ITEM_END:
            return position + 8
        if explicit:
            _, _, vr, length = _read_short(window.data, position)
            position += 8
            if vr in _LONG_VRS:
                if not window.reach(position + 4):
                    break
                (length,) = _read_length(window.data, position)
                position += 4
            elif not vr.isalpha():
                raise NotPlainError("no VR where one is due")
        else:
            vr = b""
            position += 8
        if length == _UNDEFINED:
            position = _after_items(window, position, explicit and vr != b"UN")
        else:
            position += length
    raise NotPlainError("ends inside an item")

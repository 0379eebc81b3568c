"""The walk over marker segments that JPEG and JPEG-LS share (ISO 10918-1 B.1, ISO 14495-1 C.1).

Belongs here: where segments begin and end, where entropy-coded data end, and which bytes lie outside both.
Does not: what one segment may hold (`jpeg`, `jpeg_ls`).
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from ct_assets.deid.pixels.codestream import Cleaned, DamagedStreamError, Parts, Shape, is_padding

SOI, EOI, SOS, DRI, DNL, COM = 0xD8, 0xD9, 0xDA, 0xDD, 0xDC, 0xFE
APPLICATION = range(0xE0, 0xF0)
_INTERVAL = re.compile(rb"(?=\xff[\xd0-\xd7])", re.DOTALL)
"""Where a restart interval ends: its marker goes with the next one."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What distinguishes one codec from another in the walk."""

    start_of_frame: frozenset[int]
    keep: Callable[[int, bytes], bytes | None]
    """From marker and content of a segment to the content that stays, or None. Raises `DamagedStreamError`."""
    coded_end: re.Pattern[bytes]
    """The first marker behind entropy-coded data."""


def clean(frame: bytes, grammar: Grammar) -> Cleaned:
    """Return a frame of kept segments and entropy-coded data. Raises `DamagedStreamError`."""
    if frame[:2] != b"\xff\xd8":
        raise DamagedStreamError("no start of image")
    parts = Parts()
    parts.keep(b"\xff\xd8")
    position, scans = 2, 0
    shape: Shape | None = None
    while True:
        marker, start = next_marker(frame, position)
        position = start
        if marker == EOI:
            break
        if marker == SOI or 0xD0 <= marker <= 0xD7 or marker < 0xC0:
            raise DamagedStreamError("a marker that cannot stand between segments")
        length = int.from_bytes(frame[start : start + 2], "big")
        position = start + length
        if length < 2 or position > len(frame):
            raise DamagedStreamError("a segment reaches beyond the frame")
        content = frame[start + 2 : position]
        kept = grammar.keep(marker, content)
        if marker in grammar.start_of_frame:
            if shape is not None:
                raise DamagedStreamError("a second start of frame")
            shape = _declared(content)
        if kept is None or len(kept) < len(content):
            parts.remove(_kind(marker), len(content) - len(kept or b""))
        if kept is not None:
            parts.keep(bytes((0xFF, marker)), (len(kept) + 2).to_bytes(2, "big"), kept)
        elif not content:
            parts.remove(_kind(marker), 4)
        if marker == SOS:
            end = grammar.coded_end.search(frame, position)
            if end is None or shape is None:
                raise DamagedStreamError("a scan without an end or before the start of frame")
            for interval in _INTERVAL.split(frame[position : end.start()]):
                parts.keep_coded(interval)
            position = end.start()
            scans += 1
    if not scans:
        raise DamagedStreamError("no scan")
    parts.keep(b"\xff\xd9")
    if not is_padding(frame[position:]):
        parts.remove("bytes behind the end of the image", len(frame) - position)
    return parts.cleaned(frame, shape)


def exact(content: bytes, length: int) -> bytes:
    """Return a segment's content if it has the length that its own fields imply."""
    if len(content) != length:
        raise DamagedStreamError("a segment of another length than its content implies")
    return content


def scan_header(content: bytes) -> bytes:
    """Return the content of an SOS segment if its length fits (10918-1 B.2.3)."""
    return exact(content, 4 + 2 * content[0] if content else -1)


def frame_header(content: bytes) -> bytes:
    """Return the content of an SOF segment if its length fits (10918-1 B.2.2)."""
    return exact(content, 6 + 3 * content[5] if len(content) > 5 else -1)


def _declared(content: bytes) -> Shape:
    """Return what an SOF segment says: precision, lines, samples a line, components."""
    bits, rows, columns, samples = struct.unpack_from(">BHHB", content)
    return Shape(rows, columns, samples, bits)


def next_marker(frame: bytes, position: int) -> tuple[int, int]:
    """Return the next marker and where its segment begins; fill bytes FF may stand before it (B.1.1.2)."""
    start = position
    while frame[position + 1 : position + 2] == b"\xff":
        position += 1
    if frame[start : start + 1] != b"\xff" or position + 1 >= len(frame):
        raise DamagedStreamError("no marker where a segment ends")
    return frame[position + 1], position + 2


def _kind(marker: int) -> str:
    if marker == COM:
        return "JPEG comments"
    return "JPEG application segments" if marker in APPLICATION else "JPEG segments without use"

"""Tables of JPEG and JPEG-LS that no scan uses, and those that are defined anew before a scan uses them.

Belongs here: which definition (DQT, DHT, DAC, DRI, LSE, and the application segments that stay) is in force at
which scan (ISO 10918-1 B.2.4, ISO 14495-1 C.2.4). Does not: what a table may hold (`jpeg`, `jpeg_ls`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ct_assets.deid.pixels import segments
from ct_assets.deid.pixels.codestream import Cleaned, DamagedStreamError
from ct_assets.deid.pixels.segments import EOI, SOS, Grammar

Key = tuple[int, int]
"""Marker and number of a table (DHT and DAC: class and number in one byte)."""
Split = Callable[[int, bytes], list[tuple[Key, bytes]]]
"""From marker and content of a segment to its definitions; none where the segment defines nothing."""
Uses = Callable[[int, bytes, bytes], Iterable[Key]]
"""From process (marker of the start of frame) and the contents of SOF and SOS to what the scan uses."""
KIND = "JPEG tables without use"


@dataclass(slots=True)
class _Definition:
    content: bytes
    is_used: bool = False


def clean(frame: bytes, grammar: Grammar, split: Split, uses: Uses, once: frozenset[int]) -> Cleaned:
    """Return the frame of kept segments without definitions that no scan uses.

    Of the markers in `once` the first definition counts, of others the last before the scan. Raises
    `DamagedStreamError`.
    """
    in_force: dict[Key, _Definition] = {}
    pieces: list[tuple[int, bytes, list[_Definition]]] = []
    process, frame_header, end = 0, b"", 2
    for marker, start, content, end in _walk(frame, grammar):
        definitions = []
        for key, table in split(marker, content):
            definition = _Definition(table)
            definitions.append(definition)
            if marker not in once or key not in in_force:
                in_force[key] = definition
        pieces.append((marker, frame[start:end], definitions))
        if marker in grammar.start_of_frame:
            process, frame_header = marker, content
        if marker == SOS:
            for key in uses(process, frame_header, segments.scan_header(content)):
                if key in in_force:
                    in_force[key].is_used = True
    removed = sum(len(one.content) for _, _, several in pieces for one in several if not one.is_used)
    if not removed:
        return segments.clean(frame, grammar)
    kept = [_written(marker, raw, several) for marker, raw, several in pieces]
    cleaned = segments.clean(b"".join((frame[:2], *kept, frame[end:])), grammar)
    return replace(cleaned, removed={**cleaned.removed, KIND: removed})


def _written(marker: int, raw: bytes, definitions: list[_Definition]) -> bytes:
    if all(one.is_used for one in definitions):
        return raw
    content = b"".join(one.content for one in definitions if one.is_used)
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content if content else b""


def _walk(frame: bytes, grammar: Grammar) -> Iterator[tuple[int, int, bytes, int]]:
    """Yield marker, start, content and end of each segment, the end of SOS being that of its coded data."""
    if frame[:2] != b"\xff\xd8":
        raise DamagedStreamError("no start of image")
    position = 2
    while True:
        marker, start = segments.next_marker(frame, position)
        if marker == EOI:
            return
        end = start + int.from_bytes(frame[start : start + 2], "big")
        if not start + 2 <= end <= len(frame):
            raise DamagedStreamError("a segment reaches beyond the frame")
        content = frame[start + 2 : end]
        grammar.keep(marker, content)  # refuses what is not built as it should be
        if marker == SOS:
            found = grammar.coded_end.search(frame, end)
            if found is None:
                raise DamagedStreamError("a scan without an end")
            end = found.start()
        yield marker, position, content, end
        position = end

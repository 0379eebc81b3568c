"""JPEG frames (ISO 10918-1: baseline, extended, progressive, lossless) down to what a decoder needs.

Belongs here: what each marker segment may hold. Does not: the walk over them (`segments`), decoding.

SOF, DHT, DAC, DQT, DRI, SOS and DNL stay, each with exactly the length that its fields imply. Of the
application segments the two stay that decide the colour transform, JFIF and Adobe, without thumbnail. Comments
and all other application segments (EXIF, XMP, ICC, JFXX) go, and so do tables that no scan uses (`jpeg_tables`).
"""

import re
from collections.abc import Callable, Iterator

from ct_assets.deid.pixels import jpeg_tables, segments
from ct_assets.deid.pixels.codestream import Cleaned, DamagedStreamError, Shape, fitting
from ct_assets.deid.pixels.segments import APPLICATION, COM, DNL, DRI, SOS, Grammar, exact

DHT, DAC, DQT = 0xC4, 0xCC, 0xDB
APP0, APP14 = 0xE0, 0xEE
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, DAC}
JFIF_BYTES, ADOBE_BYTES = 14, 12


_LOSSLESS = frozenset((0xC3, 0xC7, 0xCB, 0xCF))
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_ARITHMETIC = frozenset(range(0xC9, 0xD0)) - {DAC}


def clean(frame: bytes, shape: Shape, processes: frozenset[int] = START_OF_FRAME) -> Cleaned:
    """Return a frame without the bytes that decode to no pixel.

    `processes` are the starts of frame that its transfer syntax allows. Raises `DamagedStreamError`.
    """
    starts = START_OF_FRAME & processes
    grammar = Grammar(starts, _GRAMMAR.keep, _GRAMMAR.coded_end)
    return fitting(jpeg_tables.clean(frame, grammar, _split, _uses, frozenset((APP0, APP14))), shape)


def _split(marker: int, content: bytes) -> list[tuple[jpeg_tables.Key, bytes]]:
    """Return the tables of a segment; a JFIF or Adobe segment and an interval count as one each."""
    if marker in (DQT, DHT):
        bytes_of = _quantization_bytes if marker == DQT else _huffman_bytes
        found, start = [], 0
        while start < len(content):
            end = start + bytes_of(content, start)
            number = content[start] & 15 if marker == DQT else content[start]
            found.append(((marker, number), content[start:end]))
            start = end
        return found
    if marker == DAC:
        return [((DAC, content[at]), content[at : at + 2]) for at in range(0, len(content), 2)]
    is_kept = marker in (APP0, APP14) and _keep(marker, content) is not None
    return [((marker, 0), content)] if marker == DRI or is_kept else []


def _uses(process: int, frame_header: bytes, scan: bytes) -> Iterator[jpeg_tables.Key]:
    """Yield what a scan uses (10918-1 B.2.3): quantization by component, entropy tables by selector."""
    yield from ((DRI, 0), (APP0, 0), (APP14, 0))
    quantization = {frame_header[at]: frame_header[at + 2] for at in range(6, len(frame_header), 3)}
    table = DAC if process in _ARITHMETIC else DHT
    first, last, high = scan[-3], scan[-2], scan[-1] >> 4
    for at in range(1, len(scan) - 3, 2):
        dc, ac = scan[at + 1] >> 4, scan[at + 1] & 15
        if process not in _LOSSLESS:
            yield DQT, quantization.get(scan[at], -1)
        if process not in _PROGRESSIVE or (first == 0 and high == 0):
            yield table, dc
        if process not in _LOSSLESS and (process not in _PROGRESSIVE or last > 0):
            yield table, 16 | ac


def _keep(marker: int, content: bytes) -> bytes | None:
    if marker in START_OF_FRAME:  # one of another process than the syntax's leaves the scan without a frame
        return segments.frame_header(content)
    if marker == SOS:
        return segments.scan_header(content)
    if marker in (DRI, DNL):
        return exact(content, 2)
    if marker == DQT:
        return exact(content, _tables(content, _quantization_bytes))
    if marker == DHT:
        return exact(content, _tables(content, _huffman_bytes))
    if marker == DAC:
        return exact(content, len(content) & ~1)
    if marker == APP0 and content.startswith(b"JFIF\0") and len(content) >= JFIF_BYTES:
        return content[: JFIF_BYTES - 2] + b"\0\0"
    if marker == APP14 and content.startswith(b"Adobe") and len(content) >= ADOBE_BYTES:
        return content[:ADOBE_BYTES]
    if marker == COM or marker in APPLICATION:
        return None
    raise DamagedStreamError("a segment that no DICOM image has")


def _tables(content: bytes, bytes_of: "_BytesOf") -> int:
    """Return where the last of the tables of a segment ends; they stand one after the other."""
    end = 0
    while end < len(content):
        end += bytes_of(content, end)
    return end


def _quantization_bytes(content: bytes, start: int) -> int:
    return 129 if content[start] >> 4 else 65


def _huffman_bytes(content: bytes, start: int) -> int:
    end = start + 17 + sum(content[start + 1 : start + 17])
    symbols = content[start + 17 : end]
    # Each symbol has one code; a difference has at most 16 bits (10918-1 C.2, F.1.2.1.2, H.1.2.2).
    if len(set(symbols)) < len(symbols) or (content[start] < 16 and max(symbols, default=0) > 16):
        raise DamagedStreamError("a table of codes that no encoder makes")
    return end - start


_BytesOf = Callable[[bytes, int], int]
_GRAMMAR = Grammar(START_OF_FRAME, _keep, re.compile(rb"\xff[\x01-\xcf\xd8-\xff]", re.DOTALL))
"""In entropy-coded data FF is followed by 00, or is a restart marker (10918-1 B.1.1.5)."""

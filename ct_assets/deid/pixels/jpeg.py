"""JPEG frames (ISO 10918-1: baseline, extended, progressive, lossless) down to what a decoder needs.

Belongs here: what each marker segment may hold. Does not: the walk over them (`segments`), decoding.

SOF, DHT, DAC, DQT, DRI, SOS and DNL stay, each with exactly the length that its fields imply. Of the
application segments the two stay that decide the colour transform, JFIF and Adobe, without thumbnail. Comments
and all other application segments (EXIF, XMP, ICC, JFXX) go.
"""

import re
from collections.abc import Callable

from ct_assets.deid.pixels import segments
from ct_assets.deid.pixels.codestream import Cleaned, DamagedStreamError, Shape, fitting
from ct_assets.deid.pixels.segments import APPLICATION, COM, DNL, DRI, SOS, Grammar, exact

DHT, DAC, DQT = 0xC4, 0xCC, 0xDB
APP0, APP14 = 0xE0, 0xEE
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, DAC}
JFIF_BYTES, ADOBE_BYTES = 14, 12


def clean(frame: bytes, shape: Shape) -> Cleaned:
    """Return a frame without the bytes that decode to no pixel. Raises `DamagedStreamError`."""
    return fitting(segments.clean(frame, _GRAMMAR), shape)


def _keep(marker: int, content: bytes) -> bytes | None:
    if marker in START_OF_FRAME:
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
    return 17 + sum(content[start + 1 : start + 17])


_BytesOf = Callable[[bytes, int], int]
_GRAMMAR = Grammar(START_OF_FRAME, _keep, re.compile(rb"\xff[\x01-\xcf\xd8-\xff]", re.DOTALL))
"""In entropy-coded data FF is followed by 00, or is a restart marker (10918-1 B.1.1.5)."""

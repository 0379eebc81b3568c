"""JPEG-LS frames (ISO 14495-1) down to what a decoder needs.

Belongs here: what each marker segment may hold. Does not: the walk over them (`segments`), decoding.

SOF55, the LSE and DRI in force at a scan, SOS and DNL stay, and of the application segments the colour transform
of HP's coder, which changes how pixels are decoded. SPIFF headers, comments and all else go.
"""

import re
from collections.abc import Iterator

from ct_assets.deid.pixels import jpeg_tables, segments
from ct_assets.deid.pixels.codestream import Cleaned, DamagedStreamError, Shape, fitting
from ct_assets.deid.pixels.segments import APPLICATION, COM, DNL, DRI, SOS, Grammar, exact

SOF55, LSE, APP8 = 0xF7, 0xF8, 0xE8
PRESET_BYTES = 11
"""LSE of kind 1: kind, MAXVAL, three thresholds, RESET (14495-1 C.2.4.1.1)."""
_PRESET, _OVERSIZE = 1, 4


def clean(frame: bytes, shape: Shape, *, is_lossless: bool = False) -> Cleaned:
    """Return a frame without the bytes that decode to no pixel.

    `is_lossless`: its transfer syntax allows no difference (NEAR). Raises `DamagedStreamError`.
    """

    def uses(_process: int, _frame_header: bytes, scan: bytes) -> Iterator[jpeg_tables.Key]:
        if is_lossless and scan[-3]:
            raise DamagedStreamError("near-lossless data under the lossless transfer syntax")
        yield from ((LSE, 0), (APP8, 0), (DRI, 0))

    return fitting(jpeg_tables.clean(frame, _GRAMMAR, _split, uses, frozenset()), shape)


def _split(marker: int, content: bytes) -> list[tuple[jpeg_tables.Key, bytes]]:
    is_definition = marker in (LSE, APP8, DRI) and _keep(marker, content) is not None
    return [((marker, 0), content)] if is_definition else []


def _keep(marker: int, content: bytes) -> bytes | None:
    if marker == SOF55:
        return segments.frame_header(content)
    if marker == SOS:
        return segments.scan_header(content)
    if marker in (DRI, DNL):
        return content if 2 <= len(content) <= 4 else exact(content, 2)
    if marker == LSE:
        return _parameters(content)
    if marker == APP8 and content.startswith(b"mrfx") and len(content) == 5:
        return content
    if marker == COM or marker in APPLICATION:
        return None
    raise DamagedStreamError("a segment that no JPEG-LS image has")


def _parameters(content: bytes) -> bytes | None:
    """Return the content of an LSE segment, None for a size above 65535, which no DICOM image has; mapping
    tables are palettes, which none has inside."""
    kind = content[0] if content else 0
    if kind == _PRESET:
        return exact(content, PRESET_BYTES)
    if kind == _OVERSIZE and len(content) > 1:
        exact(content, 2 + 2 * content[1])
        return None
    raise DamagedStreamError("parameters that no DICOM image has")


_GRAMMAR = Grammar(frozenset({SOF55}), _keep, re.compile(rb"\xff[\x80-\xcf\xd8-\xff]", re.DOTALL))
"""In entropy-coded data a byte behind FF begins with a zero bit (14495-1 C.1), or is a restart marker."""

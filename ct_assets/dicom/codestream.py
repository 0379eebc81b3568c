"""What a compressed frame says of its own values: precision and sign.

Belongs here: the headers of JPEG (ISO 10918-1), JPEG-LS (14495-1) and JPEG 2000 (15444-1) codestreams. Does not:
decoding (`dicom.pixels`).
"""

from dataclasses import dataclass

JPEG_2000 = b"\xff\x4f\xff\x51"
"""Start of codestream, then the marker of the image's size (A.4.1, A.5.1)."""
JPEG = b"\xff\xd8"
SIGN_BIT = 0x80
_SSIZ = 42
"""Offset of the first component's precision in a JPEG 2000 codestream."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Start of frame of JPEG, without tables and reserved markers, and of JPEG-LS."""
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
"""Markers without a length."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Bits a value has in the codestream, and whether it is signed; None where the format knows no sign."""

    bits: int
    is_signed: bool | None


def precision(content: bytes) -> Precision | None:
    """Return the precision that a frame states; None for other formats and broken headers."""
    start = content.find(JPEG_2000, 0, 256)  # a JP2 wrapper may stand before
    if start >= 0 and len(content) > start + _SSIZ:
        value = content[start + _SSIZ]
        return Precision((value & ~SIGN_BIT) + 1, bool(value & SIGN_BIT))
    if not content.startswith(JPEG):
        return None
    at = 2
    while at + 5 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in _FRAMES:
            return Precision(content[at + 4], None)
        at += (
            2
            if marker in _ALONE
            else 1
            if marker == 0xFF
            else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        )
    return None

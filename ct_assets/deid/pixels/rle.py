"""RLE frames (PS3.5 Annex G) down to what a decoder needs.

Belongs here: the header of a frame and where each segment ends, which follows from the pixels that it has to
give. Does not: decoding to pixels.
"""

import struct

from ct_assets.deid.pixels.codestream import Cleaned, DamagedStreamError, Parts, Shape

HEADER_BYTES, MOST_SEGMENTS = 64, 15
_NO_OPERATION = 128


def clean(frame: bytes, shape: Shape) -> Cleaned:
    """Return a frame of as many segments as samples have bytes, each decoding to a byte a pixel (with one bit
    a pixel: to all of them packed). Raises `DamagedStreamError`."""
    wanted, size = _planes(shape)
    if len(frame) < HEADER_BYTES:
        raise DamagedStreamError("no RLE header")
    count, *offsets = struct.unpack_from("<16L", frame)
    places = offsets[:count]
    if count != wanted or places[0] < HEADER_BYTES or sorted(set(places)) != places:
        raise DamagedStreamError("an RLE header without sense")
    parts = Parts()
    if any(offsets[count:]):
        parts.remove("unused fields of the RLE header", 4 * (MOST_SEGMENTS - count))
    parts.remove("bytes before the first RLE segment", places[0] - HEADER_BYTES)
    kept = []
    for start, stop in zip(places, [*places[1:], len(frame)], strict=True):
        segment, rest = _segment(frame[start:stop], size)
        if rest.strip(b"\0\x80"):
            parts.remove("bytes behind an RLE segment", len(rest))
        kept.append(segment + b"\0" * (len(segment) & 1))
    starts = [HEADER_BYTES]
    for segment in kept[:-1]:
        starts.append(starts[-1] + len(segment))
    parts.keep(struct.pack("<16L", count, *starts, *([0] * (MOST_SEGMENTS - count))), *kept)
    return parts.cleaned(frame, None)


def _planes(shape: Shape) -> tuple[int, int]:
    """Return how many segments a frame has and how many bytes each gives."""
    pixels = shape.rows * shape.columns
    if shape.bits == 1:
        return shape.samples, -(-pixels // 8)
    return shape.samples * (-(-shape.bits // 8)), pixels


def _segment(coded: bytes, size: int) -> tuple[bytes, bytes]:
    """Return the runs that decode to `size` bytes, and the bytes behind them."""
    if _decodes_to(coded, size):
        return coded, b""
    position = given = 0
    while given < size:
        if position >= len(coded):
            raise DamagedStreamError("an RLE segment ends before its pixels do")
        head = coded[position]
        if head < _NO_OPERATION:
            given += head + 1
            position += head + 2
        elif head > _NO_OPERATION:
            given += 257 - head
            position += 2
        else:
            position += 1
    if given > size or position > len(coded):
        raise DamagedStreamError("an RLE segment gives more bytes than pixels")
    return coded[:position], coded[position:]


def _decodes_to(coded: bytes, size: int) -> bool:
    """Whether the runs give `size` bytes and nothing is left but a byte of padding."""
    from rle.rle import decode_segment

    try:
        return len(decode_segment(coded)) == size
    except ValueError:
        return False

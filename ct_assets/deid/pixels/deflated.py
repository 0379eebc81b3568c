"""Deflated frames (Deflated Image Frame Compression, PS3.5 A.4.13; RFC 1951) down to what a decoder needs.

Belongs here: where the compressed data of a frame end. Does not: the deflated transfer syntaxes of whole data
sets (`dicomfile`).
"""

import zlib

from ct_assets.deid.pixels.codestream import Cleaned, DamagedStreamError, Parts, Shape, is_padding


def clean(frame: bytes, shape: Shape) -> Cleaned:
    """Return a frame of nothing but the compressed data. Raises `DamagedStreamError`."""
    unpacker = zlib.decompressobj(-15)
    wanted = -(-shape.rows * shape.columns * shape.samples * shape.bits // 8)
    try:
        size = len(unpacker.decompress(frame, wanted + 2))
    except zlib.error:
        raise DamagedStreamError("no deflated data") from None
    if not unpacker.eof or not wanted <= size <= wanted + 1:
        raise DamagedStreamError("deflated data of another size than the frame")
    parts = Parts()
    rest = unpacker.unused_data
    parts.keep(frame[: len(frame) - len(rest)])
    if not is_padding(rest):
        parts.remove("bytes behind the compressed data", len(rest))
    return parts.cleaned(frame, None)

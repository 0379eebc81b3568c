"""What the leak scan reads of pixel data: every byte outside entropy-coded data and samples.

Belongs here: a walk of its own over fragments and codestreams, sharing no code with the engine's parsers
(`deid.pixels`), and tolerant: what it cannot follow counts as text, so that it is searched. Does not: the search.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from typing import Literal

_SYNTAX = b"1.2.840.10008.1.2."
_JPEG = frozenset(_SYNTAX + b"4.%d" % number for number in (50, 51, *range(52, 67), 70))
_JPEG_LS = frozenset(_SYNTAX + b"4.%d" % number for number in (80, 81))
_JPEG_2000 = frozenset(_SYNTAX + b"4.%d" % number for number in (90, 91, 92, 93, 201, 202, 203))
_END = {
    "jpeg": re.compile(rb"\xff[\x01-\xcf\xd8-\xff]", re.DOTALL),
    "jpeg_ls": re.compile(rb"\xff[\x80-\xcf\xd8-\xff]", re.DOTALL),
}
_NATIVE = frozenset(_SYNTAX[:-1] + tail for tail in (b"", b".1", b".2", b".1.99"))
_BITS_OF_FLOATS = {0x7FE00008: 32, 0x7FE00009: 64}
_FRAMES, _SAMPLES, _PHOTOMETRIC = 0x00280008, 0x00280002, 0x00280004
_ROWS, _COLUMNS, _BITS = 0x00280010, 0x00280011, 0x00280100
SIZES = frozenset((_FRAMES, _SAMPLES, _PHOTOMETRIC, _ROWS, _COLUMNS, _BITS))
"""Elements of the header that say how long native pixels are."""


def readable_bytes(value: bytes, tag: int, syntax: bytes, sizes: Mapping[int, bytes]) -> tuple[bytes, bytes]:
    """Return what of a pixel element's value is neither sample nor entropy-coded, and then what is coded in a
    way that this walk does not follow.

    `sizes`: the raw values of `SIZES` in the header.
    """
    if syntax in _NATIVE or not value.startswith(b"\xfe\xff\x00\xe0"):
        return value[_native_bytes(tag, syntax, sizes) :], b""
    table, stream = _joined(value)
    if syntax in _JPEG:
        return table + b"".join(_outside_scans(stream, _END["jpeg"])), b""
    if syntax in _JPEG_LS:
        return table + b"".join(_outside_scans(stream, _END["jpeg_ls"])), b""
    if syntax in _JPEG_2000:
        return table + b"".join(_outside_tile_data(stream)), b""
    return table, stream


def _native_bytes(tag: int, syntax: bytes, sizes: Mapping[int, bytes]) -> int:
    """Return how many bytes of samples the header implies; 0 where it does not say."""
    order: Literal["big", "little"] = "big" if syntax == b"1.2.840.10008.1.2.2" else "little"
    frames = sizes.get(_FRAMES, b"").strip(b" \0")
    counts = [int.from_bytes(sizes.get(one, b"\0"), order) for one in (_ROWS, _COLUMNS)]
    samples = int.from_bytes(sizes.get(_SAMPLES, b""), order) or 1
    if samples == 3 and sizes.get(_PHOTOMETRIC, b"").startswith(b"YBR_FULL_422"):
        samples = 2
    bits = _BITS_OF_FLOATS.get(tag) or int.from_bytes(sizes.get(_BITS, b""), order)
    return -(-counts[0] * counts[1] * samples * bits * (int(frames) if frames.isdigit() else 1) // 8)


def _joined(value: bytes) -> tuple[bytes, bytes]:
    """Return what stands in the offset table and between items, and the fragments one after the other."""
    beside: list[bytes] = []
    fragments: list[bytes] = []
    position = 0
    while position + 8 <= len(value):
        tag, length = struct.unpack_from("<LL", value, position)
        if tag != 0xE000FFFE:
            break
        (fragments if position else beside).append(value[position + 8 : position + 8 + length])
        position += 8 + length
    beside.append(value[position:])
    return b"\x1f".join(beside) + b"\x1f", b"".join(fragments)


def _outside_scans(stream: bytes, coded_end: re.Pattern[bytes]) -> Iterator[bytes]:
    """Yield a stream of JPEG images but for the data of their scans."""
    position = 0
    while position + 4 <= len(stream):
        marker = stream[position + 1]
        if stream[position] != 0xFF:
            next_image = stream.find(b"\xff\xd8\xff", position)
            stop = next_image if next_image >= 0 else len(stream)
            yield stream[position:stop]
            position = stop
        elif 0xD0 <= marker <= 0xD9:  # start and end of an image, restart
            position += 2
        elif marker == 0xFF:
            position += 1
        else:
            end = position + 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
            yield stream[position:end] + b"\x1f"
            position = max(end, position + 2)
            if marker == 0xDA:
                found = coded_end.search(stream, position)
                if found is None:
                    break
                position = found.start()
    yield stream[position:]


def _outside_tile_data(stream: bytes) -> Iterator[bytes]:
    """Yield a stream of JPEG 2000 codestreams but for the data of their tile-parts."""
    position = 0
    while (start := stream.find(b"\xff\x90\0\x0a", position)) >= 0:
        data = stream.find(b"\xff\x93", start + 12)
        length = int.from_bytes(stream[start + 6 : start + 10], "big")
        end = start + length if length else stream.rfind(b"\xff\xd9")
        if data < 0 or not data < end <= len(stream):
            break
        yield stream[position:data] + b"\x1f"
        position = end
    yield stream[position:]

"""The fragments of encapsulated pixel data (PS3.5 A.4): reading them, joining them to frames, writing them.

Belongs here: items, the Basic Offset Table, and which fragments make which frame. Does not: what a frame holds
(`streams` asks the codec).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ct_assets.deid.pixels.codestream import DamagedStreamError

ITEM = b"\xfe\xff\x00\xe0"
_LENGTH = struct.Struct("<L")


@dataclass(frozen=True, slots=True)
class Fragments:
    """The value of an encapsulated Pixel Data element."""

    offsets: tuple[int, ...]
    """The Basic Offset Table; empty where it has no entry."""
    pieces: tuple[bytes, ...]
    places: tuple[int, ...]
    """Where the item of each piece begins, counted as offsets are: from the first fragment's item."""


def read(value: bytes) -> Fragments:
    """Read the items of a value field without its delimiter. Raises `DamagedStreamError`."""
    items: list[tuple[int, bytes]] = []
    position = 0
    while position < len(value):
        if value[position : position + 4] != ITEM or position + 8 > len(value):
            raise DamagedStreamError("bytes between the fragments")
        start = position + 8
        end = start + _LENGTH.unpack_from(value, position + 4)[0]
        if end > len(value):
            raise DamagedStreamError("a fragment reaches beyond the pixel data")
        items.append((position, value[start:end]))
        position = end
    if len(items) < 2:
        raise DamagedStreamError("no fragment behind the offset table")
    table = items[0][1]
    if len(table) % 4:
        raise DamagedStreamError("a Basic Offset Table of no whole offsets")
    first = items[1][0]
    return Fragments(
        tuple(offset for (offset,) in _LENGTH.iter_unpack(table)),
        tuple(piece for _, piece in items[1:]),
        tuple(place - first for place, _ in items[1:]),
    )


def frames_of(
    fragments: Fragments, count: int, starts: Sequence[int], first_bytes: bytes
) -> list[list[bytes]]:
    """Return the pieces of each frame, surplus frames included.

    `starts` are the offsets of frames from a table (basic or extended), if one is there; `first_bytes` begin
    every frame of the codec. Raises `DamagedStreamError` where nothing says which fragment is whose.
    """
    pieces = fragments.pieces
    known = {place: number for number, place in enumerate(fragments.places)}
    is_table = len(starts) >= count and list(starts) == sorted(set(starts)) and starts[0] == 0
    if is_table and known.keys() >= set(starts):
        firsts = [known[start] for start in starts]
    elif count == 1:
        firsts = [0]
    elif len(pieces) == count:
        firsts = list(range(count))
    else:
        firsts = [
            number for number, piece in enumerate(pieces) if first_bytes and piece.startswith(first_bytes)
        ]
        if len(firsts) < count or firsts[0] != 0:
            raise DamagedStreamError("nothing tells which fragments make a frame")
    return [list(pieces[start:stop]) for start, stop in zip(firsts, [*firsts[1:], len(pieces)], strict=True)]


def write(frames: Sequence[bytes], *, has_offsets: bool) -> tuple[bytes, list[int]]:
    """Return the value field of frames of one fragment each, and the offset of each frame."""
    padded = [frame + b"\0" * (len(frame) & 1) for frame in frames]
    offsets = [0]
    for frame in padded[:-1]:
        offsets.append(offsets[-1] + 8 + len(frame))
    table = struct.pack(f"<{len(offsets)}L", *offsets) if has_offsets else b""
    return b"".join(ITEM + _LENGTH.pack(len(piece)) + piece for piece in (table, *padded)), offsets

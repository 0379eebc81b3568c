"""Encapsulated pixel data (PS3.5 A.4) down to the declared frames, and these to what decodes to a pixel.

Belongs here: which codec parses which transfer syntax, frames beyond NumberOfFrames, and offset tables. Does
not: the parsing (`jpeg`, `jpeg_ls`, `jpeg2000`, `rle`, `deflated`), the proof that the image is the same
(`streams`).
"""

import re
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ct_assets.deid.pixels import deflated, fragments, jpeg, jpeg2000, jpeg_ls, rle
from ct_assets.deid.pixels.codestream import Cleaned, Codec, DamagedStreamError, Shape

_SYNTAX = "1.2.840.10008.1.2."
_PROCESSES: dict[int, tuple[int, ...]] = {
    50: (0xC0, 0xC1), 51: (0xC0, 0xC1), 52: (0xC9,), 53: (0xC2,), 54: (0xCA,), 55: (0xC2,), 56: (0xCA,),
    57: (0xC3,), 58: (0xCB,), 59: (0xC5,), 60: (0xCD,), 61: (0xC6,), 62: (0xCE,), 63: (0xC6,), 64: (0xCE,),
    65: (0xC7,), 66: (0xCF,), 70: (0xC3,),
}  # fmt: skip
"""Starts of frame by the last number of the transfer syntax (PS3.5 A.4.1 and its retired ones); sequential
8-bit data decode alike under baseline and extended, and come under both."""
_JPEG = {
    f"{_SYNTAX}4.{number}": partial(jpeg.clean, processes=frozenset(allowed))
    for number, allowed in _PROCESSES.items()
}
JPEG_SYNTAXES = frozenset(_JPEG)
JPEG_LS_SYNTAXES = frozenset(f"{_SYNTAX}4.{number}" for number in (80, 81))
JPEG_2000_SYNTAXES = frozenset(f"{_SYNTAX}4.{number}" for number in (90, 91, 92, 93, 201, 202, 203))
_REVERSIBLE = frozenset(f"{_SYNTAX}4.{number}" for number in (90, 92, 201, 202))
RLE_SYNTAX, DEFLATED_FRAMES_SYNTAX = f"{_SYNTAX}5", f"{_SYNTAX}8.1"
CODECS: dict[str, tuple[Codec, bytes]] = {
    **{syntax: (codec, b"\xff\xd8\xff") for syntax, codec in _JPEG.items()},
    f"{_SYNTAX}4.80": (partial(jpeg_ls.clean, is_lossless=True), b"\xff\xd8\xff"),
    f"{_SYNTAX}4.81": (jpeg_ls.clean, b"\xff\xd8\xff"),
    **{
        syntax: (partial(jpeg2000.clean, is_lossless=syntax in _REVERSIBLE), b"\xff\x4f\xff\x51")
        for syntax in JPEG_2000_SYNTAXES
    },
    RLE_SYNTAX: (rle.clean, b""),
    DEFLATED_FRAMES_SYNTAX: (deflated.clean, b""),
}
"""Parser by transfer syntax, and the bytes that begin each of its frames, where there are such."""


DecodeAlike = Callable[[bytes, bytes], bool]
LONGEST_TEXT = 4096
TRIALS = 8
_TEXT_AT_END = re.compile(rb"(?:[\t\n\r\x20-\x7e]{10,}|(?:[\x20-\x7e]\0){6,}|(?:\0[\x20-\x7e]){6,})\0*\Z")
"""Ten bytes of text at the end of coded data stand there by chance once in some 20,000 times."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The Extended Offset Table and its lengths, as bytes; None where absent (PS3.3 C.7.6.3.1.8)."""

    offsets: bytes | None = None
    lengths: bytes | None = None


@dataclass(frozen=True, slots=True)
class Encapsulated:
    """Pixel data after the parsing."""

    value: bytes
    tables: Tables
    removed: Counter[str]
    frames: tuple[Cleaned, ...]
    changed: tuple[tuple[bytes, bytes], ...]
    """Each frame that lost bytes, before and after."""


def clean(
    value: bytes, syntax: str, shape: Shape, count: int, tables: Tables, decode_alike: DecodeAlike
) -> Encapsulated:
    """Return the value field of `count` frames without the bytes that decode to no pixel.

    `decode_alike` tells whether two frames give the same picture, and refuses what gives none. The field comes
    back byte for byte where nothing is removed. Raises `DamagedStreamError`.
    """
    codec, first_bytes = CODECS[syntax]
    source = fragments.read(value)
    starts = _longs(tables.offsets) if tables.offsets is not None else source.offsets
    pieces = fragments.frames_of(source, count, starts, first_bytes)
    removed: Counter[str] = Counter()
    if surplus := sum(len(piece) for frame in pieces[count:] for piece in frame):
        removed["frames beyond NumberOfFrames"] += surplus
    before = [b"".join(frame) for frame in pieces[:count]]
    frames = [_without_text(codec(frame, shape), decode_alike) for frame in before]
    for frame in frames:
        removed.update(frame.removed)
    places = _places(source.places, pieces[:count])
    if source.offsets and list(source.offsets) != places:
        removed["entries of the offset table"] += 4 * len(source.offsets)
    if tables != Tables() and tables != _tables(places, [len(frame) for frame in before]):
        removed["entries of the offset table"] += len(tables.offsets or b"") + len(tables.lengths or b"")
    changed = tuple((old, new.content) for old, new in zip(before, frames, strict=True) if new.removed)
    if not removed:
        return Encapsulated(value, tables, removed, tuple(frames), changed)
    written, places = fragments.write(
        [frame.content for frame in frames], has_offsets=bool(source.offsets) and tables == Tables()
    )
    sizes = [len(frame.content) + len(frame.content) % 2 for frame in frames]
    renewed = tables if tables == Tables() else _tables(places, sizes)
    return Encapsulated(written, renewed, removed, tuple(frames), changed)


def _without_text(frame: Cleaned, decode_alike: DecodeAlike) -> Cleaned:
    """Return a frame with zeros for text at the end of its coded data, where it decodes to the same so.

    Entropy-coded data look like text by chance; then the picture without them is another, and they stay.
    """
    content, blanked = frame.content, 0
    for end in frame.coded_ends:
        start = max(end - LONGEST_TEXT, 0)
        text = _TEXT_AT_END.search(content, start, end)
        if text is None:
            continue
        # The last bytes of the picture may read as text too, so the text is tried from a little later on.
        for first in range(text.start(), min(text.start() + TRIALS, end)):
            without = content[:first] + bytes(end - first) + content[end:]
            if decode_alike(content, without):
                blanked += len(content[first:end].rstrip(b"\0"))
                content = without
                break
    if not blanked:
        return frame
    removed = Counter(frame.removed) + Counter({"text behind entropy-coded data": blanked})
    return replace(frame, content=content, removed=dict(removed))


def _places(places: Sequence[int], pieces: Sequence[Sequence[bytes]]) -> list[int]:
    """Return the offset of each frame's first fragment."""
    starts, number = [], 0
    for frame in pieces:
        starts.append(places[number])
        number += len(frame)
    return starts


def _longs(table: bytes) -> tuple[int, ...]:
    if len(table) % 8:
        raise DamagedStreamError("an Extended Offset Table of no whole offsets")
    return struct.unpack(f"<{len(table) // 8}Q", table)


def _tables(places: Sequence[int], lengths: Sequence[int]) -> Tables:
    return Tables(*(struct.pack(f"<{len(numbers)}Q", *numbers) for numbers in (places, lengths)))

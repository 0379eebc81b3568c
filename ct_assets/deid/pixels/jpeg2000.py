"""JPEG 2000 frames (ISO 15444-1, -2 and -15, High-Throughput) down to what a decoder needs.

Belongs here: the walk over the main header, tile-parts and, where a frame is a JP2 file, its boxes. Does not:
decoding.

Comments (but for the encoder's name and version), component registration and packet lengths of the main header
go, and of a JP2 file everything but the codestream. Packet lengths of a tile-part (PLT) stay where they add up
to its data; tile-part lengths (TLM) are written anew, since what goes makes tile-parts shorter. Bytes between
tile-parts make a frame damaged, and so do segments longer than their own fields say: decoders skip the rest.
Packet headers set apart (PPM, PPT) are not parsed. Under a lossless transfer syntax every wavelet has to be the
reversible one (PS3.5 A.4.4): a lossy image called lossless is a wrong statement about the data.
"""

import re
import struct

from ct_assets.deid.pixels.codestream import (
    Cleaned,
    DamagedStreamError,
    Parts,
    Shape,
    UnparsedStreamError,
    fitting,
    is_padding,
)

SOC, EOC, SOT, SOD = b"\xff\x4f", b"\xff\xd9", 0x90, 0x93
SIZ, COD, TLM, PLM, PLT, CRG, COM = 0x51, 0x52, 0x55, 0x57, 0x58, 0x63, 0x64
CAP, COC, QCD, QCC, RGN, POC, PPM, PPT = 0x50, 0x53, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61
JP2_SIGNATURE = b"\0\0\0\x0cjP  "
_NEEDED = frozenset(
    (
        SIZ, COD, COC, QCD, QCC, RGN, POC,
        CAP, 0x59,  # CPF
        0x74, 0x75, 0x76, 0x77, 0x78,  # MCT MCC NLT MCO CBD (part 2)
    )
)  # fmt: skip
_PART_2 = frozenset((0x74, 0x75, 0x76, 0x77, 0x78))
_PART_15 = frozenset((CAP, 0x59))
_MAIN_HEADER_ONLY = frozenset((SIZ, CAP, 0x59))
_BY_COMPONENT = frozenset((COC, QCC, RGN))
_SEVERAL = _PART_2
_REVERSIBLE = 1
_NAMES = {
    COM: "JPEG 2000 comments",
    CRG: "JPEG 2000 component registration",
    PLM: "JPEG 2000 packet lengths",
    PLT: "JPEG 2000 packet lengths",
}
_SOT_BYTES = 12
_ENCODER = re.compile(
    rb"\xff\x64..\0\x01(?:"
    rb"(?:Created by (?:GDCM/)?OpenJPEG version |Creator: JasPer Version |Kakadu-[a-z]{0,2})[0-9.]{1,12}"
    rb"|Kdu-Layer-Info: log_2\{Delta-D\(squared-error\)/Delta-L\(bytes\)\}, L\(bytes\)\n"
    rb"(?:[ 0-9.-]{1,8}, {0,4}[0-9.]{1,5}e\+[0-9]{2}\n){0,99})",
    re.DOTALL,
)
"""Comments that nearly every frame has: the encoder, its version, and Kakadu's list of layers."""


def clean(frame: bytes, shape: Shape, *, is_lossless: bool = False) -> Cleaned:
    """Return a frame without the bytes that decode to no pixel; `is_lossless` by the transfer syntax.

    Raises `DamagedStreamError`.
    """
    parts = Parts()
    code = frame
    if frame.startswith(JP2_SIGNATURE):
        code = _codestream_of_jp2(frame)
        parts.remove("JP2 boxes", len(frame) - len(code))
    if code[:2] != SOC:
        raise DamagedStreamError("no start of codestream")
    header, position, declared, lengths = _main_header(code, parts)
    tiles: list[tuple[int, bytes]] = []
    styles = list(header)
    sizes: list[int] = []
    while code[position : position + 2] == b"\xff\x90":
        tile, end, own = _tile_part(code, position, parts)
        tiles.append(tile)
        styles += own
        sizes.append(end - position)
        position = end
    if code[position : position + 2] != EOC or not tiles:
        raise DamagedStreamError("no tile-part or end of codestream where one has to be")
    _check_styles(styles, is_lossless=is_lossless)
    parts.keep(SOC, *header)
    if lengths:
        if _stated_lengths(lengths) != sizes:
            parts.remove("JPEG 2000 tile-part lengths", sum(map(len, lengths)))
        parts.keep(*_tile_lengths(tiles))
    for _, content in tiles:
        parts.keep_coded(content)
    parts.keep(EOC)
    rest = code[position + 2 :]
    if not is_padding(rest):
        parts.remove("bytes behind the end of the image", len(rest))
    return fitting(parts.cleaned(frame, declared), shape)


def _main_header(code: bytes, parts: Parts) -> tuple[list[bytes], int, Shape, list[bytes]]:
    """Return the segments that stay, where the first tile-part begins, the shape, and the segments of
    tile-part lengths."""
    kept: list[bytes] = []
    lengths: list[bytes] = []
    position = 2
    shape: Shape | None = None
    while True:
        marker, segment = _segment(code, position)
        if marker == SOT:
            break
        position += len(segment)
        if marker == SIZ:
            _check(len(segment) == 40 + 3 * int.from_bytes(segment[38:40], "big"))
            shape = _declared(segment)
        if marker == TLM:
            lengths.append(segment)
        elif _is_used(marker, kept[0] if kept else segment) or _ENCODER.fullmatch(segment):
            kept.append(segment)
        else:
            parts.remove(_name(marker), len(segment))
    if shape is None or kept[0][1] != SIZ:
        raise DamagedStreamError("no image and tile size where they have to be")
    _check_one_each(kept, shape.samples)
    return kept, position, shape, lengths


def _is_used(marker: int, siz: bytes) -> bool:
    """Whether a decoder needs a segment of the main header under these capabilities (Rsiz, 15444-1 A.5.1)."""
    capabilities = siz[4]
    if marker in _PART_2:
        return bool(capabilities & 0x80)
    return marker in _NEEDED and (marker not in _PART_15 or bool(capabilities & 0x40))


def _check_one_each(kept: list[bytes], components: int) -> None:
    """Refuse a second segment of a kind (for a component), and one for a component that is not there."""
    seen = set()
    width = 1 if components < 257 else 2
    for segment in kept:
        marker, number = segment[1], 0
        if marker in _BY_COMPONENT and components < 1 << 14:
            number = int.from_bytes(segment[4 : 4 + width], "big")
            _check(number < components)
        elif marker in _BY_COMPONENT or marker in _SEVERAL or marker == COM:
            continue
        _check((marker, number) not in seen)
        seen.add((marker, number))


def _check_styles(segments: list[bytes], *, is_lossless: bool) -> None:
    """Refuse coding styles (15444-1 A.6) that are longer than their fields say, or lossy in a lossless syntax."""
    siz = segments[0]
    width = 1 if int.from_bytes(siz[38:40], "big") < 257 else 2
    has_part_2 = bool(siz[4] & 0x80)
    levels = 0
    for segment in segments:
        marker, content = segment[1], segment[4:]
        if marker in (COD, COC):
            start = 5 if marker == COD else width + 1  # of the parameters SPcod, SPcoc
            _check(len(content) >= start + 5)
            style = content[0 if marker == COD else width]
            levels = max(levels, content[start])
            precincts = content[start] + 1 if style & 1 else 0
            _check(has_part_2 or len(content) == start + 5 + precincts)
            _check(not is_lossless or content[start + 4] == _REVERSIBLE)
        elif marker == RGN:
            _check(len(content) == width + 2)
        elif marker == POC:
            _check(len(content) % (5 + 2 * width) == 0)
        elif marker == CAP:
            _check(len(content) == 4 + 2 * int.from_bytes(content[:4], "big").bit_count())
    for segment in segments:
        if segment[1] in (QCD, QCC) and not has_part_2:
            steps = segment[4 + (0 if segment[1] == QCD else width) :]
            _check(len(steps) > 0)
            most = {0: 3 * levels + 1, 1: 2}.get(steps[0] & 0x1F, 2 * (3 * levels + 1))
            _check(len(steps) - 1 <= most)


def _declared(siz: bytes) -> Shape:
    """Return what an SIZ segment says (15444-1 A.5.1)."""
    columns, rows, left, top = struct.unpack_from(">4L", siz, 6)
    sizes = siz[40::3]
    _check(len(sizes) > 0)
    return Shape(rows - top, columns - left, len(sizes), max((size & 0x7F) + 1 for size in sizes))


def _tile_part(code: bytes, start: int, parts: Parts) -> tuple[tuple[int, bytes], int, list[bytes]]:
    """Return number and content of a tile-part, where it ends, and its segments but packet lengths."""
    _check(code[start + 2 : start + 4] == b"\0\x0a" and start + _SOT_BYTES <= len(code))
    index, length = struct.unpack_from(">HL", code, start + 4)
    end = start + length
    if length == 0:  # the last one: up to the end of the codestream
        end = code.rfind(EOC)
    _check(start + _SOT_BYTES < end <= len(code))
    kept: list[bytes] = []
    packets: list[bytes] = []
    position = start + _SOT_BYTES
    while code[position : position + 2] != b"\xff\x93":
        marker, segment = _segment(code, position)
        position += len(segment)
        _check(position < end and marker != SOT)
        if marker == PLT:
            packets.append(segment)
        elif marker in _NEEDED and marker not in _MAIN_HEADER_ONLY:
            kept.append(segment)
        else:
            parts.remove(_name(marker), len(segment))
    _check_one_each(kept, 1 << 14)
    styles = list(kept)
    data = code[position + 2 : end]
    if _add_up(packets, len(data)):
        kept += packets
    else:
        parts.remove(_name(PLT), sum(map(len, packets)))
    size = _SOT_BYTES + sum(map(len, kept)) + 2 + len(data)
    head = code[start : start + 6] + struct.pack(">L", size) + code[start + 10 : start + 12]
    return (index, b"".join((head, *kept, b"\xff\x93", data))), end, styles


def _add_up(packets: list[bytes], length: int) -> bool:
    """Whether the packet lengths of PLT segments (15444-1 A.7.3) are those of so many bytes of data."""
    total = number = 0
    for byte in b"".join(segment[5:] for segment in packets):
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            total, number = total + number, 0
    return total == length and number == 0


def _stated_lengths(segments: list[bytes]) -> list[int]:
    """Return the lengths that TLM segments list; none where they are not built as 15444-1 A.7.1 has it."""
    found: list[int] = []
    for segment in segments:
        form = segment[5]
        index, size = form >> 4 & 3, 4 if form & 0x40 else 2
        entries = segment[6:]
        if index == 3 or len(entries) % (index + size):
            return []
        found += [
            int.from_bytes(entries[at + index : at + index + size], "big")
            for at in range(0, len(entries), index + size)
        ]
    return found


def _tile_lengths(tiles: list[tuple[int, bytes]]) -> list[bytes]:
    """Return TLM segments (15444-1 A.7.1), two bytes for the tile and four for the length of each part."""
    entries = [struct.pack(">HL", index, len(content)) for index, content in tiles]
    most = 10000
    return [
        struct.pack(">HHBB", 0xFF55, 4 + 6 * len(part), number, 0x60) + b"".join(part)
        for number, part in enumerate(entries[at : at + most] for at in range(0, len(entries), most))
    ]


def _segment(code: bytes, position: int) -> tuple[int, bytes]:
    """Return marker and bytes of the segment at `position`, marker and length included."""
    _check(code[position : position + 1] == b"\xff" and position + 4 <= len(code))
    end = position + 2 + int.from_bytes(code[position + 2 : position + 4], "big")
    _check(position + 4 <= end <= len(code))
    if code[position + 1] in (PPM, PPT):
        raise UnparsedStreamError("packet headers set apart")
    return code[position + 1], code[position:end]


def _codestream_of_jp2(content: bytes) -> bytes:
    """Return the codestream of a JP2 file (15444-1 Annex I)."""
    position, found = 0, []
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">L4s", content, position)
        head = 8
        if length == 1 and position + 16 <= len(content):
            (length,) = struct.unpack_from(">Q", content, position + 8)
            head = 16
        end = len(content) if length == 0 else position + length
        _check(position + head <= end <= len(content))
        if kind == b"jp2c":
            found.append(content[position + head : end])
        position = end
    _check(len(found) == 1)
    return found[0]


def _name(marker: int) -> str:
    return _NAMES.get(marker, "JPEG 2000 segments without use")


def _check(is_so: bool) -> None:
    if not is_so:
        raise DamagedStreamError("the codestream is not built as JPEG 2000 has it")

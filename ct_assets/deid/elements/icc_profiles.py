"""ICC profiles (ISO 15076-1) down to numbers: texts, makers, dates and private tags go.

Belongs here: what of a profile stays, and the sRGB profile in the place of one that cannot be cleaned so. Does
not: where profiles stand (`bulk`).
"""

import struct

_HEADER_BYTES = 128
_KEPT_TAGS = frozenset(
    (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"wtpt", b"bkpt", b"lumi", b"chad")
)
_D50 = (0.9642, 1.0, 0.8249)
_SRGB = {
    b"rXYZ": (0.43607, 0.22249, 0.01392),
    b"gXYZ": (0.38515, 0.71687, 0.09708),
    b"bXYZ": (0.14307, 0.06061, 0.7141),
}
_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""sRGB (IEC 61966-2-1) with its primaries adapted to D50."""
_PARAMETERS = (1, 3, 4, 5, 7)
"""Numbers of a parametric curve by its function type (15076-1 10.18)."""


def clean(profile: bytes) -> bytes:
    """Return the profile of matrices and curves alone, with standard texts; sRGB where it has others or none."""
    try:
        kept = _numbers_of(profile)
    except (struct.error, IndexError):
        kept = {}
    space = profile[16:20]
    wanted = {b"RGB ": {b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"}, b"GRAY": {b"kTRC"}}.get(space)
    if wanted is None or not kept.keys() >= wanted | {b"wtpt"} or profile[20:24] != b"XYZ ":
        kept, space = _srgb(), b"RGB "
    return _written(kept, space, profile[12:16] if profile[12:16] in _CLASSES else b"mntr")


_CLASSES = frozenset((b"scnr", b"mntr", b"prtr", b"spac"))


def _numbers_of(profile: bytes) -> dict[bytes, bytes]:
    """Return the tags that hold numbers, each cut to the length that its type implies; none where a table of
    colours (A2B0) takes precedence over them."""
    (count,) = struct.unpack_from(">L", profile, _HEADER_BYTES)
    found = {}
    for number in range(min(count, 100)):
        tag, start, size = struct.unpack_from(">4sLL", profile, _HEADER_BYTES + 4 + 12 * number)
        if tag.startswith(b"A2B"):
            return {}
        content = profile[start : start + size]
        length = _length(content) if tag in _KEPT_TAGS else 0
        if 0 < length <= len(content):
            found[tag] = content[:4] + bytes(4) + content[8:length]
    return found


def _length(content: bytes) -> int:
    kind = content[:4]
    if kind == b"XYZ ":
        return 20
    if kind == b"sf32":
        return 44
    if kind == b"curv":
        return 12 + 2 * int.from_bytes(content[8:12], "big")
    if kind == b"para":
        return 12 + 4 * _PARAMETERS[int.from_bytes(content[8:10], "big")]
    return 0


def _srgb() -> dict[bytes, bytes]:
    tags = {tag: _xyz(values) for tag, values in {**_SRGB, b"wtpt": _D50}.items()}
    curve = b"para\0\0\0\0\0\3\0\0" + _fixed(_CURVE)
    return tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _fixed(values: tuple[float, ...]) -> bytes:
    return struct.pack(f">{len(values)}l", *(round(value * 65536) for value in values))


def _written(tags: dict[bytes, bytes], space: bytes, kind: bytes) -> bytes:
    """Return a profile of version 4.3 with a fixed date and without maker, model and ID."""
    text = "RGB" if space == b"RGB " else "grey"
    unicode = text.encode("utf-16-be")
    said = b"mluc" + struct.pack(">LLL2s2sLL", 0, 1, 12, b"en", b"US", len(unicode), 28) + unicode
    texts = {b"desc": said, b"cprt": said}
    body, entries = b"", b""
    start = _HEADER_BYTES + 4 + 12 * (len(tags) + len(texts))
    for tag, content in sorted((texts | tags).items()):
        entries += struct.pack(">4sLL", tag, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">L4sL4s4s4s6H4s",
        start + len(body),
        b"",
        0x04300000,
        kind,
        space,
        b"XYZ ",
        2000,
        1,
        1,
        0,
        0,
        0,
        b"acsp",
    )
    head = head.ljust(68, b"\0") + _fixed(_D50)
    return head.ljust(_HEADER_BYTES, b"\0") + struct.pack(">L", len(tags) + len(texts)) + entries + body

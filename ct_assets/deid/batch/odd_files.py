"""Files whose bytes and header disagree, as some senders write them: put right, or named by what is wrong.

Belongs here: archives, deflated data sets with another wrapper, a byte order other than the one stated, and bytes
that are no element. Does not: reading elements (`plainfile`, `dicomfile`).
"""

import struct
import zlib

from ct_assets.deid.batch.plainfile import LONG_VRS, META_START

DEFLATED = frozenset((b"1.2.840.10008.1.2.1.99",))
EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2"
_ARCHIVES = (
    (0, b"PK\x03\x04"), (0, b"PK\x05\x06"), (0, b"PK\x07\x08"),  # zip
    (0, b"\x1f\x8b"), (0, b"\x1f\x9d"), (0, b"\x1f\xa0"),  # gzip, compress
    (0, b"BZh"), (0, b"\xfd7zXZ\0"), (0, b"]\0\0"), (0, b"LZIP"),  # bzip2, xz, lzma, lzip
    (0, b"7z\xbc\xaf\x27\x1c"), (0, b"Rar!\x1a\x07"), (0, b"\x28\xb5\x2f\xfd"), (0, b"\x04\x22\x4d\x18"),  # zstd, lz4
    (257, b"ustar"), (32769, b"CD001"),  # tar, a medium's image
)  # fmt: skip
_FIRST_GROUPS = range(0x0008, 0x0030)
"""Groups with which a data set begins."""


class DamagedDeflateError(Exception):
    """Deflated data that cannot be inflated; `is_short` where they only end too early."""

    def __init__(self, *, is_short: bool) -> None:
        super().__init__("truncated" if is_short else "damaged")
        self.is_short = is_short


def is_archive(content: bytes) -> bool:
    """Whether the file is an archive or a compressed file by its first bytes."""
    return any(content.startswith(magic, place) for place, magic in _ARCHIVES)


def put_right(content: bytes) -> bytes:
    """Return the file with a data set that is encoded as its header says, and inflated; the same bytes where it is
    already.

    A deflated data set is inflated, whatever wrapper it has (PS3.5 A.5 knows none; a zlib header is common). A
    first group of 0800 in the stated byte order shows the other one. Raises `DamagedDeflateError`.
    """
    if content[128:132] != b"DICM":
        return content
    try:
        start, syntax = _after_meta(content)
    except struct.error:
        return content
    if syntax in DEFLATED:
        return _with_syntax(content, start, EXPLICIT_LITTLE, _inflated(content[start:]))
    order = ">" if syntax == EXPLICIT_BIG else "<"
    if len(content) < start + 8 or not syntax:
        return content
    stated, swapped = (
        struct.unpack_from(f"{way}H", content, start)[0] for way in (order, "<>"[order == "<"])
    )
    if stated in _FIRST_GROUPS or swapped not in _FIRST_GROUPS:
        return content
    is_explicit = content[start + 4 : start + 6].isalpha()
    if order == "<" and not is_explicit:
        return content  # no transfer syntax is big-endian and implicit
    return _with_syntax(
        content, start, EXPLICIT_BIG if order == "<" else EXPLICIT_LITTLE if is_explicit else IMPLICIT
    )


def is_deflated(content: bytes) -> bool:
    """Whether the file says that its data set is deflated."""
    try:
        return content[128:132] == b"DICM" and _after_meta(content)[1] in DEFLATED
    except struct.error:
        return False


def _inflated(body: bytes) -> bytes:
    is_short = True
    for window in (-15, 15 + 32):  # bare, then with a header of zlib or gzip
        unpacker = zlib.decompressobj(window)
        try:
            inflated = unpacker.decompress(body)
        except zlib.error:
            is_short = False
            continue
        if unpacker.eof:
            return inflated
        raise DamagedDeflateError(is_short=True)
    raise DamagedDeflateError(is_short=is_short)


def _after_meta(content: bytes) -> tuple[int, bytes]:
    """Return where the data set begins, and the transfer syntax."""
    position, syntax = META_START, b""
    while content[position : position + 2] == b"\x02\0":
        _, number, vr, length = struct.unpack_from("<HH2sH", content, position)
        head = 8
        if vr in LONG_VRS:
            (length,) = struct.unpack_from("<L", content, position + 8)
            head = 12
        if number == 0x0010:
            syntax = content[position + head : position + head + length].strip(b" \0")
        position += head + length
    return position, syntax


def _with_syntax(content: bytes, start: int, syntax: bytes, body: bytes | None = None) -> bytes:
    """Return the file in another transfer syntax: a meta group of nothing but class, instance and syntax."""
    kept, position = [], META_START
    while position < start:
        _, number, vr, length = struct.unpack_from("<HH2sH", content, position)
        head = 8
        if vr in LONG_VRS:
            (length,) = struct.unpack_from("<L", content, position + 8)
            head = 12
        if number in (0x0002, 0x0003):
            kept.append(content[position : position + head + length])
        position += head + length
    value = syntax + b"\0" * (len(syntax) & 1)
    kept.append(struct.pack("<HH2sH", 2, 0x10, b"UI", len(value)) + value)
    group = b"".join(kept)
    size = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(group))
    return content[:META_START] + size + group + (content[start:] if body is None else body)

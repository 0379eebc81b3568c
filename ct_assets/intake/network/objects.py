"""Arriving objects: who an object is, and the file header that is put before its data set.

Belongs here: study, series and instance of a data set as it came, and the File Meta Information (PS3.10 7.1).
Does not: anything else in the data set, which is written as it was sent. Names on disk are keyed digests,
since UIDs of a hospital are identifiers, and a name from the network must never lead out of a folder.
"""

import hashlib
import mmap
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydicom.uid import UID

from ct_assets.deid.batch.dicomfile import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from ct_assets.dicom import extent
from ct_assets.dicom.elements import NotPlainError, read_header

if TYPE_CHECKING:
    from ct_assets.identity.key import SecretKey

NAME_HEX_DIGITS = 32
META_START = 132
"""Where the File Meta Information begins, behind preamble and prefix (PS3.10 7.1)."""

SOP_CLASS, SOP_INSTANCE, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_WANTED = frozenset((SOP_CLASS, SOP_INSTANCE, STUDY, SERIES))


class RefusedObjectError(Exception):
    """An object that is not taken; `code` is a reason code of `ct_assets.reasons.intake`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class CutOffObjectError(RefusedObjectError):
    """A data set that ends inside an element: bytes are missing."""

    def __init__(self) -> None:
        super().__init__("object_cut_off")


@dataclass(frozen=True, slots=True)
class Identity:
    """Where an object belongs: opaque names, equal for equal UIDs under one key."""

    study: str
    series: str
    instance: str


def opaque(key: "SecretKey | None", kind: str, uid: str) -> str:
    """Return the name under which a UID is known on disk."""
    if key is None:
        return hashlib.sha256(f"{kind}\0{uid}".encode()).hexdigest()[:NAME_HEX_DIGITS]
    return key.digest(f"received {kind}", uid).hex()[:NAME_HEX_DIGITS]


def identify(path: Path, sop_class: str, sop_instance: str, key: "SecretKey | None") -> Identity:
    """Read who the object in `path` is, and hold it against what the sender's command said.

    Raises `RefusedObjectError`: `object_unreadable` where study, series or instance cannot be read,
    `object_not_as_announced` where SOP class or instance are not those of the command (PS3.4 B.2.3, A9xx),
    `object_cut_off` where bytes are missing at its end.
    """
    try:
        raw = read_header(path, _WANTED).values
    except (NotPlainError, struct.error, UnicodeDecodeError):
        raw = _by_pydicom(path)
    uids = {tag: value.decode("ascii", "replace").strip(" \0") for tag, value in raw.items()}
    if not (uids.get(STUDY) and uids.get(SERIES)):
        raise RefusedObjectError("object_unreadable")
    if (uids.get(SOP_CLASS), uids.get(SOP_INSTANCE)) != (sop_class, sop_instance):
        raise RefusedObjectError("object_not_as_announced")
    _check_whole(path)
    return Identity(
        opaque(key, "study", uids[STUDY]),
        opaque(key, "series", uids[SERIES]),
        opaque(key, "instance", sop_instance),
    )


def _check_whole(path: Path) -> None:
    """Step over a file of this receiver's up to its end. Raises `CutOffObjectError`."""
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = META_START + struct.unpack_from("<L", content, META_START + 8)[0] + 12
        syntax = UID(_syntax(content[META_START:start]))
        try:
            if syntax.is_deflated:
                unpacked = _unpacked(content[start:])
                extent.check_whole(unpacked, 0, explicit=True)
            else:
                explicit, little = not syntax.is_implicit_VR, syntax.is_little_endian
                extent.check_whole(cast(bytes, content), start, explicit=explicit, little=little)
        except (extent.CutOffError, zlib.error):
            raise CutOffObjectError from None


def _syntax(meta: bytes) -> str:
    place = meta.index(struct.pack("<HH2s", 2, 0x10, b"UI"))
    (length,) = struct.unpack_from("<H", meta, place + 6)
    return meta[place + 8 : place + 8 + length].decode("ascii").rstrip("\0")


def _unpacked(content: bytes) -> bytes:
    packer = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    unpacked = packer.decompress(content)
    if not packer.eof:
        raise extent.CutOffError
    return unpacked


def file_head(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Return preamble and File Meta Information; equal objects get equal bytes, whoever sends them."""
    meta = b"".join(
        (
            struct.pack("<HH2sHL2s", 2, 1, b"OB", 0, 2, b"\0\1"),
            _short(0x0002, b"UI", sop_class),
            _short(0x0003, b"UI", sop_instance),
            _short(0x0010, b"UI", transfer_syntax),
            _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short(0x0013, b"SH", IMPLEMENTATION_VERSION),
        )
    )
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta)) + meta


def _short(element: int, vr: bytes, value: str) -> bytes:
    encoded = value.encode("ascii")
    if len(encoded) & 1:
        encoded += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 2, element, vr, len(encoded)) + encoded


def _by_pydicom(path: Path) -> dict[int, bytes]:
    """Read what the quick walker does not: big endian, deflated, no pixel data."""
    from pydicom import dcmread

    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=sorted(_WANTED))
        return {int(element.tag): str(element.value).encode() for element in found if element.tag in _WANTED}
    except Exception:
        raise RefusedObjectError("object_unreadable") from None

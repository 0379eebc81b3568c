"""Arriving objects: who an object is, and the file header that is put before its data set.

Belongs here: study, series and instance of a data set as it came, and the File Meta Information (PS3.10 7.1).
Does not: anything else in the data set, which is written as it was sent. Names on disk are keyed digests,
since UIDs of a hospital are identifiers, and a name from the network must never lead out of a folder.
"""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct_assets.deid.batch.dicomfile import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from ct_assets.dicom.elements import NotPlainError, read_header

if TYPE_CHECKING:
    from ct_assets.identity.key import SecretKey

NAME_HEX_DIGITS = 32

SOP_CLASS, SOP_INSTANCE, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_WANTED = frozenset((SOP_CLASS, SOP_INSTANCE, STUDY, SERIES))


class RefusedObjectError(Exception):
    """An object that is not taken; `code` is a reason code of `ct_assets.reasons.intake`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


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
    `object_not_as_announced` where SOP class or instance are not those of the command (PS3.4 B.2.3, A9xx).
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
    return Identity(
        opaque(key, "study", uids[STUDY]),
        opaque(key, "series", uids[SERIES]),
        opaque(key, "instance", sop_instance),
    )


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

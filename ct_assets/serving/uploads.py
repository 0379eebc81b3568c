"""Receiving files: a body as it streams in, multipart or plain, into the spool; then unpacked and looked at.

Belongs here: limits (bytes, files, zip bombs), reading of multipart (form-data and related) and of zip archives, and what
becomes of each file. A name that comes with a file is never used; what is in a file decides what it is.
"""

import hashlib
import io
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ct_assets.serving.problems import Problem
from ct_assets.settings.serving import ServingSettings

MEGABYTE = 1_000_000
CHUNK = 1 << 20
LONGEST_FIELD = 10_000
BLOCK_NAME = "received-{:06d}"


@dataclass
class Received:
    """One file of a request, after it was looked at."""

    number: int
    status: str
    """`accepted` or `refused`."""
    reason: str | None = None
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None
    sha256: str = ""

    def view(self) -> dict[str, Any]:
        """Return what the sender sees."""
        return {name: value for name, value in vars(self).items() if name != "sha256"}


@dataclass
class Upload:
    """A body under way into a folder: raw parts and the fields of a form."""

    folder: Path
    settings: ServingSettings
    parts: list[Path] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    size: int = 0

    async def receive(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        """Write a body to the folder as it comes. Raises `Problem` 413 where it is too large, 400 for a broken one."""
        kind, options = parse_options_header(content_type)
        if kind.startswith(b"multipart/"):
            boundary = options.get(b"boundary")
            if not boundary:
                raise Problem(400, "no_boundary", "The Content-Type of a multipart body names its boundary.")
            reader = _Parts(self, boundary)
            try:
                async for chunk in body:
                    self._count(chunk)
                    reader.parser.write(chunk)
                reader.parser.finalize()
            except FormParserError:
                raise Problem(400, "broken_multipart", "The multipart body cannot be read.") from None
            finally:
                reader.close()
            if not reader.is_complete:
                raise Problem(400, "broken_multipart", "The multipart body ends too early.")
            return
        with self.new_part() as opened:
            async for chunk in body:
                self._count(chunk)
                opened.write(chunk)

    def _count(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self.settings.max_upload_mb * MEGABYTE:
            raise Problem(413, "too_large", f"A request may have {self.settings.max_upload_mb} MB.")

    def new_part(self) -> IO[bytes]:
        """Open the next file."""
        if len(self.parts) >= self.settings.max_files:
            raise Problem(413, "too_many_files", f"A request may have {self.settings.max_files} files.")
        path = self.folder / BLOCK_NAME.format(len(self.parts))
        self.parts.append(path)
        return path.open("xb")


class _Parts:
    """Callbacks of the multipart parser: each file becomes a part, each short field a value."""

    def __init__(self, upload: Upload, boundary: bytes) -> None:
        self.upload = upload
        self.is_complete = False
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""
        self._file: IO[bytes] | None = None
        self._field: bytes | None = None
        self._text = b""
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._add("_name", data[start:end]),
                "on_header_value": lambda data, start, end: self._add("_value", data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def close(self) -> None:
        """Close what an error left open."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._headers, self._text, self._field = {}, b"", None

    def _add(self, name: str, data: bytes) -> None:
        setattr(self, name, getattr(self, name) + data)

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        is_field = b"name" in options and b"filename" not in options
        if is_field and b"content-type" not in self._headers:
            self._field = options[b"name"]
        else:
            self._file = self.upload.new_part()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > LONGEST_FIELD:
            raise Problem(413, "field_too_long", "A field of the form is too long.")

    def _part_end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        elif self._field is not None:
            self.upload.fields[self._field.decode("utf-8", "replace")] = self._text.decode("utf-8", "replace")

    def _end(self) -> None:
        self.is_complete = True


def unpack(upload: Upload, study_uid: str | None = None) -> list[Received]:
    """Put the usable files of an upload into its folder, one a file, and return what became of each.

    Zip archives are unpacked, not those inside them. With `study_uid` instances of other studies are refused. Raises
    `Problem` for archives that unpack to too much.
    """
    found: list[Received] = []
    room = _Room(upload.settings)
    seen: set[str] = set()
    for part in upload.parts:
        with part.open("rb") as opened:
            is_zip = opened.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
        if is_zip:
            _unpack_zip(part, upload.folder, room, seen, found, study_uid)
        else:
            room.take_file()
            with part.open("rb") as opened:
                found.append(_keep(opened.read, upload.folder, room, seen, len(found), study_uid))
        part.unlink()
    return found


@dataclass
class _Room:
    """How much may still be unpacked."""

    settings: ServingSettings
    size: int = 0
    count: int = 0

    def take_file(self) -> None:
        self.count += 1
        if self.count > self.settings.max_files:
            raise Problem(413, "too_many_files", f"A request may have {self.settings.max_files} files.")

    def take(self, size: int) -> None:
        self.size += size
        if self.size > self.settings.max_unpacked_mb * MEGABYTE:
            raise Problem(413, "too_large", f"A request may unpack to {self.settings.max_unpacked_mb} MB.")


def _unpack_zip(
    part: Path, folder: Path, room: _Room, seen: set[str], found: list[Received], study_uid: str | None
) -> None:
    try:
        with zipfile.ZipFile(part) as archive:
            for entry in archive.infolist():
                if entry.is_dir():
                    continue
                room.take_file()
                if entry.flag_bits & 1:
                    raise Problem(422, "encrypted_archive", "The archive is encrypted.")
                limit = max(entry.compress_size, 1) * room.settings.max_ratio + CHUNK
                with archive.open(entry) as opened:
                    read = _limited(opened.read, limit)
                    found.append(_keep(read, folder, room, seen, len(found), study_uid))
    # NotImplementedError is what zipfile raises for a compression that it does not know.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError):
        raise Problem(422, "broken_archive", "The zip archive cannot be read; send it again.") from None


def _limited(read: Callable[[int], bytes], limit: float) -> Callable[[int], bytes]:
    done = 0

    def limited(size: int) -> bytes:
        nonlocal done
        chunk = read(size)
        done += len(chunk)
        if done > limit:
            raise Problem(422, "archive_bomb", "The archive unpacks to far more than it holds.")
        return chunk

    return limited


def _keep(
    read: Callable[[int], bytes],
    folder: Path,
    room: _Room,
    seen: set[str],
    number: int,
    study_uid: str | None,
) -> Received:
    """Write one file under its number and look at it; one that is not usable is removed again."""
    partial = folder / f"{number:06d}.partial"
    digest = hashlib.sha256()
    with partial.open("xb") as written:
        while chunk := read(CHUNK):
            room.take(len(chunk))
            digest.update(chunk)
            written.write(chunk)
    received = _look(partial, number, study_uid)
    received.sha256 = digest.hexdigest()
    if received.status == "accepted" and received.sha256 in seen:
        received.status, received.reason = "refused", "upload_duplicate"
    seen.add(received.sha256)
    if received.status == "accepted":
        partial.rename(folder / f"{number:06d}{_suffix(partial)}")
    else:
        partial.unlink()
    return received


def _suffix(path: Path) -> str:
    with path.open("rb") as opened:
        head = opened.read(352)
    if head[:2] == b"\x1f\x8b":
        return ".nii.gz"
    return ".nii" if _is_nifti(head) else ".dcm"


def _is_nifti(head: bytes) -> bool:
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] == b"n+2\0"


def _look(path: Path, number: int, study_uid: str | None) -> Received:
    with path.open("rb") as opened:
        head = opened.read(CHUNK)
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 352)
        except zlib.error:
            return Received(number, "refused", "upload_damaged")
        is_image = _is_nifti(head)
        return Received(
            number, "accepted" if is_image else "refused", None if is_image else "upload_not_an_image"
        )
    if _is_nifti(head):
        return Received(number, "accepted")
    if head[128:132] != b"DICM":
        return Received(number, "refused", "upload_not_an_image")
    return _look_at_dicom(path, head, number, study_uid)


def _look_at_dicom(path: Path, head: bytes, number: int, study_uid: str | None) -> Received:
    import warnings

    import pydicom

    tags = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            whole = head if len(head) < CHUNK else path.read_bytes()
            data = pydicom.dcmread(io.BytesIO(whole), specific_tags=tags, stop_before_pixels=True)
            uids = [str(data.get(tag) or "") for tag in tags]
    except Exception:  # whatever a broken header raises, it is one file with a code
        return Received(number, "refused", "upload_damaged")
    if not all(uids):
        return Received(number, "refused", "upload_damaged")
    is_of_study = study_uid is None or uids[2] == study_uid
    return Received(
        number,
        "accepted" if is_of_study else "refused",
        None if is_of_study else "upload_not_of_the_study",
        *uids,
    )


def content_digest(received: list[Received], parameters: dict[str, Any]) -> str:
    """Return the digest of what a request means: its files in any order, and its parameters."""
    from ct_assets import files

    return files.digest_of([sorted(one.sha256 for one in received), parameters])

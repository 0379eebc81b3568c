"""The `.complete` marker: which files a delivery has, how long they are, and their SHA-256.

Belongs here: listing a folder, writing and reading markers, holding a folder against its marker. Does not:
moving batches about (`intake.batches`). File names of a hospital carry identities: messages count files and
never name them.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.layout import MARKER_NAME

FORMAT = 1
CHUNK_BYTES = 1 << 20
CHANGED = "it changed while it was read; wait until the export has ended"

Kind = Literal["file", "link"]


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file of a delivery; a symbolic link is delivered as a link and digested by its target's name."""

    path: str
    """Relative to the batch, with forward slashes."""
    bytes: int
    sha256: str
    kind: Kind = "file"


@dataclass(frozen=True)
class Marker:
    """The whole list of a delivery, sorted by path."""

    entries: tuple[Entry, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the list; however the marker's JSON is laid out, equal lists have equal digests."""
        return files.digest_of(
            [[entry.path, entry.bytes, entry.sha256, entry.kind] for entry in self.entries]
        )

    @property
    def bytes(self) -> int:
        """Size of the delivery."""
        return sum(entry.bytes for entry in self.entries)

    def write(self, folder: Path) -> None:
        """Write the marker into `folder`, atomically, as the last thing of a delivery."""
        rows = [
            {"path": entry.path, "bytes": entry.bytes, "sha256": entry.sha256, "kind": entry.kind}
            for entry in self.entries
        ]
        files.write_json(folder / MARKER_NAME, {"format": FORMAT, "files": rows}, mode=0o600)


class MarkerError(Exception):
    """A marker that is no list of files; `code` is a reason code of `ct_assets.reasons.intake`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def read(folder: Path) -> Marker | None:
    """Return the marker of `folder`; None where there is none or an empty one, which only says "complete".

    Raises `MarkerError` for a marker that is no list of files or points out of its folder.
    """
    path = folder / MARKER_NAME
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size == 0:
            return None
        content = files.read_json(path)
        rows = content["files"]
        entries = [_entry(row) for row in rows]
    except MarkerError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise MarkerError(
            "marker_unreadable", "the marker is no JSON list of path, bytes and sha256"
        ) from None
    if len({entry.path for entry in entries}) < len(entries):
        raise MarkerError("marker_unreadable", "the marker lists a path twice")
    return Marker(tuple(sorted(entries)))


def is_touched(folder: Path) -> bool:
    """Tell whether a sender left an empty marker: complete, but without a list."""
    path = folder / MARKER_NAME
    return path.is_file() and not path.is_symlink() and path.stat().st_size == 0


@dataclass(frozen=True, slots=True)
class Found:
    """A file or link of a folder, as it was when the folder was listed."""

    path: str
    """As the marker writes it."""
    source: Path
    state: os.stat_result


def _seen(found: Found) -> tuple[str, int, int]:
    """Return what tells a file from the same file after somebody wrote to it."""
    return found.path, found.state.st_size, found.state.st_mtime_ns


def walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield every entry below `folder` that is no directory, in no order; links are not followed.

    Raises `OSError` where a directory cannot be read.
    """
    with os.scandir(folder) as listing:
        for entry in listing:
            if entry.is_dir(follow_symlinks=False):
                yield from walk(Path(entry.path))
            else:
                yield entry


def survey(folder: Path) -> list[Found]:
    """Return every file and link of a delivery with its state, sorted by path, the marker left out.

    Raises `UsageError` for what cannot be delivered: unreadable folders, sockets, pipes and devices, names
    that are not valid text, and a delivery without a file.
    """
    found = []
    try:
        for entry in walk(folder):
            state = entry.stat(follow_symlinks=False)
            if not (stat.S_ISREG(state.st_mode) or stat.S_ISLNK(state.st_mode)):
                raise UsageError(f"{folder}: holds a pipe, socket or device; a delivery holds files only")
            source = Path(entry.path)
            relative = source.relative_to(folder).as_posix()
            if relative != MARKER_NAME:
                found.append(Found(_as_text(relative), source, state))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read whole ({error.strerror}); nothing was taken") from None
    if not found:
        raise UsageError(f"{folder}: holds no file; name the folder that holds the delivery")
    return sorted(found, key=lambda item: item.path)


def read_entry(folder: Path, found: Found, copy_to: Path | None = None) -> Entry:
    """Digest one file or link below `folder`, and copy it on the way where `copy_to` is given.

    Raises `UsageError` when the file cannot be read or is being written to at the same time.
    """
    try:
        if stat.S_ISLNK(found.state.st_mode):
            target = found.source.readlink()
            if copy_to is not None:
                copy_to.symlink_to(target)
            encoded = os.fsencode(target)
            return Entry(found.path, len(encoded), hashlib.sha256(encoded).hexdigest(), "link")
        digest = _digest_and_copy(found.source, copy_to)
        after = found.source.stat(follow_symlinks=False)
    except OSError as error:
        raise UsageError(f"{folder}: a file cannot be read ({error.strerror}); nothing was taken") from None
    if _seen(Found(found.path, found.source, after)) != _seen(found):
        raise UsageError(f"{folder}: {CHANGED}")
    return Entry(found.path, found.state.st_size, digest)


def take(folder: Path, label: str, copy_to: Path | None = None) -> Marker:
    """Return the marker that describes `folder` as it is, and copy every file on the way to `copy_to`.

    Raises `UsageError` as `survey` and `read_entry` do, and when files came, went or changed meanwhile: also
    those that had been read already.
    """
    there = survey(folder)
    entries = []
    with progress.track(label, len(there)) as advance:
        for found in there:
            target = None
            if copy_to is not None:
                target = copy_to / found.source.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            entries.append(read_entry(folder, found, target))
            advance(1)
    if [_seen(found) for found in survey(folder)] != [_seen(found) for found in there]:
        raise UsageError(f"{folder}: {CHANGED}")
    return Marker(tuple(entries))


def differences(folder: Path, marker: Marker, label: str) -> Counter[str]:
    """Return how often `folder` differs from its marker, by reason code; empty where they agree.

    Raises `UsageError` where the folder cannot be read whole.
    """
    listed = {entry.path: entry for entry in marker.entries}
    there = {found.path: found for found in survey(folder)}
    found: Counter[str] = Counter()
    found["file_not_delivered"] = len(listed.keys() - there.keys())
    found["file_not_listed"] = len(there.keys() - listed.keys())
    both = sorted(listed.keys() & there.keys())
    with progress.track(label, len(both)) as advance:
        for path in both:
            # Of a wrong length it is altered, and need not be read for that.
            length = there[path].state.st_size
            if listed[path].bytes != length or listed[path] != read_entry(folder, there[path]):
                found["file_altered"] += 1
            advance(1)
    return +found


def _entry(row: dict[str, Any]) -> Entry:
    path, sha256, kind = row["path"], row["sha256"], row.get("kind", "file")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or "\\" in path or not parts or ".." in parts or "\0" in path:
        raise MarkerError("marker_leaves_folder", "the marker lists a path outside its folder")
    if kind not in ("file", "link") or len(sha256) != 64:
        raise ValueError
    return Entry("/".join(parts), int(row["bytes"]), sha256.lower(), kind)


def _digest_and_copy(source: Path, copy_to: Path | None) -> str:
    digest = hashlib.sha256()
    # O_NOFOLLOW: what was a file when it was listed may be a link by now.
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as opened:
        if copy_to is None:
            while chunk := opened.read(CHUNK_BYTES):
                digest.update(chunk)
        else:
            target = os.open(copy_to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(target, "wb") as written:
                while chunk := opened.read(CHUNK_BYTES):
                    digest.update(chunk)
                    written.write(chunk)
    return digest.hexdigest()


def _as_text(relative: str) -> str:
    """Return a file name as JSON can hold it: bytes that are no UTF-8 are written as `%XX`."""
    return "".join(f"%{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in relative)

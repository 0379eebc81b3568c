"""Backup and restore of a whole platform: one file, every digest in it, databases as of one moment.

Belongs here: writing the file, holding it against its own list, and putting it in the place of a platform. A
backup holds everything under the data root, restricted folders too: whoever has it has the originals. The
secret key is no part of it, wherever it lies.

Who withdrew after a backup was made is still in it. Restoring takes them out again, by the tombstones of the
platform that was left (`audits/withdrawals/tombstones.jsonl` has no identity and may be kept anywhere).
"""

import contextlib
import hashlib
import io
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import orjson

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey, check_record
from ct_assets.layout import Layout
from ct_assets.lifecycle import databases, schema, unfinished
from ct_assets.lifecycle.unfinished import refuse_unfinished

MANIFEST_NAME = "backup.json"
FORMAT = 1
FILE_MODE = 0o600
_LEFT_OUT_PREFIXES = (".partial-", ".old-")
_LEFT_OUT_SUFFIXES = (".lock", "-wal", "-shm", "-journal")
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Made:
    """A backup."""

    name: str
    """Beginning of the digest of its list."""
    files: int
    bytes: int


def back_up(layout: Layout, target: Path, key_file: Path | None, now: datetime | None = None) -> Made:
    """Write the platform into one file; nothing may run on it meanwhile.

    One of an older form is backed up as it is. Raises `UsageError` where the target exists or lies under the
    data root, there is no platform or one of a newer form, or a withdrawal is not finished.
    """
    refuse_unfinished(layout)
    form = schema.refuse_newer(layout)
    if form == schema.WITHOUT_A_NUMBER and not schema.outdated(layout):
        schema.hold(layout)
        form = schema.SCHEMA
    if target.exists():
        raise UsageError(f"{target}: exists already; name another file")
    if target.resolve().is_relative_to(layout.root.resolve()):
        raise UsageError(f"{target}: lies under the data root; keep backups apart from it")
    paths = sorted(_kept(layout.root, key_file))
    if not paths:
        raise UsageError(f"{layout.root}: holds no platform")
    moment = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    files.require_space(target.parent, files.tree_size(layout.root), "the backup")
    entries = []
    with files.atomic_path(target, mode=FILE_MODE) as partial:
        partial.touch(mode=FILE_MODE)
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:
            with progress.track("backing up", len(paths)) as advance:
                for path in paths:
                    entries.append(_add(archive, layout.root, path))
                    advance(1)
            content = {
                "format": FORMAT,
                "schema": form,
                "made_at": moment,
                "files": entries,
                "folders": _folders(layout.root),
            }
            listed = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
            info = tarfile.TarInfo(MANIFEST_NAME)
            info.size, info.mode = len(listed), FILE_MODE
            archive.addfile(info, io.BytesIO(listed))
    made = Made(files.digest_of(entries)[:16], len(entries), sum(entry["bytes"] for entry in entries))
    _record(layout, made, moment)
    return made


def restore(source: Path, layout: Layout, key: SecretKey | None, tombstones: Path | None = None) -> Made:
    """Put a backup in the place of an empty data root, every file held against the list.

    It becomes visible as a whole or not at all. `tombstones` is the record of the platform that was left: who
    is in it and not in the backup's must be taken out before anything runs. Raises `UsageError` where the data
    root holds anything, the file is damaged, was written by a newer version, or was made with another key.
    """
    root = layout.root
    if root.exists() and any(root.iterdir()):
        raise UsageError(
            f"{root}: is not empty; move it away first, and name its audits/withdrawals/tombstones.jsonl with "
            "--tombstones, so that nobody comes back who has withdrawn"
        )
    partial = root.with_name(f".partial-{root.name}")
    files.remove_tree(partial)
    partial.mkdir(parents=True, mode=0o700)
    try:
        made = _extract(source, partial)
        restored = Layout(partial)
        schema.refuse_newer(restored)
        if key is not None:
            check_record(restored.key_record, key)
        if tombstones is not None:
            unfinished.take_over(restored, tombstones)
    except BaseException:
        files.remove_tree(partial)
        raise
    if root.exists():
        root.rmdir()
    partial.rename(root)
    return made


def known(layout: Layout) -> list[dict[str, object]]:
    """Return the backups that were made of this platform, oldest first."""
    return files.read_jsonl(layout.backups) if layout.backups.exists() else []


def _kept(root: Path, key_file: Path | None) -> Iterator[str]:
    key = key_file.resolve() if key_file is not None else None
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(_LEFT_OUT_PREFIXES)]
        for name in names:
            path = Path(folder) / name
            if name.startswith(_LEFT_OUT_PREFIXES) or name.endswith(_LEFT_OUT_SUFFIXES):
                continue
            if path.resolve() != key and (path.is_file() or path.is_symlink()):
                yield path.relative_to(root).as_posix()


def _folders(root: Path) -> list[list[object]]:
    """Return every folder with its permissions: restricted ones stay so, empty ones come back."""
    return sorted(
        [path.relative_to(root).as_posix(), path.stat().st_mode & 0o777]
        for path in root.rglob("*")
        if path.is_dir() and not path.is_symlink() and not path.name.startswith(_LEFT_OUT_PREFIXES)
    )


def _add(archive: tarfile.TarFile, root: Path, relative: str) -> dict[str, Any]:
    path = root / relative
    if path.is_symlink():
        info = archive.gettarinfo(path, arcname=f"data/{relative}")
        archive.addfile(info)
        return {"path": _text(relative), "bytes": 0, "link": _text(info.linkname)}
    if databases.is_sqlite(path):
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as scratch:
            snapshot = Path(scratch) / "snapshot.db"
            _snapshot(path, snapshot)
            return _add_file(archive, snapshot, relative, path.stat())
    return _add_file(archive, path, relative, path.stat())


def _add_file(archive: tarfile.TarFile, path: Path, relative: str, like: os.stat_result) -> dict[str, Any]:
    """Add a file and return its entry; what changes while it is read is noticed by its length."""
    # Not `gettarinfo`: of a file with two names it would keep the second as a link.
    info = tarfile.TarInfo(f"data/{relative}")
    info.size = path.stat().st_size
    info.mode, info.mtime = like.st_mode & 0o777, like.st_mtime
    info.pax_headers = {"mtime": f"{like.st_mtime_ns // 10**9}.{like.st_mtime_ns % 10**9:09d}"}
    with path.open("rb") as opened:
        reader = _Digesting(opened)
        archive.addfile(info, reader)
    return {
        "path": _text(relative),
        "bytes": info.size,
        "sha256": reader.digest.hexdigest(),
        "mtime_ns": like.st_mtime_ns,
    }


class _Digesting:
    """A file that is digested while tarfile reads it."""

    def __init__(self, opened: IO[bytes]) -> None:
        self._opened = opened
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read and digest."""
        piece = self._opened.read(size)
        self.digest.update(piece)
        return piece


def _snapshot(path: Path, target: Path) -> None:
    """Copy an SQLite database as of one moment, write-ahead log included."""
    with (
        contextlib.closing(sqlite3.connect(path, timeout=60)) as database,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        database.backup(copy)


def _extract(source: Path, target: Path) -> Made:
    try:
        with tarfile.open(source, "r:") as archive:
            digests = _unpack(archive, target)
            content = orjson.loads((target / MANIFEST_NAME).read_bytes())
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        raise UsageError(f"{source}: is no backup, or a damaged one ({type(error).__name__})") from None
    (target / MANIFEST_NAME).unlink()
    if content["format"] != FORMAT or content["schema"] > schema.SCHEMA:
        raise UsageError(
            f"{source}: was written by a newer version of ct-assets (format {content['format']}, form "
            f"{content['schema']}); restore it with that version or a newer one"
        )
    _hold_against_list(source, content["files"], digests)
    for folder, mode in reversed(content["folders"]):
        (target / folder).mkdir(parents=True, exist_ok=True)
        (target / folder).chmod(mode)
    for entry in content["files"]:
        if "mtime_ns" in entry:
            os.utime(target / _path(entry["path"]), ns=(entry["mtime_ns"], entry["mtime_ns"]))
    entries = content["files"]
    return Made(files.digest_of(entries)[:16], len(entries), sum(entry["bytes"] for entry in entries))


def _unpack(archive: tarfile.TarFile, target: Path) -> dict[str, str]:
    """Extract every member below `target`; return the digests of what was written."""
    digests: dict[str, str] = {}
    for member in archive:
        is_list = member.name == MANIFEST_NAME
        relative = member.name if is_list else member.name.removeprefix("data/")
        place = target / relative
        if not is_list and (relative == member.name or not _is_below(place, target)):
            raise ValueError("a member lies outside")
        place.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            place.symlink_to(member.linkname)
            continue
        opened = archive.extractfile(member)
        if opened is None:
            raise ValueError("a member is no file")
        digest = hashlib.sha256()
        with place.open("xb") as written:
            while piece := opened.read(CHUNK_BYTES):
                digest.update(piece)
                written.write(piece)
        place.chmod(member.mode & 0o777)
        digests[relative] = digest.hexdigest()
    return digests


def _hold_against_list(source: Path, entries: list[dict[str, str]], digests: dict[str, str]) -> None:
    listed = {_path(entry["path"]): entry.get("sha256") for entry in entries if "link" not in entry}
    there = {path: digest for path, digest in digests.items() if path != MANIFEST_NAME}
    wrong = sum(there.get(path) != digest for path, digest in listed.items()) + len(
        there.keys() - listed.keys()
    )
    if wrong:
        raise UsageError(
            f"{source}: {wrong} files are not as its list says; it is damaged, nothing was restored"
        )


def _is_below(place: Path, target: Path) -> bool:
    return os.path.normpath(place).startswith(f"{os.path.normpath(target)}{os.sep}")


def _text(path: str) -> str:
    """Return a path as JSON can hold it, whatever its bytes are: each byte as one character."""
    return path.encode("utf-8", "surrogateescape").decode("latin-1") if not path.isascii() else path


def _path(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "surrogateescape") if not text.isascii() else text


def _record(layout: Layout, made: Made, moment: str) -> None:
    tombstones = len(files.read_jsonl(layout.tombstones)) if layout.tombstones.exists() else 0
    line = {
        "backup": made.name,
        "files": made.files,
        "bytes": made.bytes,
        "tombstones": tombstones,
        "made_at": moment,
    }
    files.write_jsonl(layout.backups, [*known(layout), line])

"""The files of a working copy that belong to the store, and how their names are written down.

Belongs here: which files count, their state on disk, areas (the folders whose lists change together), and
which are restricted. Does not: moving anything.
"""

import hashlib
import os
import re
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ct_assets.layout import MARKER_NAME, Layout

STATE_FOLDER = ".storage"
LEFT_OUT_NAMES = frozenset((STATE_FOLDER, ".receiving", ".telemetry", ".logs_queue", ".nux", "__pycache__"))
LEFT_OUT_PREFIXES = (".partial-", ".old-")
LEFT_OUT_SUFFIXES = (".lock", ".key", "-wal", "-shm", "-journal", ".pid", ".sock")
LEFT_OUT_PATHS = frozenset((".dagster/dagster.yaml", ".dagster/workspace.yaml"))
"""Rendered from the settings on every machine; they may hold a database's password."""
AREA_DEPTH = {"inbox": 2, "quarantine": 2}
USUAL_AREA_DEPTH = 3
"""Folders that decide an area. Names below may be a hospital's; areas stand in the open part of a generation."""
CHUNK_BYTES = 1 << 20
SQLITE_HEAD = b"SQLite format 3\0"
_PRINTABLE = "".join(chr(code) for code in range(32, 127) if chr(code) != "%")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a data root, as a generation knows it."""

    sha256: str
    bytes: int
    mode: int
    kind: str = "file"
    """`file`, or `link`: a symbolic link, whose content is its target's name."""


State = tuple[int, int, int]
"""Size, time of change and inode of a file: equal states, equal bytes (files are replaced, not changed)."""


def walk(layout: Layout, *, left_out: Path | None = None) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Yield every file of a working copy that belongs to the store: its written name, path and state.

    Left out: what is under way (`.partial-`), locks, databases' side files, key files, the receiver's spool,
    and folders of the inbox that are no complete batch. `left_out` is one more file (the secret key).
    """
    for entry in _entries(layout.root):
        path = Path(entry.path)
        relative = os.fsencode(path.relative_to(layout.root))
        name = quote_from_bytes(relative, safe=_PRINTABLE)
        if path != left_out and name not in LEFT_OUT_PATHS and _is_complete(layout, path):
            yield name, path, entry.stat(follow_symlinks=False)


def path_of(root: Path, name: str) -> Path:
    """Return where a written name lies. Raises `ValueError` for one that leads out of the root."""
    relative = Path(os.fsdecode(unquote_to_bytes(name)))
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise ValueError("a name that leads out of the data root")
    return root / relative


def area_of(name: str) -> str:
    """Return the area of a file: its folder, cut where names may be a hospital's."""
    folders = name.split("/")[:-1]
    depth = AREA_DEPTH.get(folders[0], USUAL_AREA_DEPTH) if folders else 0
    return "/".join(folders[:depth])


def is_restricted(name_or_area: str) -> bool:
    """Tell whether a file or area belongs to the restricted folders (`layout.Layout.restricted`)."""
    return any(name_or_area == folder or name_or_area.startswith(f"{folder}/") for folder in RESTRICTED)


def state_of(path: Path, found: os.stat_result) -> State:
    """Return a file's state; of a database with the journal that belongs to it."""
    size, changed = found.st_size, found.st_mtime_ns
    if path.suffix == ".db":
        try:
            journal = path.with_name(f"{path.name}-wal").stat()
            size, changed = size + journal.st_size, max(changed, journal.st_mtime_ns)
        except FileNotFoundError:
            pass
    return size, changed, found.st_ino


def read(path: Path, found: os.stat_result, snapshot: Path) -> tuple[Entry, Path]:
    """Return a file's entry, and its content under the name `snapshot`, which a replacement does not change.

    A database is copied through its own means, so that the snapshot is whole; a link's content is its target.
    Raises `FileNotFoundError` where the file is gone by now.
    """
    kind = "file"
    if stat.S_ISLNK(found.st_mode):
        kind = "link"
        snapshot.write_bytes(os.fsencode(path.readlink()))
    elif path.suffix == ".db" and _is_sqlite(path):
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(snapshot)) as target:
            source.backup(target)
    else:
        try:
            snapshot.hardlink_to(path)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(path, snapshot)
    digest, size = hashlib.sha256(), 0
    with snapshot.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return Entry(digest.hexdigest(), size, stat.S_IMODE(found.st_mode), kind), snapshot


def patterns(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return one expression for several shell patterns; `*` also matches slashes."""
    return re.compile("|".join(translate(name) for name in names) or r"(?!)")


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as opened:
        return opened.read(len(SQLITE_HEAD)) == SQLITE_HEAD


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        listing = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in listing:
        if _is_left_out(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path))
        elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
            yield entry


def _is_left_out(name: str) -> bool:
    return name in LEFT_OUT_NAMES or name.startswith(LEFT_OUT_PREFIXES) or name.endswith(LEFT_OUT_SUFFIXES)


def _is_complete(layout: Layout, path: Path) -> bool:
    """Tell that a file is not part of a delivery that has not ended."""
    if not path.is_relative_to(layout.inbox):
        return True
    batch = layout.inbox / path.relative_to(layout.inbox).parts[0]
    marker = batch / MARKER_NAME
    return marker.is_file() and marker.stat().st_size > 0


RESTRICTED = tuple(folder.relative_to(Path("/")).as_posix() for folder in Layout(Path("/")).restricted)

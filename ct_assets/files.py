"""Writing and digesting files so that a killed run leaves either the old or the new.

Belongs here: atomic writes, digests of files and of canonical JSON. Paths are made in `ct_assets.layout`.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from ct_assets.errors import UsageError


@contextmanager
def atomic_path(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path` that is renamed onto it when the block ends without an error.

    The suffix of the name is kept, since writers choose a format by it; `mode` sets the file's permissions
    before it becomes visible. The file is flushed to disk before the rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
        if mode is not None:
            partial.chmod(mode)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write `content` atomically."""
    with atomic_path(path, mode=mode) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str, *, mode: int | None = None) -> None:
    """Write `content` as UTF-8, atomically."""
    write_bytes(path, content.encode(), mode=mode)


def write_json(path: Path, value: Any, *, mode: int | None = None) -> None:
    """Write `value` as indented JSON with sorted keys, atomically; the same value gives the same bytes."""
    write_bytes(path, orjson.dumps(value, option=_JSON_FOR_PEOPLE) + b"\n", mode=mode)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return orjson.loads(path.read_bytes())


def read_json_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON object that a crash may have left torn; None where it is absent, empty or no object."""
    try:
        content = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return content if isinstance(content, dict) else None


def write_jsonl(path: Path, rows: list[dict[str, Any]], *, mode: int | None = None) -> None:
    """Write one JSON object a line, keys in the order given, atomically."""
    write_bytes(path, b"".join(orjson.dumps(row) + b"\n" for row in rows), mode=mode)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line]


def replace_directory(path: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder beside `path` and swap it in; the old one goes only after the new one stands.

    What `fill` raises is passed on, and nothing of its work is left: a full disk gets its room back.
    """
    partial = path.with_name(f".partial-{path.name}")
    old = path.with_name(f".old-{path.name}")
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        fill(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if path.exists():
        path.rename(old)
    partial.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with everything in it; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def tree_size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Refuse work that would not fit on the disk. Raises `UsageError` with the figures, before it starts."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if needed_bytes > free:
        raise UsageError(
            f"{what} needs {needed_bytes / 1e9:.2f} GB, and {folder} has {free / 1e9:.2f} GB free: "
            "make room (`ct-assets gc` frees resampled volumes) or move the data root"
        )


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value` (sorted keys), in hex: equal values, equal digests."""
    return hashlib.sha256(orjson.dumps(value, option=_JSON_CANONICAL)).hexdigest()


_JSON_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
_JSON_FOR_PEOPLE = _JSON_CANONICAL | orjson.OPT_INDENT_2

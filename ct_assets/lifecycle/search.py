"""The proof: a search of every byte under the data root, also inside what is compressed.

Belongs here: reading each file as bytes and as its content (gzip, parquet), and telling where something of
the person still stands. Does not: removing. It shares with the removal only what is searched.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ct_assets import parallel, progress
from ct_assets.layout import Layout
from ct_assets.lifecycle import mentions
from ct_assets.lifecycle.finder import Finder

FILES_A_TASK = 64
PRELOAD = ("ct_assets.lifecycle.search",)
TEXT_SAMPLE = 4096


@dataclass(frozen=True)
class Searched:
    """What the search saw."""

    files: int
    bytes: int
    found: tuple[str, ...]
    """Files in which something stands, relative to the data root."""


def search(layout: Layout, finder: Finder, workers: int) -> Searched:
    """Search every file under the data root, but for the record of the withdrawal under way.

    What is remembered of an object store is brought up to date after this, when the working copy publishes."""
    paths = sorted(_every_file(layout))
    tasks = [
        (layout.root, finder, paths[start : start + FILES_A_TASK])
        for start in range(0, len(paths), FILES_A_TASK)
    ]
    found: list[str] = []
    size = 0
    with progress.track("searching every byte", len(paths)) as advance:
        for count, read, hits in parallel.map_ordered(_task, tasks, workers=workers, preload=PRELOAD):
            size += read
            found += hits
            advance(count)
    return Searched(len(paths), size, tuple(found))


def _every_file(layout: Layout) -> Iterator[str]:
    for folder, below, names in os.walk(layout.root):
        if Path(folder) == layout.root:
            below[:] = [name for name in below if name != layout.storage_state.name]
        for name in names:
            path = Path(folder) / name
            if path != layout.withdrawal_under_way:
                yield path.relative_to(layout.root).as_posix()


def _task(task: tuple[Path, Finder, list[str]]) -> tuple[int, int, list[str]]:
    root, finder, paths = task
    size, hits = 0, []
    for path in paths:
        name = path.encode("utf-8", "surrogateescape")
        try:
            content = (root / path).read_bytes()
        except OSError:
            content = b""
        size += len(content)
        if _is_case_ledger(path):
            finder_here = Finder(
                frozenset(key for key in finder.keys if not key.startswith("case_")), finder.words
            )
        else:
            finder_here = finder
        if finder_here.has(name) or stands_in(path, content, finder_here):
            hits.append(path)
    return len(paths), size, hits


def _is_case_ledger(path: str) -> bool:
    """The number itself stays taken, beside the tombstone."""
    return path == "cohort/case_numbers.parquet"


def stands_in(path: str, content: bytes, finder: Finder) -> bool:
    """Tell whether something of the person stands in a file, also inside what is compressed."""
    if finder.has_key(content):
        return True
    if path.endswith(".parquet"):
        import io

        return finder.has(pl.read_parquet(io.BytesIO(content)).write_ndjson().encode())
    if content[:2] == b"\x1f\x8b":
        try:
            inner = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            return False
        return finder.has_key(inner) or finder.has_word(inner[:TEXT_SAMPLE])
    if content[128:132] == b"DICM":
        return mentions.in_instance(path, content, finder).has_words
    is_text = b"\0" not in content[:TEXT_SAMPLE] or content.startswith(b"SQLite format 3\0")
    return is_text and finder.has_word(content)

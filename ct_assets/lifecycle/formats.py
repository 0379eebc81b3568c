"""One person out of one file, by its format: rows, lines, entries.

Belongs here: tables (parquet, CSV, lines of JSON) and JSON. What is left has the form it had. Does not: which
files are gone through (`lifecycle.sweep`), databases (`lifecycle.databases`), DICOM (`lifecycle.deliveries`).

A row, line or entry with one of the person's keys is the person's own and goes. A word of theirs in somebody
else's row is overwritten.
"""

import bisect
import csv
import io
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from ct_assets import files
from ct_assets.deid.elements.spelling import fold
from ct_assets.lifecycle.finder import Finder

_GONE = object()


def parquet(path: Path, finder: Finder, replaced: dict[str, str]) -> int:
    """Remove the person's rows of a parquet file; return their number."""
    table = pl.read_parquet(path)
    content = table.write_ndjson().encode()
    own = _lines_of(content, finder.key_spans(content))
    kept = table
    if own:
        kept = table.filter(~pl.int_range(table.height).is_in(sorted(own)))
    texts = [name for name, dtype in kept.schema.items() if dtype == pl.String]
    for name in texts:
        kept = kept.with_columns(_clean(kept[name], finder, replaced))
    if not kept.equals(table):
        with files.atomic_path(path, mode=path.stat().st_mode & 0o777) as partial:
            kept.write_parquet(partial, compression="zstd")
    return len(own)


def _clean(column: pl.Series, finder: Finder, replaced: dict[str, str]) -> pl.Series:
    """Return a column with mentions overwritten and digests of changed objects brought up to date."""
    held = column.unique().drop_nulls().to_list()
    joined = "\n".join(held).encode("utf-8", "surrogatepass")
    new: dict[str, str] = {value: replaced[value] for value in held if value in replaced}
    if finder.has_word(joined):
        for value in held:
            content = value.encode("utf-8", "surrogatepass")
            if finder.has_word(content):
                new[value] = finder.masked(content).decode("utf-8", "replace")
    return column.replace(new) if new else column


def jsonl(path: Path, finder: Finder, replaced: dict[str, str]) -> int:
    """Remove the person's lines of a file of JSON lines; return their number."""
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    own = _lines_of(content, finder.key_spans(content))
    kept = b"".join(line for number, line in enumerate(lines) if number not in own)
    for old, new in replaced.items():
        kept = kept.replace(old.encode(), new.encode())
    _rewrite(path, content, finder.masked(kept))
    return len(own)


def text(path: Path, finder: Finder, numbers: frozenset[str]) -> int:
    """Remove the person's lines of a text or CSV; return their number.

    A line is the person's own where a key stands in it, or where one of its cells is the person's number
    (`numbers`, folded) and nothing else.
    """
    content = path.read_bytes()
    own = _lines_of(content, finder.key_spans(content))
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if number not in own and finder.has_word(line) and _has_cell(line, numbers):
            own.add(number)
    kept = b"".join(line for number, line in enumerate(lines) if number not in own)
    _rewrite(path, content, finder.masked(kept))
    return len(own)


def json(path: Path, finder: Finder) -> int:
    """Remove the person's entries of a JSON file; return their number."""
    content = path.read_bytes()
    if not finder.has(content):
        return 0
    value = orjson.loads(content)
    removed, cleaned = _without(value, finder, is_top=True)
    is_indented = b"\n " in content
    option = orjson.OPT_SORT_KEYS | (orjson.OPT_INDENT_2 if is_indented else 0)
    written = orjson.dumps(cleaned, option=option) + (b"\n" if content.endswith(b"\n") else b"")
    _rewrite(path, content, finder.masked(written))
    return removed


def _without(value: Any, finder: Finder, *, is_top: bool = False) -> tuple[int, Any]:
    """Return how many entries are the person's own, and the value without them.

    An entry of a list or a mapping is the person's own where its name, or a plain value right in it, is one
    of the keys.
    """
    removed = 0
    if isinstance(value, dict):
        kept: dict[str, Any] = {}
        for name, inner in value.items():
            if finder.has_key(name.encode()) or (not is_top and _is_own(inner, finder)):
                removed += 1
                continue
            if is_top and isinstance(inner, str) and _is_own(inner, finder):
                kept[name] = None
                removed += 1
                continue
            count, kept[name] = _without(inner, finder)
            removed += count
        return removed, kept
    if isinstance(value, list):
        items = []
        for inner in value:
            if _is_own(inner, finder):
                removed += 1
                continue
            count, item = _without(inner, finder)
            removed += count
            items.append(item)
        return removed, items
    return 0, value


def _is_own(value: Any, finder: Finder) -> bool:
    if isinstance(value, str):
        return finder.has_key(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return any(isinstance(inner, str) and _is_own(inner, finder) for inner in value.values())
    return False


def _has_cell(line: bytes, numbers: frozenset[str]) -> bool:
    decoded = line.decode("utf-8-sig", "replace")
    for delimiter in ",;\t":
        for cells in csv.reader(io.StringIO(decoded), delimiter=delimiter):
            if len(cells) > 1 and any(fold(cell) in numbers for cell in cells):
                return True
    return False


def _lines_of(content: bytes, spans: Any) -> set[int]:
    """Return the numbers of the lines in which spans begin."""
    ends = [place for place, byte in enumerate(content) if byte == 10] if len(content) < 1 << 16 else None
    if ends is None:
        import numpy as np

        ends = np.flatnonzero(np.frombuffer(content, np.uint8) == 10).tolist()
    return {bisect.bisect_left(ends, start) for start, _ in spans}


def _rewrite(path: Path, before: bytes, after: bytes) -> None:
    if after != before:
        files.write_bytes(path, after, mode=path.stat().st_mode & 0o777)

"""The tables of exams and of tracked nodules, read as they are supplied: CSV, parquet or pickle.

Belongs here: column names, types, and refusals of a whole table. Does not: which rows are used (`exams`, `nodules`).
Identifiers are text: leading zeros and the length of a number stay.
"""

import ast
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ct_assets.errors import UsageError
from ct_assets.systems.longitudinal import pickles
from ct_assets.tables import supplied

Row = dict[str, Any]

IDENTIFIERS = (
    "pid",
    "exam_id",
    "exam",
    "exam_str",
    "series",
    "accession",
    "split",
    "nodule_group",
    "nodid_in_segmentation",
    "abnid_in_nlst",
)
"""Columns that are text whatever type the file gives them."""
LISTS = ("pixel_spacing", "y_seq", "y_mask", "coords", "coords_past", "sorted_paths")
NUMBERS = ("num_slices", "time_at_event", "days_at_event", "screen_timepoint", "slice_thickness", "cancer")
FLAGS = ("has_nifti", "is_localizer")
EMPTY = ("", "nan", "none", "null", "na", "<na>")
PICKLES = (".p", ".pkl", ".pickle", ".pt", ".pth")


def read(path: Path, required: Sequence[str]) -> list[Row]:
    """Read a table as rows; identifiers are text, empty cells None.

    Raises `UsageError`, naming file, column and where there is one the line, for a table that cannot be read, lacks a
    required column or names one twice, or has a cell that is not of its column's kind.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        rows = _parquet(path)
    elif suffix in PICKLES:
        rows = _pickled(path)
    elif suffix in (".csv", ".tsv", ".txt"):
        return read_csv(path, required)
    else:
        raise UsageError(f"{path}: a table is .csv, .parquet, .p, .pkl or .pt")
    _check_columns(path, required, rows[0].keys() if rows else required)
    return [
        {name: _value(path, f"row {number}", name, value) for name, value in row.items()}
        for number, row in enumerate(rows, start=1)
    ]


def read_csv(path: Path, required: Sequence[str]) -> list[Row]:
    """Read a table of any suffix as CSV; as `read`."""
    table = supplied.read(path)
    columns = {name: place for place, name in enumerate(table.header) if name}
    for name in columns:
        table.place(name)
    _check_columns(path, required, columns)
    rows = []
    for row in table.rows:
        if row.is_blank:
            continue
        table.check_row(row)
        rows.append(
            {
                name: _value(path, f"line {row.line}", name, supplied.cleaned(row.cells[place]))
                for name, place in columns.items()
            }
        )
    return rows


def _parquet(path: Path) -> list[Row]:
    import polars as pl

    try:
        return pl.read_parquet(path).to_dicts()
    except Exception as error:
        raise UsageError(f"{path}: cannot be read as parquet ({type(error).__name__})") from None


def _pickled(path: Path) -> list[Row]:
    content = pickles.load(path)
    if isinstance(content, Mapping) and content and all(_is_column(value) for value in content.values()):
        lengths = {len(value) for value in content.values()}
        if len(lengths) == 1:
            names = [str(name) for name in content]
            columns = [_plain(value) for value in content.values()]
            return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if isinstance(content, Mapping):
        content = list(content.values())
    if isinstance(content, list | tuple) and all(isinstance(row, Mapping) for row in content):
        names = list(dict.fromkeys(str(name) for row in content for name in row))
        return [{name: _plain(row.get(name)) for name in names} for row in content]
    raise UsageError(
        f"{path}: holds no table; a list of rows (dictionaries) or a dictionary of columns is expected"
    )


def _is_column(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes | Mapping)


def _plain(value: Any) -> Any:
    """Return arrays and tensors as lists and numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def _check_columns(path: Path, required: Sequence[str], columns: Iterable[str]) -> None:
    there = list(columns)
    if missing := [name for name in required if name not in there]:
        raise UsageError(f"{path}: the column {missing[0]!r} is missing; it has {', '.join(there)}")


def _value(path: Path, place: str, name: str, value: Any) -> Any:
    value = _plain(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and value.strip().lower() in EMPTY:
        return None
    try:
        if name in IDENTIFIERS:
            return _identifier(value)
        if name in LISTS:
            return value if isinstance(value, list) else _list(value)
        if name in NUMBERS or name in ("exam_idx", "volume", "volume_mm3"):
            return _number(value)
        if name in FLAGS:
            return _flag(value)
    except (ValueError, TypeError, SyntaxError):
        raise UsageError(f"{path}, {place}: {name} cannot be {value!r:.60}") from None
    return value


def _identifier(value: Any) -> str:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return str(int(value)) if isinstance(value, float) else supplied.cleaned(str(value))


def _list(value: Any) -> list[Any]:
    """Read a list as JSON, Python or NumPy print it."""
    try:
        found = json.loads(value)
    except ValueError:
        try:
            found = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            found = ast.literal_eval(",".join(value.replace("[", "[ ").split()).replace("[,", "["))
    if not isinstance(found, list | tuple):
        raise ValueError(value)
    return list(found)


def _number(value: Any) -> float:
    if isinstance(value, timedelta):
        return value / timedelta(days=1)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {
        "true": True,
        "1": True,
        "1.0": True,
        "yes": True,
        "false": False,
        "0": False,
        "0.0": False,
        "no": False,
    }
    return words[str(value).strip().lower()] if str(value).strip().lower() in words else _no_flag(value)


def _no_flag(value: Any) -> bool:
    raise ValueError(value)

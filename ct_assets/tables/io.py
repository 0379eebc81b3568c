"""The one way to write and read a table.

A table that breaks its schema is refused when it is written, not when somebody reads it. The schemas are
declared one file a stage beside this one.
"""

from pathlib import Path
from typing import Any, TypeVar

import dataframely as dy
import polars as pl

from ct_assets import files
from ct_assets.errors import UsageError

TableSchema = TypeVar("TableSchema", bound=dy.Schema)


class TableError(Exception):
    """A table does not match its declared schema."""


def write_table(path: Path, table: pl.DataFrame, schema: type[dy.Schema], *, mode: int | None = None) -> None:
    """Write `table` as parquet, atomically, after holding it against `schema`.

    Columns are put in the schema's order; an unknown, missing or mistyped column or a broken rule raises
    `TableError` naming table and columns. The same rows give the same bytes.
    """
    ordered = validate(path.name, table, schema)
    with files.atomic_path(path, mode=mode) as partial:
        ordered.write_parquet(partial, compression="zstd")


def validate(
    name: str, table: pl.DataFrame, schema: type[dy.Schema], *, open_ended: bool = False
) -> pl.DataFrame:
    """Return `table` with the schema's columns in their order. Raises `TableError` as `write_table` does.

    `open_ended` allows further columns, which are left out of the result.
    """
    wanted = schema.column_names()
    missing, unknown = sorted(set(wanted) - set(table.columns)), sorted(set(table.columns) - set(wanted))
    if missing or (unknown and not open_ended):
        raise TableError(f"{name} ({schema.__name__}): missing columns {missing}, unknown {unknown}")
    ordered = table.select(wanted)
    for column, expected in dtypes(schema).items():
        if ordered.schema[column] != expected:
            raise TableError(
                f"{name} ({schema.__name__}): {column} is {ordered.schema[column]}, not {expected}"
            )
    _, failures = schema.filter(ordered)
    if len(failures):
        raise TableError(f"{name} ({schema.__name__}): rows that break rules: {failures.counts()}")
    return ordered


def read_table(path: Path, schema: type[dy.Schema]) -> pl.DataFrame:
    """Read a table that `write_table` wrote. Raises `UsageError` where another version wrote other columns."""
    table = pl.read_parquet(path)
    missing = sorted(set(schema.column_names()) - set(table.columns))
    if missing:
        raise UsageError(
            f"{path.name}: lacks {', '.join(missing)}; another version of ct-assets wrote it. Materialize the asset that "
            "makes it again (`ct-assets upgrade` for ledgers)"
        )
    return table.select(schema.column_names())


def frame(rows: list[dict[str, Any]], schema: type[dy.Schema]) -> pl.DataFrame:
    """Make a table of rows with the schema's types, also where there are no rows."""
    return pl.DataFrame(rows, schema=dtypes(schema), orient="row")


def dtypes(schema: type[dy.Schema]) -> dict[str, pl.DataType]:
    """Return the declared polars type of each column."""
    return {name: column.dtype for name, column in schema.columns().items()}

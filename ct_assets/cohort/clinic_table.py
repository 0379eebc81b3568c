"""Reading the clinic's CSV: records with named cells, and what is wrong with a row as a row.

Belongs here: which columns are needed, ragged and blank rows. Does not: the file as CSV (`tables.supplied`), what the
cells mean (`cohort.labels`).
"""

from dataclasses import dataclass
from pathlib import Path

from ct_assets.errors import UsageError
from ct_assets.settings.cohort import LabelSettings
from ct_assets.tables import supplied


@dataclass(frozen=True)
class Record:
    """One row of the table after the header."""

    row: int
    """Counted from 1."""
    line: int
    """Line of the file on which it ends."""
    cells: dict[str, str]
    """By normalised header; empty where the row itself is at fault."""
    fault: str | None = None
    """Reason code of a row that cannot be read as one."""


normalised = supplied.comparable


def read(path: Path, settings: LabelSettings) -> list[Record]:
    """Read the clinic's table.

    Raises `UsageError`, naming file, line and remedy but no value, for a file that is no such table, lacks the columns
    of patient ID and stage, or has a column twice that the settings name.
    """
    table = supplied.read(
        path,
        delimiter=settings.delimiter,
        encoding=settings.encoding,
        remedy="save it in UTF-8 or set labels.encoding (cp1252, for one)",
    )
    _check_header(table, settings)
    header = [normalised(cell) for cell in table.header]
    return [_record(header, row, number) for number, row in enumerate(table.rows, start=1)]


def has_column(records: list[Record], column: str) -> bool:
    """Tell whether the table has a column."""
    return any(normalised(column) in record.cells for record in records)


def _check_header(table: supplied.SuppliedTable, settings: LabelSettings) -> None:
    remedy = "set labels.patient_id_column, labels.stage_column or labels.delimiter"
    for needed in (settings.patient_id_column, settings.stage_column):
        if table.place(needed, remedy=remedy) is None:
            there = ", ".join(table.header) if len(table.header) > 1 else "one column only"
            raise UsageError(
                f"{table.path}: column {needed!r} is there 0 times, once is needed; the header says: {there}. "
                f"{remedy[0].upper()}{remedy[1:]}"
            )
    optional = (settings.age_column, settings.sex_column, settings.site_column)
    for name in (*optional, *(kept.column for kept in settings.keep.values())):
        if name:
            table.place(name)


def _record(header: list[str], row: supplied.SuppliedRow, number: int) -> Record:
    if row.is_blank:
        return Record(number, row.line, {}, "blank_row")
    if row.surplus or row.is_short:
        return Record(number, row.line, {}, "row_malformed")
    return Record(number, row.line, dict(zip(header, row.cells, strict=True)))

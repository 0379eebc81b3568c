"""Reading the clinic's CSV: records with named cells, and what is wrong with a row as a row.

Belongs here: encoding, delimiter, header, ragged and blank rows. Does not: what the cells mean
(`cohort.labels`).
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from ct_assets.errors import UsageError
from ct_assets.settings.cohort import LabelSettings

LARGEST_CELL = 1 << 20


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


def normalised(text: str) -> str:
    """Return `text` as headers and values are compared: trimmed, inner white space joined, case folded."""
    return " ".join(text.replace("\0", " ").split()).casefold()


def read(path: Path, settings: LabelSettings) -> list[Record]:
    """Read the clinic's table.

    Raises `UsageError`, naming file, line and mend but no value, for a file that is no such table or lacks
    the columns of patient ID and stage.
    """
    text = _text(path, settings.encoding)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=settings.delimiter, strict=True)
    csv.field_size_limit(LARGEST_CELL)
    records: list[Record] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            if header is None:
                if any(cell.strip() for cell in cells):
                    header = _header(path, cells, settings)
                continue
            records.append(_record(header, cells, len(records) + 1, reader.line_num))
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num}: not readable as CSV ({error})") from None
    if header is None:
        raise UsageError(f"{path}: is empty; a header and a row a patient are expected")
    return records


def has_column(records: list[Record], column: str) -> bool:
    """Tell whether the table has a column."""
    return any(normalised(column) in record.cells for record in records)


def _text(path: Path, encoding: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: the clinic's table cannot be read ({error.strerror}); see labels.csv"
        ) from None
    if content.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8-sig"
    elif content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{path}: line {line}: is not {encoding}; set labels.encoding (cp1252, for one)"
        ) from None


def _header(path: Path, cells: list[str], settings: LabelSettings) -> list[str]:
    header = [normalised(cell) for cell in cells]
    for needed in (settings.patient_id_column, settings.stage_column):
        count = header.count(normalised(needed))
        if count != 1:
            there = ", ".join(cell.strip() for cell in cells) if len(cells) > 1 else "one column only"
            raise UsageError(
                f"{path}: column {needed!r} is there {count} times, once is needed; the header says: {there}. "
                "Set labels.patient_id_column, labels.stage_column or labels.delimiter"
            )
    return header


def _record(header: list[str], cells: list[str], row: int, line: int) -> Record:
    if not any(cell.strip() for cell in cells):
        return Record(row, line, {}, "blank_row")
    # Blank cells at the end are what spreadsheets leave; any other surplus may have shifted the columns.
    while len(cells) > len(header) and not cells[-1].strip():
        cells.pop()
    if len(cells) != len(header):
        return Record(row, line, {}, "row_malformed")
    return Record(row, line, dict(zip(header, cells, strict=True)))

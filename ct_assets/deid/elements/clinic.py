"""Identifiers from the clinic's table: patient numbers, and the names and telephone numbers in its remarks.

Belongs here: reading any CSV of the clinic for what identifies. Does not: its labels (`cohort.labels`).
"""

import csv
import re
from pathlib import Path

from ct_assets.deid.elements.spelling import fold
from ct_assets.deid.elements.text import harmless_words, pattern_spans
from ct_assets.errors import UsageError

_ID_COLUMN = re.compile(r"patient.?id|^id$|mrn|record|insur|versich|accession|fall.?n|case.?n", re.IGNORECASE)
_NAME_COLUMN = re.compile(r"name|surname|vorname|patient$", re.IGNORECASE)
_BIRTH_COLUMN = re.compile(r"birth|dob|geb", re.IGNORECASE)
_CONTACT_COLUMN = re.compile(r"phone|tel|mail|address|adresse|street|stra", re.IGNORECASE)
_FREE_COLUMN = re.compile(r"remark|comment|note|bemerk|kommentar|free.?text", re.IGNORECASE)
_CAPITALISED = re.compile(r"[^\W\d_](?:[^\W\d_]|['’-])+")

Value = tuple[str, str, str, str]
"""Kind, value, raw patient ID, issuer (always empty here)."""


def values_of(path: Path) -> set[Value]:
    """Return the identifying values of a clinic's CSV. Raises `UsageError` when it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="", errors="replace") as opened:
            sample = opened.read(4096)
            opened.seek(0)
            delimiter = ";" if sample.count(";") > sample.count(",") else "\t" if "\t" in sample else ","
            rows = [row for row in csv.reader(opened, delimiter=delimiter) if any(map(str.strip, row))]
    except OSError as error:
        raise UsageError(f"{path}: the clinic's table cannot be read ({error.strerror})") from None
    except csv.Error:
        raise UsageError(f"{path}: the clinic's table is no CSV") from None
    found: set[Value] = set()
    header = rows[0] if rows else []
    for row in rows[1:]:
        cells = list(zip(header, row, strict=False))  # by place: two columns may have one name
        patient = next((cell for column, cell in cells if _ID_COLUMN.search(column)), "").strip()
        for column, cell in cells:
            if cell.strip():
                found.update((kind, value, patient, "") for kind, value in _of_cell(column, cell.strip()))
    return found


def _of_cell(column: str, cell: str) -> list[tuple[str, str]]:
    if _BIRTH_COLUMN.search(column):
        return [("birth_date", cell)]
    if _ID_COLUMN.search(column) or _CONTACT_COLUMN.search(column):
        return [("id", cell)]
    if _NAME_COLUMN.search(column):
        return [("name", cell.replace(",", "^"))]
    if _FREE_COLUMN.search(column):
        words = [
            word
            for word in _CAPITALISED.findall(cell)
            if word[0].isupper() and fold(word) not in harmless_words()
        ]
        numbers = [
            cell[start:end] for start, end in pattern_spans(cell) if any(c.isdigit() for c in cell[start:end])
        ]
        return [("name", word) for word in words] + [("id", number) for number in numbers]
    return []

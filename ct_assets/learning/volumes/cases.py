"""A person's table of cases: NIfTI files with patients, read row by row.

Belongs here: the CSV's columns and what is wrong with a row. Does not: looking into the files
(`learning.volumes.fingerprint`).
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets.errors import UsageError
from ct_assets.tables import supplied

REQUIRED = ("case_id", "patient_id", "image", "label")
OPTIONAL = ("stage", "site")
NO_VALUE = {"", "na", "n/a", "nan", "none", "null"}
CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class RowProblem:
    """One row that cannot be used, or can with a warning."""

    row: int
    """Line of the file, counted from 1 with the heading as line 1."""
    case_id: str | None
    code: str
    detail: str
    is_fatal: bool = True


def read_cases(path: Path) -> tuple[pl.DataFrame, list[RowProblem]]:
    """Return the good rows (`case_id, patient_id, image, label, stage, site, row`) and what is wrong with the others.

    Texts are compared in NFC, without invisible characters, trimmed; an empty cell or NA in `label`, `stage` or `site`
    means: not known; a stage that one row of a patient has counts for all of them. Raises `UsageError` where the file
    is no CSV, lacks a column, has one twice, or holds no good row.
    """
    table = supplied.read(path)
    places = table.places((*REQUIRED, *OPTIONAL))
    missing = [name for name in REQUIRED if name not in places]
    if missing:
        raise UsageError(
            f"{path}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing; needed are "
            f"{', '.join(REQUIRED)}, optional {', '.join(OPTIONAL)}; found {', '.join(table.header)}"
        )
    rows: list[dict[str, Any]] = []
    for line in table.rows:
        if line.is_blank:
            continue
        table.check_row(line)
        cells = {name: supplied.cleaned(line.cells[place]) for name, place in places.items()}
        rows.append({name: cells.get(name, "") for name in (*REQUIRED, *OPTIONAL)} | {"row": line.line})
    problems = _problems(rows)
    bad = {problem.row for problem in problems}
    good = [row for row in rows if row["row"] not in bad]
    if not good:
        raise UsageError(
            f"{path}: no usable row of {len(rows)}" + (f"; {_first(problems)}" if problems else "")
        )
    stage_of = {row["patient_id"]: row["stage"] for row in rows if row["stage"].lower() not in NO_VALUE}
    for row in good:
        row["stage"] = stage_of.get(row["patient_id"], "")
        for name in ("label", *OPTIONAL):
            row[name] = None if row[name].lower() in NO_VALUE else row[name]
    schema = {name: pl.String() for name in (*REQUIRED, *OPTIONAL)} | {"row": pl.Int64()}
    return pl.DataFrame(good, schema=schema).sort("case_id"), problems


def _problems(rows: list[dict]) -> list[RowProblem]:
    problems = []
    seen: dict[str, int] = {}
    stages: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["stage"].lower() not in NO_VALUE:
            stages[row["patient_id"]].add(row["stage"])
    for row in rows:
        number, case = row["row"], row["case_id"] or None
        found: tuple[str, str] | None = None
        if case is None:
            found = ("row_without_case_id", "case_id is empty")
        elif not CASE_ID.fullmatch(case):
            found = ("case_id_not_a_name", "case_id: 1 to 64 letters, digits, '.', '_', '-'")
        elif case in seen:
            found = ("case_repeated", f"the same case_id as in row {seen[case]}")
        elif not row["patient_id"]:
            found = ("row_without_patient_id", "patient_id is empty")
        elif not row["image"]:
            found = ("row_without_image", "image is empty")
        elif len(stages[row["patient_id"]]) > 1:
            found = ("stage_contradicts", "rows of this patient have different stages")
        if case is not None:
            seen.setdefault(case, number)
        if found:
            problems.append(RowProblem(number, case, *found))
    return problems


def _first(problems: list[RowProblem]) -> str:
    return f"row {problems[0].row}: {problems[0].detail}"

"""A person's table of cases: NIfTI files with patients, read row by row.

Belongs here: the CSV's columns and what is wrong with a row. Does not: looking into the files
(`learning.volumes.fingerprint`).
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ct_assets.errors import UsageError

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

    Texts are stripped; an empty cell or NA in `label`, `stage` or `site` means: not known. Raises `UsageError` where
    the file is no CSV, lacks a column, or holds no good row.
    """
    try:
        content = path.read_bytes().decode("utf-8-sig")
        table = pl.read_csv(content.encode(), infer_schema=False)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8; save it as CSV in UTF-8") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{path}: cannot be read as CSV ({type(error).__name__})") from None
    table = table.rename({name: name.strip().lower() for name in table.columns})
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise UsageError(
            f"{path}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing; needed are "
            f"{', '.join(REQUIRED)}, optional {', '.join(OPTIONAL)}; found {', '.join(table.columns)}"
        )
    rows = [
        {name: (row.get(name) or "").strip() for name in (*REQUIRED, *OPTIONAL)} | {"row": number}
        for number, row in enumerate(table.iter_rows(named=True), start=2)
    ]
    problems = _problems(rows)
    bad = {problem.row for problem in problems}
    good = [row for row in rows if row["row"] not in bad]
    if not good:
        raise UsageError(
            f"{path}: no usable row of {len(rows)}" + (f"; {_first(problems)}" if problems else "")
        )
    for row in good:
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

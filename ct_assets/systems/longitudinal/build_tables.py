"""`ct-assets longitudinal tables`: from an exam table and a tracking table to pairs of exams and of nodules.

Belongs here: files in, files out, in the order of the steps. Does not: the rules (`exams`, `timelines`, `nodules`).
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl

from ct_assets import files, tables
from ct_assets.errors import UsageError
from ct_assets.progress import Timings
from ct_assets.systems.longitudinal import exams, nodules, supplied_tables, timelines
from ct_assets.systems.longitudinal.exams import Exams, Policy
from ct_assets.tables import longitudinal as schemas

Row = dict[str, Any]

PATIENT_REASONS = ("patient_with_bad_exam", "patient_in_two_splits")
"""They take all exams of a patient out, also those that only the tracking table knows."""


@dataclass(frozen=True)
class Counts:
    """Rows of each table that was written."""

    rows: Mapping[str, int]


def run(
    exams_path: Path,
    tracking_path: Path,
    output_dir: Path,
    *,
    bad_exams: Path | None = None,
    policy: Policy = "exam",
    timings: Timings | None = None,
) -> Counts:
    """Write the tables of the steps; raises `UsageError` where an input cannot be used as a whole."""
    timings = timings or Timings()
    with timings.step("read") as step:
        exam_rows = supplied_tables.read(exams_path, exams.REQUIRED)
        tracking = supplied_tables.read(tracking_path, nodules.REQUIRED)
        bad = read_bad_exams(bad_exams) if bad_exams else frozenset()
        step.items = len(exam_rows) + len(tracking)
    with timings.step("tables") as step:
        chosen = exams.select(exam_rows, bad, policy)
        made, refused = timelines.pairs(chosen.kept)
        paired, unpaired = nodules.pair(
            tracking,
            _days(exam_rows, chosen.unusable),
            _unusable(chosen, exam_rows, bad),
            _patients_out(chosen, tracking, bad, policy),
            _patients_of(exam_rows),
        )
        written: dict[str, tuple[list[Row], type[dy.Schema]]] = {
            "excluded": (chosen.excluded, schemas.ExcludedExams),
            "timelines": (timelines.timelines(chosen.kept), schemas.Timelines),
            "refused_pairs": (refused, schemas.RefusedExamPairs),
            "paired_nodules": (paired, schemas.PairedNodules),
            "growth": (nodules.growth(paired), schemas.Growth),
            "unpaired_nodules": (unpaired, schemas.UnpairedNodules),
        }
        for name, (rows, schema) in written.items():
            tables.write_table(output_dir / f"{name}.parquet", _table(rows, schema), schema)
        _write_open(output_dir / "single_timepoints.parquet", chosen.kept, schemas.SingleTimepoints)
        _write_open(output_dir / "paired_exams.parquet", made, schemas.PairedExams)
        step.items = len(chosen.kept) + len(tracking)
    timings.write(output_dir)
    counts = {name: len(rows) for name, (rows, _) in written.items()}
    return Counts(counts | {"single_timepoints": len(chosen.kept), "paired_exams": len(made)})


def read_bad_exams(path: Path) -> frozenset[str]:
    """Read identifiers of bad exams: JSON lines with `exam_id` (or `exam`), one JSON list, an identifier a line, or
    a CSV with such a column.

    Raises `UsageError` naming the line.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({type(error).__name__})") from None
    if "".join(lines).lstrip().startswith("["):
        lines = _listed(path, "\n".join(lines))
    elif lines and len(header := [cell.strip(' "') for cell in re.split("[,;\t]", lines[0])]) > 1:
        column = next((name for name in ("exam_id", "exam") if name in header), None)
        if column is not None:
            return frozenset(row[column] for row in supplied_tables.read_csv(path, [column]) if row[column])
    bad = set()
    for number, line in enumerate(lines, start=1):
        text = line.strip().strip('",')
        if not text or text.lower() in ("exam_id", "exam"):
            continue
        if line.strip().startswith("{"):
            try:
                record = json.loads(line)
                identifier = record.get("exam_id", record.get("exam"))
            except ValueError:
                identifier = None
            if identifier is None:
                raise UsageError(f"{path}, line {number}: an object with exam_id is expected")
            text = str(identifier)
        bad.add(text)
    return frozenset(bad)


def _listed(path: Path, text: str) -> list[str]:
    """Return a JSON list as lines."""
    try:
        return [one if isinstance(one, str) else json.dumps(one) for one in json.loads(text)]
    except ValueError:
        raise UsageError(f"{path}: is no JSON list; an identifier a line is read as well") from None


def _days(exam_rows: list[Row], unusable: Collection[str]) -> dict[str, float | None]:
    """Return `days_at_event` by `exam_id` and by `exam`; of several series of an exam a usable one decides."""
    ordered = sorted(
        exam_rows, key=lambda row: (row["days_at_event"] is not None, row["exam_id"] not in unusable)
    )
    days = {row["exam"]: row["days_at_event"] for row in ordered if row.get("exam") is not None}
    return days | {row["exam_id"]: row["days_at_event"] for row in ordered if row["exam_id"] is not None}


def _patients_of(exam_rows: list[Row]) -> dict[str, set[str]]:
    """Return the patients by `exam_id` and by `exam`."""
    patients: dict[str, set[str]] = defaultdict(set)
    for row in exam_rows:
        for name in {row["exam_id"], row.get("exam")} - {None}:
            patients[name].add(row["pid"])
    return patients


def _unusable(chosen: Exams, exam_rows: list[Row], bad: Collection[str]) -> dict[str, tuple[str, ...]]:
    by_id = chosen.unusable
    series: dict[str, list[str]] = defaultdict(list)
    for row in exam_rows:
        if row.get("exam") is not None:
            series[row["exam"]].append(row["exam_id"])
    # An exam has several series: what was measured on it holds as long as one of them can be used.
    named = {
        exam: tuple(dict.fromkeys(code for exam_id in exam_ids for code in by_id[exam_id]))
        for exam, exam_ids in series.items()
        if all(exam_id in by_id for exam_id in exam_ids)
    }
    return dict.fromkeys(bad, ("exam_known_bad",)) | named | by_id


def _patients_out(chosen: Exams, tracking: list[Row], bad: Collection[str], policy: Policy) -> dict[str, str]:
    out = {row["pid"]: code for row in chosen.excluded for code in PATIENT_REASONS if code in row["reasons"]}
    if policy == "patient":
        known_bad = {row["pid"] for row in chosen.excluded if "exam_known_bad" in row["reasons"]}
        known_bad |= {row["pid"] for row in tracking if row["exam"] in bad}
        out |= dict.fromkeys(known_bad, "patient_with_bad_exam")
    return out


def _table(rows: list[Row], schema: type[dy.Schema]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=tables.dtypes(schema), orient="row")


def _write_open(path: Path, rows: list[Row], schema: type[dy.Schema]) -> None:
    """Write rows with the schema's columns first and whatever else the rows have behind, as it came."""
    table = _table([{name: row.get(name) for name in schema.column_names()} for row in rows], schema)
    tables.validate(path.name, table, schema)
    further = list(dict.fromkeys(name for row in rows for name in row if name not in schema.column_names()))
    for name in further:
        values = [row.get(name) for row in rows]
        try:
            column = pl.Series(name, values, strict=True)
        except Exception:
            column = pl.Series(name, [None if value is None else json.dumps(value) for value in values])
        table = table.with_columns(column)
    with files.atomic_path(path) as partial:
        table.write_parquet(partial, compression="zstd")

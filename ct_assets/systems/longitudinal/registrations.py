"""Registrations of a whole cohort: every later kept exam of a patient to the patient's first kept one.

Belongs here: which pairs, the log that survives a kill, transforms given from elsewhere, and the table. Does not: one
registration (`imaging.registration`), reading given files (`given_transforms`).

The log is append-only, a JSON line a finished pair. A run that was killed goes on behind its last whole line, and the
table is made from the log alone, in the order of the exams: it does not depend on when or how often runs ended.
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ct_assets import files, parallel, progress, tables
from ct_assets.errors import UsageError
from ct_assets.imaging.volume import Floats
from ct_assets.systems.longitudinal import given_transforms
from ct_assets.tables import longitudinal as schemas

Row = dict[str, Any]
Pair = tuple[str, str]
"""Identifiers of the fixed and the moving exam."""

NOTED = (
    "similarity_before",
    "similarity_after",
    "lung_overlap_before",
    "lung_overlap_after",
    "overlap_share",
)
"""What a record keeps of `imaging.registration_quality.Quality`."""


@dataclass(frozen=True)
class Step:
    """One registration that is to be done."""

    pid: str
    fixed_exam_id: str
    moving_exam_id: str
    fixed_path: str | None
    moving_path: str | None
    seed: int = 0
    given: tuple[tuple[float, ...], ...] | None = None
    """A transform from elsewhere, 4 x 4, point of the fixed exam to point of the moving one."""
    is_reversed: bool = False
    """True where `given` is the inverse of what was given."""

    def inputs(self) -> str:
        """Return a digest of everything the result depends on; a record with another one is not used."""
        stamps: list[tuple[int, int] | None] = []
        for path in (self.fixed_path, self.moving_path):
            try:
                status = Path(path or "").stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((status.st_size, status.st_mtime_ns))
        return files.digest_of([self.fixed_path, self.moving_path, self.seed, self.given, stamps])


@dataclass(frozen=True)
class Written:
    """What `write` did."""

    registered_now: int
    statuses: Mapping[str, int]
    duplicates: tuple[str, ...]
    """Files of given transforms that are not used."""


def steps(
    kept: Iterable[Row], *, root: Path = Path(), given: Mapping[Pair, Floats] | None = None, seed: int = 0
) -> list[Step]:
    """Return a step for each later exam of each patient; `kept` are rows of `single_timepoints`.

    `given` holds matrices that carry a point of the pair's first exam to its second one; a pair that is there the
    other way round is used by its inverse.
    """
    given = given or {}
    result = []
    for pid, (first, *later) in _by_patient(kept):
        for exam in later:
            pair = first["exam_id"], exam["exam_id"]
            matrix, is_reversed = given.get(pair), False
            if matrix is None and pair[::-1] in given:
                matrix, is_reversed = np.asarray(np.linalg.inv(given[pair[::-1]]), np.float64), True
            paths = [
                None if row.get("nifti_path") is None else str(root / row["nifti_path"])
                for row in (first, exam)
            ]
            rows = None if matrix is None else tuple(tuple(map(float, row)) for row in matrix)
            result.append(Step(pid, *pair, paths[0], paths[1], seed, rows, is_reversed))
    return result


LEAST_SHOWN = 10
"""Fewer registrations end before progress would be read."""


def run(todo: Sequence[Step], log: Path, *, workers: int = 1) -> int:
    """Do what the log does not hold yet, append it, and return how many steps that were."""
    done = read_log(log)
    open_steps = [step for step in todo if _record_of(step, done) is None]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        results = parallel.map_surviving(registered, open_steps, instead=_died, workers=workers)
        for record in progress.each("registrations", results, len(open_steps), least=LEAST_SHOWN):
            stream.write(json.dumps(record).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    return len(open_steps)


def read_log(log: Path) -> dict[Pair, Row]:
    """Return the last record of each pair; a line that a kill cut off is taken off the file."""
    if not log.exists():
        return {}
    content = log.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(log, whole)
    records = {}
    for line in content[:whole].splitlines():
        try:
            record = json.loads(line)
            records[record["fixed_exam_id"], record["moving_exam_id"]] = record
        except (ValueError, KeyError, TypeError):
            continue  # The step is done again.
    return records


def registered(step: Step) -> Row:
    """Register one pair, or judge its given transform; an image that cannot be used is a record with its reason."""
    from ct_assets.imaging import load, registration, registration_quality
    from ct_assets.imaging.registration import Registration, RegistrationRefused

    if step.fixed_path is None or step.moving_path is None:
        return _record(step, "refused", ["exam_without_image"])
    try:
        fixed, moving = (
            registration.working(load.load(Path(path)).volume) for path in (step.fixed_path, step.moving_path)
        )
        if step.given is None:
            result = registration.register(fixed, moving, "rigid", step.seed)
        else:
            x, y, z = fixed.body_points.mean(axis=0).tolist()
            result = Registration("rigid", np.array(step.given), (x, y, z))
        quality = registration_quality.evaluate(fixed, moving, result)
    except FileNotFoundError:
        return _record(step, "refused", ["exam_without_image"])
    except load.ImageRefused as refusal:
        return _record(step, "refused", list(refusal.reasons))
    except RegistrationRefused as refusal:
        return _record(step, "refused", [refusal.reason])
    forward = result.matrix_fixed_to_moving
    return _record(step, quality.status, list(quality.reasons)) | {
        "matrix_fixed_to_moving": forward.ravel().tolist(),
        "matrix_moving_to_fixed": np.linalg.inv(forward).ravel().tolist(),
        "rotation_deg": result.rotation_deg,
        "translation_mm": list(result.translation_mm),
        **{name: getattr(quality, name) for name in NOTED},
    }


def rows(kept: Iterable[Row], todo: Sequence[Step], log: Path) -> list[Row]:
    """Return a row a kept exam: the first of a patient is its own reference, a step without a record is open."""
    by_pair = {(step.fixed_exam_id, step.moving_exam_id): step for step in todo}
    done = read_log(log)
    table = []
    for pid, exams in _by_patient(kept):
        first = exams[0]["exam_id"]
        table.append(
            {"pid": pid, "exam_id": first, "fixed_exam_id": first, "status": "reference", "reasons": []}
            | _transform(np.eye(4))
        )
        for exam in exams[1:]:
            record = _record_of(by_pair[first, exam["exam_id"]], done)
            row = {
                "pid": pid,
                "exam_id": exam["exam_id"],
                "fixed_exam_id": first,
                "status": "open",
                "reasons": [],
            }
            if record is not None:
                row |= {
                    name: value for name, value in record.items() if name not in ("moving_exam_id", "inputs")
                }
            table.append(row)
    return table


def write(
    tables_dir: Path,
    output_dir: Path,
    *,
    images: Path | None = None,
    given_dir: Path | None = None,
    workers: int = 1,
    seed: int = 0,
) -> Written:
    """Register the cohort of `longitudinal tables` and write log, table and bad exams into `output_dir`."""
    kept_path = tables_dir / "single_timepoints.parquet"
    if not kept_path.is_file():
        raise UsageError(f"{kept_path}: no such file; make it with `ct-assets longitudinal tables`")
    kept = pl.read_parquet(kept_path).to_dicts()
    given = given_transforms.read(given_dir) if given_dir else given_transforms.Given({}, ())
    todo = steps(kept, root=images or tables_dir, given=given.matrices, seed=seed)
    log = output_dir / "registrations.jsonl"
    registered_now = run(todo, log, workers=workers)
    table = rows(kept, todo, log)
    names = schemas.Registrations.column_names()
    frame = pl.DataFrame(
        [{name: row.get(name) for name in names} for row in table],
        schema=tables.dtypes(schemas.Registrations),
        orient="row",
    )
    tables.write_table(output_dir / "registrations.parquet", frame, schemas.Registrations)
    files.write_jsonl(output_dir / "bad_exams.jsonl", bad_exams(table))
    return Written(registered_now, Counter(row["status"] for row in table), given.duplicates)


def between(earlier: Row, later: Row) -> Floats:
    """Return the matrix that carries a point of one exam to another of the same patient; both are rows of the table.

    It is composed of both transforms to the patient's first exam: exact for rigid and affine ones. Raises `ValueError`
    for rows of different references or without a transform.
    """
    if (earlier["pid"], earlier["fixed_exam_id"]) != (later["pid"], later["fixed_exam_id"]):
        raise ValueError(
            f"exams {earlier['exam_id']} and {later['exam_id']} were registered to different exams"
        )
    for row in (earlier, later):
        if row.get("matrix_fixed_to_moving") is None:
            raise ValueError(f"exam {row['exam_id']} has no transform (status {row['status']})")
    to_first = np.array(earlier["matrix_moving_to_fixed"]).reshape(4, 4)
    matrix: Floats = np.array(later["matrix_fixed_to_moving"]).reshape(4, 4) @ to_first
    return matrix


def bad_exams(table: Iterable[Row], statuses: Collection[str] = ("refused", "poor")) -> list[Row]:
    """Return the exams whose registration cannot be used, as `longitudinal tables --bad-exams` reads them."""
    return [
        {"exam_id": row["exam_id"], "reasons": row["reasons"]} for row in table if row["status"] in statuses
    ]


def _by_patient(kept: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    ordered = sorted(kept, key=lambda row: (row["pid"], row["screen_timepoint"]))
    return [(pid, list(exams)) for pid, exams in groupby(ordered, key=lambda row: row["pid"])]


def _record_of(step: Step, done: Mapping[Pair, Row]) -> Row | None:
    record = done.get((step.fixed_exam_id, step.moving_exam_id))
    return record if record is not None and record.get("inputs") == step.inputs() else None


def _record(step: Step, status: str, reasons: list[str]) -> Row:
    return {
        "pid": step.pid,
        "fixed_exam_id": step.fixed_exam_id,
        "moving_exam_id": step.moving_exam_id,
        "status": status,
        "reasons": reasons,
        "source": "computed" if step.given is None else "given",
        "reverse_transform": step.is_reversed,
        "inputs": step.inputs(),
    }


def _died(step: Step) -> Row:
    return _record(step, "refused", ["registration_process_ended"])


def _transform(matrix: Floats) -> Row:
    return {
        "matrix_fixed_to_moving": matrix.ravel().tolist(),
        "matrix_moving_to_fixed": np.linalg.inv(matrix).ravel().tolist(),
        "rotation_deg": 0.0,
        "translation_mm": [0.0, 0.0, 0.0],
    }

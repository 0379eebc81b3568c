"""`ct-assets preprocess`: from NIfTI files and a table of cases to folds, volumes, final sets and drift.

Belongs here: the order of the steps on plain folders, and what is said about single rows. Every step is the
function that the platform's asset calls.
"""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import polars as pl

from ct_assets import files, progress, reasons
from ct_assets.cohort import drift, splits, splits_checks, splits_given, splits_record
from ct_assets.errors import SafetyError, UsageError
from ct_assets.learning.volumes import exports, final_sets, fingerprint, fold_volumes
from ct_assets.learning.volumes.cases import RowProblem, read_cases
from ct_assets.learning.volumes.fingerprint import BODY_HU, Checked
from ct_assets.learning.volumes.plan import FINAL, build_plan
from ct_assets.settings.folds import SplitSettings
from ct_assets.settings.platform import Settings
from ct_assets.tables import read_table, write_table
from ct_assets.tables.cohort import SplitLedger
from ct_assets.tables.folds import CaseChecks, FoldVolumes

FEWEST_PATIENTS = 3
"""One tested, and two folds: the least that can be trained and evaluated."""
LOCK_NAME = ".preprocess.lock"
RECORD_NAME = "splits_record.json"
"""What is remembered of the ledger outside of it."""


@dataclass(frozen=True)
class PreprocessSummary:
    """What the command made."""

    cases: int
    patients: int
    added: int
    test_patients: int
    folds: int
    problems: tuple[RowProblem, ...]
    warnings: tuple[str, ...]
    drift: str


def preprocess(
    cases_csv: Path,
    output_dir: Path,
    settings: Settings,
    *,
    folds: int | None,
    test_share: float | None,
    given: Path | None,
    workers: int,
    timings: progress.Timings,
    nnunet: bool = False,
) -> PreprocessSummary:
    """Make or extend everything in `output_dir`; see the commands' contract for what lies where.

    Bad rows are left out and named (`problems.csv`). Raises `UsageError` for a bad table or changed settings, and
    `SafetyError` where the same picture would stand on both sides of a split: then nothing is written. One run at a
    time works in a folder: a second raises `UsageError`.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    with _only_writer(output_dir):
        return _preprocess(
            cases_csv, output_dir, settings, folds, test_share, given, workers, timings, nnunet=nnunet
        )


@contextmanager
def _only_writer(output_dir: Path) -> Iterator[None]:
    """Hold the folder's lock; it ends with its process. Raises `UsageError` where another run holds it."""
    lock = filelock.FileLock(output_dir / LOCK_NAME, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UsageError(
            f"{output_dir}: another preprocess works in this folder; run this again when it has ended"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _preprocess(
    cases_csv: Path,
    output_dir: Path,
    settings: Settings,
    folds: int | None,
    test_share: float | None,
    given: Path | None,
    workers: int,
    timings: progress.Timings,
    *,
    nnunet: bool,
) -> PreprocessSummary:
    cases, problems = read_cases(cases_csv)
    root, store_dir = cases_csv.resolve().parent, output_dir / "store"
    with timings.step("fingerprint") as step:
        checked = fingerprint.check(cases, root, store_dir, workers)
        step.items = len(checked)
    problems += _file_problems(cases, checked)
    problems.sort(key=lambda one: (one.row, one.code))
    _say_problems(problems, output_dir)
    usable = [one.case.case_id for one in checked if one.fingerprint is not None]
    good = cases.filter(pl.col("case_id").is_in(usable))
    with timings.step("split") as step:
        ledger, old = _ledger(good, output_dir, settings.splits, folds, test_share, given)
        _refuse_leaks(ledger, good, checked)
        step.items = ledger.height
    manifest = good.join(ledger.select("patient_id", "split", "fold"), on="patient_id", how="left").sort(
        "case_id"
    )
    write_table(output_dir / "splits.parquet", ledger, SplitLedger)
    splits_record.write(output_dir / RECORD_NAME, ledger)
    write_table(output_dir / "checks.parquet", fingerprint.check_table(checked), CaseChecks)
    with files.atomic_path(output_dir / "manifest.parquet") as partial:
        manifest.drop("row").write_parquet(partial)
    warned = [one.sentence for one in splits_checks.warnings(ledger, good)]
    names = [str(fold) for fold in range(_folds_of(ledger))]
    _make_folds(manifest, names, checked, root, output_dir, settings, workers, timings)
    with timings.step("drift") as step:
        reports = _drift(manifest, checked, names, output_dir, settings)
        step.items = len(reports)
    exports.monai_datalist(manifest, output_dir / "datalist.json")
    if nnunet:
        exports.nnunet(manifest, root, output_dir / "nnunet")
    return PreprocessSummary(
        cases=manifest.height,
        patients=manifest["patient_id"].n_unique(),
        added=ledger.height - old,
        test_patients=manifest.filter(pl.col("split") == splits.TEST)["patient_id"].n_unique(),
        folds=len(names),
        problems=tuple(problems),
        warnings=tuple(warned),
        drift=" ".join(sorted({report.verdict() for report in reports})),
    )


def say_summary(summary: PreprocessSummary) -> None:
    """Print what was made, for people."""
    left_out = sum(problem.is_fatal for problem in summary.problems)
    print(
        f"{summary.cases} cases of {summary.patients} patients ({summary.added} new), {left_out} rows left out; "
        f"{summary.folds} folds, {summary.test_patients} test patients"
    )
    for warning in summary.warnings:
        print(f"warning: {warning}")
    print(f"drift: {summary.drift}")


def _ledger(
    good: pl.DataFrame,
    output_dir: Path,
    base: SplitSettings,
    folds: int | None,
    test_share: float | None,
    given: Path | None,
) -> tuple[pl.DataFrame, int]:
    """Return the ledger extended by the new patients, and how many rows it had. Nothing is written yet."""
    path = output_dir / "splits.parquet"
    ledger = read_table(path, SplitLedger) if path.exists() else None
    if ledger is not None and (faults := splits_record.faults(output_dir / RECORD_NAME, ledger)):
        raise SafetyError(f"{faults[0].code}: {path}: {faults[0].sentence}; restore it from a backup")
    asked: dict[str, Any] = {"folds": folds, "test_share": test_share}
    if ledger is not None:
        made_with = splits.made_with(ledger)
        asked = {name: made_with[name] if value is None else value for name, value in asked.items()}
        asked |= {name: made_with[name] for name in ("salt", "scheme", "strata")}
    chosen = SplitSettings.model_validate(
        {**base.model_dump(), **{name: value for name, value in asked.items() if value is not None}}
    )
    now = datetime.now(UTC)
    given = given or chosen.given
    before = 0 if ledger is None else ledger.height
    if given is not None:
        return splits_given.from_file(given, good, chosen, now, ledger), before
    if ledger is None and good["patient_id"].n_unique() < FEWEST_PATIENTS:
        raise UsageError(
            f"{good['patient_id'].n_unique()} usable patients: at least {FEWEST_PATIENTS} are needed, one to test "
            "and two folds that validate one another"
        )
    return splits.extend(ledger, good, chosen, now), before


def _folds_of(ledger: pl.DataFrame) -> int:
    return int(splits.made_with(ledger)["folds"])


def _refuse_leaks(ledger: pl.DataFrame, good: pl.DataFrame, checked: list[Checked]) -> None:
    table = fingerprint.check_table(checked).filter("is_usable")
    findings = splits_checks.leakage(ledger, table.select("patient_id", "pixel_digest"))
    if findings.is_empty():
        return
    first = findings.row(0, named=True)
    cases = table.filter(pl.col(first["kind"]) == first["value"])["case_id"].to_list()
    rows = sorted(good.filter(pl.col("case_id").is_in(cases))["row"])
    raise SafetyError(
        f"shared_between_splits: {findings.height} identities stand in two parts of the split; first: rows "
        f"{', '.join(map(str, rows))} hold the same picture under different patients "
        f"({', '.join(first['parts'])}). {reasons.reason('shared_between_splits').mend} Nothing was written."
    )


def _make_folds(
    manifest: pl.DataFrame,
    names: list[str],
    checked: list[Checked],
    root: Path,
    output_dir: Path,
    settings: Settings,
    workers: int,
    timings: progress.Timings,
) -> None:
    store_dir = output_dir / "store"
    plans = {}
    with timings.step("plan") as step:
        for fold in [*names, FINAL]:
            plans[fold] = build_plan(manifest, fold, root, store_dir, settings, workers)
            step.items += 1
    of_case = {one.case.case_id: one for one in checked}
    with timings.step("volumes") as step:
        needed = []
        for fold, plan in plans.items():
            rows = manifest.filter(pl.col("split") == splits.TRAIN) if fold != FINAL else manifest
            needed.append(([of_case[case] for case in rows["case_id"]], plan))
        fold_volumes.fill_all(needed, store_dir, workers)
        for fold in names:
            plans[fold].save(output_dir / "folds" / fold / "plan.json")
            volumes = fold_volumes.build(manifest, fold, plans[fold], root, store_dir, workers)
            write_table(output_dir / "folds" / fold / "volumes.parquet", volumes, FoldVolumes)
            step.items += volumes.height
    with timings.step("final") as step:
        final = output_dir / "final"
        for table in final_sets.build(
            manifest, plans[FINAL], root, final / "train", final / "test", store_dir, workers
        ):
            step.items += table.height


def _drift(
    manifest: pl.DataFrame, checked: list[Checked], names: list[str], output_dir: Path, settings: Settings
) -> list[drift.DriftReport]:
    from ct_assets.reports import drift as page

    headers, images = image_factors(checked)
    reports = []
    with progress.track("drift", len(names)) as advance:
        for fold in names:
            reports.append(drift.assess(manifest, headers, fold, settings, image_factors=images))
            advance(1)
    files.write_json(
        output_dir / "drift.json",
        {
            "has_alarm": any(report.has_alarm for report in reports),
            "verdicts": sorted({finding.verdict for report in reports for finding in report.alarms}),
            "folds": {report.fold: report.to_json() for report in reports},
        },
    )
    for report in reports:
        page.write(report, output_dir / "reports" / "drift" / report.fold)
    return reports


def image_factors(checked: list[Checked]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what NIfTI headers tell of the usable cases, and what their voxels do: a row a case, by `case_id`."""
    headers, images = [], []
    for one in checked:
        found = one.fingerprint
        if found is None:
            continue
        x, y, z = found.spacing_mm
        headers.append(
            {
                "case_id": one.case.case_id,
                "spacing_x_mm": x,
                "spacing_y_mm": y,
                "spacing_z_mm": z,
                "slices": found.shape[0],
                "field_of_view_mm": round(found.shape[2] * x, 3),
                "coverage_mm": round(found.shape[0] * z, 3),
                "stored_axes": found.axes,
            }
        )
        body = found.image.above(BODY_HU)
        images.append(
            {
                "case_id": one.case.case_id,
                "body_mean_hu": body.mean() if body.total else None,
                "body_std_hu": body.std() if body.total else None,
                "air_share": 1 - body.total / max(1, found.image.total),
                "lowest_hu": float(found.image.low),
                "highest_hu": float(found.image.high),
            }
        )
    schema = {"case_id": pl.String()}
    return pl.DataFrame(headers, schema_overrides=schema), pl.DataFrame(images, schema_overrides=schema)


def _file_problems(cases: pl.DataFrame, checked: list[Checked]) -> list[RowProblem]:
    row_of = dict(zip(cases["case_id"], cases["row"], strict=True))
    problems = []
    for one in checked:
        case = one.case.case_id
        if one.fault is not None:
            problems.append(RowProblem(row_of[case], case, *one.fault))
        elif one.fingerprint is not None:
            problems += [
                RowProblem(row_of[case], case, code, reasons.reason(code).meaning, is_fatal=False)
                for code in one.fingerprint.warnings
            ]
    return problems


def _say_problems(problems: list[RowProblem], output_dir: Path) -> None:
    """Name every bad row on stderr, and write `problems.csv` (there also where it is empty)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "case_id", "is_left_out", "code", "detail"])
    for one in problems:
        writer.writerow([one.row, one.case_id or "", one.is_fatal, one.code, one.detail])
        progress.say(f"row {one.row}: {one.code}: {one.detail}" + (" (left out)" if one.is_fatal else ""))
    files.write_text(output_dir / "problems.csv", text.getvalue())

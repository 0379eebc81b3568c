"""`ct-assets preprocess`: the contract of files and exit codes, on NIfTI and a CSV."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import filelock
import polars as pl
import pytest

from ct_assets import progress
from ct_assets.errors import SafetyError, UsageError
from ct_assets.learning.volumes.plan import Plan
from ct_assets.learning.volumes.preprocess import preprocess
from ct_assets.settings.folds import DriftSettings, PlanSettings
from ct_assets.settings.platform import Settings
from ct_assets_tests.learning.volumes import STAGES, write_case

SETTINGS = Settings(plan=PlanSettings(spacing=(2.0, 2.0, 2.5)), drift=DriftSettings(permutations=99))


def table(folder: Path, count: int, *changes: dict, name: str = "cases.csv") -> Path:
    rows = []
    for number in range(count):
        case = f"c{number:02d}"
        if not (folder / f"{case}.nii.gz").exists():
            write_case(folder, case, seed=number)
        rows.append(
            {
                "case_id": case,
                "patient_id": f"p{number:02d}",
                "image": f"{case}.nii.gz",
                "label": f"{case}_mask.nii.gz",
                "stage": STAGES[number % 4],
                "site": "AB"[number % 2],
            }
        )
    rows += changes
    path = folder / name
    with path.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0].keys(), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def run(path: Path, out: Path, **options):
    arguments = {"folds": None, "test_share": None, "given": None, "workers": 1} | options
    return preprocess(path, out, SETTINGS, timings=progress.Timings(), **arguments)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    run(table(folder, 12), folder / "out")
    return folder


def places(out: Path) -> dict[str, tuple[str, int | None]]:
    ledger = pl.read_parquet(out / "splits.parquet")
    return {row["patient_id"]: (row["split"], row["fold"]) for row in ledger.iter_rows(named=True)}


def test_everything_that_was_promised_is_there(world):
    out = world / "out"
    for fold in range(5):
        plan = Plan.load(out / f"folds/{fold}/plan.json")
        assert plan.fold == str(fold)
        assert (out / f"folds/{fold}/volumes.parquet").exists()
    assert (out / "final/train/manifest.parquet").exists()
    assert (out / "final/test/manifest.parquet").exists()
    assert set(json.loads((out / "drift.json").read_text())["folds"]) == {"0", "1", "2", "3", "4"}


def test_a_cohort_of_twelve_has_a_test_set_and_every_fold_validates(world):
    found = list(places(world / "out").values())
    assert sum(split == "test" for split, _ in found) == 2
    assert {fold for _, fold in found if fold is not None} == {0, 1, 2, 3, 4}


def test_it_grows_and_nothing_of_an_old_patient_moves(world, tmp_path):
    import shutil

    shutil.copytree(world / "out", tmp_path / "out")
    before = places(tmp_path / "out")
    summary = run(table(world, 16, name="more.csv"), tmp_path / "out")
    after = places(tmp_path / "out")
    assert summary.added == 4
    assert {patient: after[patient] for patient in before} == before


def test_a_second_run_with_other_workers_changes_no_byte(world, tmp_path):
    out = tmp_path / "out"
    path = table(world, 6, name="six.csv")
    run(path, out, folds=2)
    before = {
        name: name.read_bytes()
        for name in sorted(out.rglob("*"))
        if name.is_file() and "seen" not in str(name)
    }
    run(path, out, folds=2, workers=2)
    assert {name: name.read_bytes() for name in before} == before


def test_bad_rows_are_named_one_by_one_and_the_rest_goes_on(tmp_path):
    write_case(tmp_path, "x", seed=77)
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    path = table(
        tmp_path,
        6,
        {"case_id": "c00", "patient_id": "q1", "image": "x.nii.gz", "label": ""},
        {"case_id": "b1", "patient_id": "q2", "image": "broken.nii.gz", "label": ""},
        {"case_id": "b2", "patient_id": "q3", "image": "nowhere.nii.gz", "label": ""},
        {"case_id": "b3", "patient_id": "", "image": "x.nii.gz", "label": ""},
        {"case_id": "b4", "patient_id": "q4", "image": "x.nii.gz", "label": "gone.nii.gz"},
    )
    summary = run(path, tmp_path / "out", folds=2)
    named = {(one.row, one.code) for one in summary.problems if one.is_fatal}
    assert named == {
        (8, "case_repeated"),
        (9, "image_unreadable"),
        (10, "image_missing"),
        (11, "row_without_patient_id"),
        (12, "label_missing"),
    }
    listed = (tmp_path / "out/problems.csv").read_text().splitlines()
    assert len(listed) == 1 + len(summary.problems)
    assert summary.patients == 6


def test_the_same_picture_under_two_patients_is_a_leak_and_nothing_is_written(tmp_path):
    rows = [
        {"case_id": f"d{number}", "patient_id": f"twin{number}", "image": "c00.nii.gz", "label": ""}
        for number in range(6)
    ]
    path = table(tmp_path, 6, *rows)
    with pytest.raises(SafetyError, match=r"rows .* the same picture"):
        run(path, tmp_path / "out", folds=2)
    assert not (tmp_path / "out/splits.parquet").exists()


def test_a_changed_setting_of_the_ledger_is_refused(world):
    with pytest.raises(UsageError, match="folds is 4"):
        run(world / "cases.csv", world / "out", folds=4)


def test_contradicting_stages_of_a_patient_are_named(tmp_path):
    write_case(tmp_path, "x", seed=77)
    extra = {"case_id": "b1", "patient_id": "p00", "image": "x.nii.gz", "label": "", "stage": "IV"}
    summary = run(table(tmp_path, 6, extra), tmp_path / "out", folds=2)
    assert {one.row for one in summary.problems if one.code == "stage_contradicts"} == {2, 8}


@pytest.mark.parametrize("count", [3, 4])
def test_three_or_four_patients_are_told_what_is_possible(tmp_path, count):
    summary = run(table(tmp_path, count), tmp_path / "out")
    assert any("Possible now" in warning for warning in summary.warnings)


def test_two_patients_are_refused(tmp_path):
    with pytest.raises(UsageError, match="at least 3"):
        run(table(tmp_path, 2), tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("case_id,image\nc,i\n", "patient_id, label missing"),
        ("", "is empty"),
        ("case_id,patient_id,image,label\n", "no usable row"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(tmp_path, content, what):
    (tmp_path / "cases.csv").write_text(content)
    with pytest.raises(UsageError, match=what):
        run(tmp_path / "cases.csv", tmp_path / "out")


def test_a_second_run_on_one_folder_is_refused_while_the_first_works(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "cases.csv").write_text("")
    with (
        filelock.FileLock(tmp_path / "out/.preprocess.lock"),
        pytest.raises(UsageError, match="another preprocess"),
    ):
        run(tmp_path / "cases.csv", tmp_path / "out")


@pytest.mark.slow
def test_the_command_ends_with_the_promised_codes(tmp_path):
    path = table(tmp_path, 6)
    command = [sys.executable, "-m", "ct_assets.cli"]
    script = "import sys; from ct_assets.cli import main; sys.argv = ['ct-assets', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", script, "preprocess"]
    done = subprocess.run([*command, str(path), str(tmp_path / "out"), "--folds", "2"], check=False)
    assert done.returncode == 0
    assert (tmp_path / "out/timings.json").exists()
    changed = subprocess.run(
        [*command, str(path), str(tmp_path / "out"), "--folds", "3"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert changed.returncode == 2
    assert "Traceback" not in changed.stderr

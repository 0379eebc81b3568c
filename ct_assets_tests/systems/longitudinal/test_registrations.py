"""Registrations of a cohort: pairs, the log after a kill, given transforms, composition. No image is registered here."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import SimpleITK
from typer.testing import CliRunner

from ct_assets import progress
from ct_assets.cli import app
from ct_assets.errors import UsageError
from ct_assets.imaging import nifti
from ct_assets.systems.longitudinal import given_transforms, registrations
from ct_assets_tests.imaging.bodies import body, grid

KEPT = [
    {"pid": "p", "exam_id": "p0", "screen_timepoint": 0, "nifti_path": "p0.nii.gz"},
    {"pid": "p", "exam_id": "p2", "screen_timepoint": 2, "nifti_path": "p2.nii.gz"},
    {"pid": "p", "exam_id": "p1", "screen_timepoint": 1, "nifti_path": "p1.nii.gz"},
    {"pid": "alone", "exam_id": "a0", "screen_timepoint": 0, "nifti_path": None},
    {"pid": "q", "exam_id": "q1", "screen_timepoint": 1, "nifti_path": "q1.nii.gz"},
    {"pid": "q", "exam_id": "q2", "screen_timepoint": 2, "nifti_path": None},
]


def shift(x, y=0.0, z=0.0):
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def turn(degrees):
    matrix = np.eye(4)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix[:2, :2] = [[c, -s], [s, c]]
    return matrix


@pytest.fixture
def quick(monkeypatch):
    """Stand in for a registration: its translation is the number in the moving exam's name."""
    done = []

    def registered(step):
        done.append(step.moving_exam_id)
        matrix = shift(float(step.moving_exam_id[1:]))
        return registrations._record(step, "ok", []) | registrations._transform(matrix)

    monkeypatch.setattr(registrations, "registered", registered)
    return done


def test_every_later_exam_goes_to_the_first_kept_one():
    pairs = [(step.fixed_exam_id, step.moving_exam_id) for step in registrations.steps(KEPT)]
    assert pairs == [("p0", "p1"), ("p0", "p2"), ("q1", "q2")]


def test_a_log_cut_off_anywhere_gives_the_same_table_and_does_nothing_twice(quick, tmp_path):
    todo = registrations.steps(KEPT)
    whole = tmp_path / "whole.jsonl"
    assert registrations.run(todo, whole) == 3
    wanted = registrations.rows(KEPT, todo, whole)
    content = whole.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    for cut in (0, 1, ends[0] - 1, ends[0], ends[0] + 7, ends[1], len(content) - 1, len(content)):
        log = tmp_path / f"{cut}.jsonl"
        log.write_bytes(content[:cut])
        quick.clear()
        assert registrations.run(todo, log) == 3 - sum(end <= cut for end in ends) == len(quick)
        assert log.read_bytes() == content
        assert registrations.rows(KEPT, todo, log) == wanted


def test_a_record_of_other_inputs_is_done_again(quick, tmp_path):
    log = tmp_path / "log.jsonl"
    registrations.run(registrations.steps(KEPT), log)
    assert registrations.run(registrations.steps(KEPT, seed=1), log) == 3
    assert registrations.run(registrations.steps(KEPT, given={("p0", "p1"): shift(9)}, seed=1), log) == 1


def test_the_first_exam_is_its_reference_and_an_exam_without_an_image_has_a_reason(tmp_path):
    kept = [row | {"nifti_path": None} for row in KEPT]
    todo = registrations.steps(kept)
    registrations.run(todo, tmp_path / "log.jsonl")
    rows = {row["exam_id"]: row for row in registrations.rows(kept, todo, tmp_path / "log.jsonl")}
    assert [name for name, row in rows.items() if row["status"] == "reference"] == ["a0", "p0", "q1"]
    assert rows["p2"]["reasons"] == ["exam_without_image"]
    assert [row["exam_id"] for row in registrations.bad_exams(rows.values())] == ["p1", "p2", "q2"]


def test_a_step_that_was_not_done_is_open(tmp_path):
    rows = registrations.rows(KEPT, registrations.steps(KEPT), tmp_path / "none.jsonl")
    assert [row["status"] for row in rows if row["pid"] == "p"] == ["reference", "open", "open"]


def test_a_given_transform_is_used_in_its_direction_and_inverted_in_the_other():
    there, back = registrations.steps(KEPT[:3], given={("p0", "p1"): shift(5), ("p2", "p0"): shift(0, 7)})
    assert np.array_equal(there.given, shift(5))
    assert np.array_equal(back.given, shift(0, -7))
    assert (there.is_reversed, back.is_reversed) == (False, True)


def test_exams_are_composed_over_the_first_one():
    first_to_a, first_to_b = turn(90) @ shift(10), shift(0, 0, 4)
    a, b = (
        {"pid": "p", "exam_id": name, "fixed_exam_id": "p0", "status": "ok"}
        | registrations._transform(matrix)
        for name, matrix in (("a", first_to_a), ("b", first_to_b))
    )
    # The first exam's point (1, 2, 3) is (-2, 11, 3) in a and (1, 2, 7) in b.
    np.testing.assert_allclose(registrations.between(a, b) @ [-2, 11, 3, 1], [1, 2, 7, 1], atol=1e-12)
    with pytest.raises(ValueError, match="different"):
        registrations.between(a, b | {"fixed_exam_id": "p1"})
    with pytest.raises(ValueError, match="no transform"):
        registrations.between(a, b | {"matrix_fixed_to_moving": None})


class TestGivenFiles:
    def test_itk_files_are_read_as_points_of_fixed_to_moving(self, tmp_path):
        transform = SimpleITK.Euler3DTransform((10.0, 0.0, 0.0), 0.0, 0.0, np.pi / 2, (1.0, 2.0, 3.0))
        SimpleITK.WriteTransform(transform, str(tmp_path / "rigid_f001_m002.mat"))
        SimpleITK.WriteTransform(transform, str(tmp_path / "rigid_f002_m001.tfm"))
        (tmp_path / "notes.txt").write_text("no transform")
        given = given_transforms.read(tmp_path)
        # About (10, 0, 0) by a quarter turn: (11, 0, 0) goes to (10, 1, 0), then the translation is added.
        np.testing.assert_allclose(given.matrices["001", "002"] @ [11, 0, 0, 1], [11, 3, 3, 1], atol=1e-9)
        assert list(given.matrices) == [("001", "002")]
        assert given.duplicates == ("rigid_f002_m001.tfm",)

    def test_what_is_no_transform_is_named(self, tmp_path):
        (tmp_path / "rigid_fa_mb.tfm").write_text("nothing")
        with pytest.raises(UsageError, match=r"rigid_fa_mb\.tfm"):
            given_transforms.read(tmp_path)


def test_records_are_lines_of_json(quick, tmp_path):
    registrations.run(registrations.steps(KEPT), tmp_path / "log.jsonl")
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"matrix_fixed_to_moving", "matrix_moving_to_fixed", "reverse_transform"} <= set(records[0])


def test_the_command_judges_given_transforms_and_goes_on_where_it_ended(tmp_path):
    matrix = shift(-12, 8, -16)
    nifti.write(tmp_path / "p0.nii.gz", body(grid()))
    nifti.write(tmp_path / "p1.nii.gz", body(grid(), matrix=matrix))
    (tmp_path / "p2.nii.gz").write_bytes(b"no image")
    pl.DataFrame(KEPT[:3]).write_parquet(tmp_path / "single_timepoints.parquet")
    (tmp_path / "given").mkdir()
    back = SimpleITK.TranslationTransform(3, (-12.0, 8.0, -16.0))
    SimpleITK.WriteTransform(back, str(tmp_path / "given" / "rigid_fp1_mp0.tfm"))
    command = [
        "longitudinal",
        "registrations",
        str(tmp_path),
        str(tmp_path / "out"),
        "--given",
        str(tmp_path / "given"),
    ]
    ended = [CliRunner().invoke(app, command).output.split()[2] for _ in range(2)]
    assert ended == ["2", "0"]
    rows = {
        row["exam_id"]: row for row in pl.read_parquet(tmp_path / "out" / "registrations.parquet").to_dicts()
    }
    assert [rows[name]["status"] for name in ("p0", "p1", "p2")] == ["reference", "ok", "refused"]
    assert rows["p1"]["matrix_fixed_to_moving"][3::4] == [12.0, -8.0, 16.0, 1.0]
    assert (rows["p1"]["source"], rows["p1"]["reverse_transform"]) == ("given", True)
    assert rows["p2"]["reasons"] == ["unreadable_image"]


def run_of(folder, workers):
    return [
        sys.executable, "-c",
        "import sys; from pathlib import Path; from ct_assets.systems.longitudinal import registrations as r\n"
        "if __name__ == '__main__': r.write(Path(sys.argv[1]), Path(sys.argv[2]), workers=int(sys.argv[3]))",
        str(folder), str(folder / f"out{workers}"), str(workers),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_killed_with_two_workers_goes_on_and_ends_as_one_that_was_not(tmp_path):
    kept = [
        {"pid": "p", "exam_id": f"p{number}", "screen_timepoint": number, "nifti_path": f"p{number}.nii.gz"}
        for number in range(4)
    ]
    for number, row in enumerate(kept):
        nifti.write(tmp_path / row["nifti_path"], body(grid(), matrix=shift(4.0 * number, -3.0 * number)))
    pl.DataFrame(kept).write_parquet(tmp_path / "single_timepoints.parquet")
    log = tmp_path / "out2/registrations.jsonl"
    killed = subprocess.Popen(run_of(tmp_path, 2), start_new_session=True)
    deadline = time.monotonic() + 300
    while not (log.exists() and log.read_bytes().count(b"\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    first = log.read_bytes()
    assert first.count(b"\n") >= 1
    for workers in (1, 2):
        subprocess.run(run_of(tmp_path, workers), check=True)
    assert log.read_bytes().startswith(first)
    whole, resumed = ((tmp_path / f"out{workers}/registrations.parquet").read_bytes() for workers in (1, 2))
    assert resumed == whole


def test_many_registrations_show_how_far_they_are(tmp_path, monkeypatch):
    steps = [registrations.Step(f"p{n}", "a", f"b{n}", "", "", 0, None, False) for n in range(12)]
    monkeypatch.setattr(registrations, "registered", lambda step: {"moving_exam_id": step.moving_exam_id})
    lines: list[str] = []
    with progress.lines_to(lines.append):
        assert registrations.run(steps, tmp_path / "log.jsonl") == 12
    assert lines[-1] == "registrations: 12/12"

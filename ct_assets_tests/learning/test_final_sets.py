"""Final sets: the plan of all training patients applied, the test set never fitted, everything digested."""

import numpy as np
import polars as pl
import pytest

from ct_assets import files, tables
from ct_assets.errors import UsageError
from ct_assets.imaging import nifti
from ct_assets.imaging.store import Store
from ct_assets.learning.volumes import final_sets
from ct_assets.learning.volumes.plan import Plan, build_plan
from ct_assets.settings.folds import PlanSettings
from ct_assets.tables.folds import FinalSet
from ct_assets_tests.learning.volumes import cohort

SETTINGS = PlanSettings(spacing=(2.0, 2.0, 2.5))


@pytest.fixture
def world(tmp_path):
    manifest = cohort(tmp_path, patients=6, tested=2)
    plan = build_plan(manifest, "final", tmp_path, tmp_path / "store", SETTINGS, 1)
    return tmp_path, manifest, plan


def build(world, workers=1):
    folder, manifest, plan = world
    return final_sets.build(
        manifest, plan, folder, folder / "train", folder / "test", folder / "store", workers
    )


def test_every_training_and_test_case_is_there_with_its_digests(world):
    folder, manifest, _ = world
    for name, table in zip(("train", "test"), build(world), strict=True):
        assert set(table["case_id"]) == set(manifest.filter(pl.col("split") == name)["case_id"])
        assert tables.read_table(folder / name / "manifest.parquet", FinalSet).equals(table)
        for row in table.iter_rows(named=True):
            assert files.sha256_file(folder / name / row["image"]) == row["image_sha256"]
            assert files.sha256_file(folder / name / row["label"]) == row["label_sha256"]


def test_both_sets_carry_the_same_plan(world):
    folder, _, plan = world
    build(world)
    assert Plan.load(folder / "train/plan.json") == Plan.load(folder / "test/plan.json") == plan


def test_a_test_image_is_the_stored_volume_under_the_training_normalisation(world):
    folder, _, plan = world
    row = build(world)[1].row(0, named=True)
    entry = Store(folder / "store").open(row["image_key"])
    written = nifti.read(folder / "test" / row["image"])
    assert written.array.dtype == np.float32
    assert (written.array == plan.intensity.normalise(entry.array())).all()
    assert written.grid.same_as(entry.grid)


def test_a_second_run_writes_nothing_anew(world):
    folder = world[0]
    first = build(world)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("t*/*s/*.nii.gz")}
    assert build(world)[0].equals(first[0])
    assert {path: path.stat().st_mtime_ns for path in folder.glob("t*/*s/*.nii.gz")} == times


def test_a_file_that_was_changed_is_written_again(world):
    folder = world[0]
    row = build(world)[0].row(0, named=True)
    (folder / "train" / row["image"]).write_bytes(b"spoilt")
    assert build(world)[0].row(0, named=True) == row
    assert files.sha256_file(folder / "train" / row["image"]) == row["image_sha256"]


def test_a_patient_who_leaves_the_manifest_leaves_the_set(world):
    folder, manifest, plan = world
    build(world)
    build((folder, manifest.filter(pl.col("case_id") != "case_0001"), plan))
    assert not (folder / "train/images/case_0001.nii.gz").exists()


def test_the_plan_of_a_fold_is_refused(world):
    folder, manifest, _ = world
    plan = build_plan(manifest, "0", folder, folder / "store", SETTINGS, 1)
    with pytest.raises(UsageError, match="fold 0"):
        build((folder, manifest, plan))

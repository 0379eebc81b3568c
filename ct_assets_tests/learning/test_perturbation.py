"""What a fold may know: change anything of its validation and test patients, and its plan stays to the byte."""

import shutil

import numpy as np
import polars as pl
import pytest

from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.volumes.plan import build_plan, training_rows
from ct_assets.settings.folds import PlanSettings
from ct_assets_tests.learning.volumes import cohort

FOLD = "1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return folder, cohort(folder)


@pytest.fixture
def world(made, tmp_path):
    """A copy of the cohort that a test may spoil."""
    folder, manifest = made
    shutil.copytree(folder, tmp_path / "data")
    headers = pl.DataFrame(
        {"case_id": manifest["case_id"], "kernel": ["B30", "B70"] * (manifest.height // 2)}
    )
    return tmp_path, manifest, headers


def plan_of(world, fold=FOLD, *, manifest=None, headers=None, settings=None, name="store"):
    folder, its_manifest, its_headers = world
    return build_plan(
        its_manifest if manifest is None else manifest,
        fold,
        folder / "data",
        folder / name,
        settings or PlanSettings(),
        1,
        header_factors=its_headers if headers is None else headers,
    )


def others(manifest: pl.DataFrame, fold: str = FOLD) -> list[str]:
    """Return the cases that do not train in the fold."""
    return sorted(set(manifest["case_id"]) - set(training_rows(manifest, fold)["case_id"]))


def spoil(folder, case: str, how: str) -> None:
    """Change the files of one case: brighter inside the mask, another spacing, another mask, or no file."""
    image, mask = nifti.read(folder / f"{case}.nii.gz"), nifti.read(folder / f"{case}_mask.nii.gz")
    array = image.array.copy()
    grid = image.grid
    marked = mask.array.copy()
    if how == "voxels":
        array[marked > 0] += 700
    elif how == "spacing":
        grid = Grid.of(grid.shape, (0.5, 0.6, 7.0))
    elif how == "mask":
        marked[:] = 0
        marked[2:4, 2:4, 2:4] = 5
    elif how == "gone":
        (folder / f"{case}.nii.gz").unlink()
        return
    nifti.write(folder / f"{case}.nii.gz", Volume(array, grid))
    nifti.write(folder / f"{case}_mask.nii.gz", Volume(marked, grid))


@pytest.mark.parametrize("how", ["voxels", "spacing", "mask", "gone"])
def test_files_of_validation_and_test_patients_do_not_touch_the_plan(world, how):
    before = plan_of(world)
    for case in others(world[1]):
        spoil(world[0] / "data", case, how)
    assert plan_of(world, name="another") == before


def test_labels_and_headers_of_validation_and_test_patients_do_not_touch_the_plan(world):
    before = plan_of(world)
    _, manifest, headers = world
    is_other = pl.col("case_id").is_in(others(manifest))
    changed = manifest.with_columns(
        stage=pl.when(is_other).then(pl.lit("IV")).otherwise("stage"),
        site=pl.when(is_other).then(pl.lit("elsewhere")).otherwise("site"),
    )
    scanned = headers.with_columns(kernel=pl.when(is_other).then(pl.lit("other")).otherwise("kernel"))
    assert plan_of(world, manifest=changed, headers=scanned) == before


def test_validation_and_test_patients_need_not_even_be_there(world):
    before = plan_of(world)
    alone = training_rows(world[1], FOLD)
    assert plan_of(world, manifest=alone, name="another") == before


@pytest.mark.parametrize("how", ["voxels", "spacing", "mask"])
def test_one_changed_training_patient_changes_the_plan(world, how):
    before = plan_of(world)
    spoil(world[0] / "data", training_rows(world[1], FOLD)["case_id"][0], how)
    after = plan_of(world)
    assert after.digest != before.digest
    assert after.training_content_digest != before.training_content_digest


def test_a_single_voxel_by_a_single_unit_changes_the_digest(world):
    before = plan_of(world)
    path = world[0] / "data" / f"{training_rows(world[1], FOLD)['case_id'][0]}.nii.gz"
    image = nifti.read(path)
    array = image.array.copy()
    array[0, 0, 0] += 1
    nifti.write(path, Volume(array, image.grid))
    assert plan_of(world).digest != before.digest


def test_label_and_header_of_a_training_patient_change_the_plan(world):
    before = plan_of(world)
    _, manifest, headers = world
    is_first = pl.col("case_id") == training_rows(manifest, FOLD)["case_id"][0]
    changed = manifest.with_columns(stage=pl.when(is_first).then(pl.lit("IV")).otherwise("stage"))
    scanned = headers.with_columns(kernel=pl.when(is_first).then(pl.lit("other")).otherwise("kernel"))
    assert plan_of(world, manifest=changed).digest != before.digest
    assert plan_of(world, headers=scanned).digest != before.digest


def test_a_patient_less_changes_both_digests(world):
    before = plan_of(world)
    first = training_rows(world[1], FOLD)["case_id"][0]
    after = plan_of(world, manifest=world[1].filter(pl.col("case_id") != first))
    assert after.digest != before.digest
    assert after.training_patients_digest != before.training_patients_digest


def test_settings_change_the_plan(world):
    assert plan_of(world, settings=PlanSettings(spacing=(2, 2, 2))).digest != plan_of(world).digest


def test_the_plan_of_all_training_patients_knows_nothing_of_the_test(world):
    before = plan_of(world, "final")
    for case in world[1].filter(pl.col("split") == "test")["case_id"]:
        spoil(world[0] / "data", case, "voxels")
    assert plan_of(world, "final", name="another") == before


def test_rows_in_another_order_give_the_same_plan(world):
    shuffled = world[1][np.random.default_rng(0).permutation(world[1].height).tolist()]
    assert plan_of(world, manifest=shuffled) == plan_of(world)

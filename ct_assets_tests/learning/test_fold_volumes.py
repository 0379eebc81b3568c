"""A fold's volumes: made once for each content and geometry, shared by folds, remade where damaged."""

import numpy as np
import polars as pl
import pytest

from ct_assets import tables
from ct_assets.imaging import nifti
from ct_assets.imaging.store import Store
from ct_assets.learning.volumes import fold_volumes
from ct_assets.learning.volumes.plan import build_plan
from ct_assets.settings.folds import PlanSettings
from ct_assets.tables.folds import FoldVolumes
from ct_assets_tests.learning.volumes import cohort, write_case

FIXED = PlanSettings(spacing=(2.0, 2.0, 2.5), crop="none")


@pytest.fixture
def world(tmp_path):
    return tmp_path, cohort(tmp_path)


def built(world, fold="0", settings=FIXED, workers=1):
    folder, manifest = world
    plan = build_plan(manifest, fold, folder, folder / "store", settings, workers)
    return plan, fold_volumes.build(manifest, fold, plan, folder, folder / "store", workers)


def test_training_and_validation_have_rows_and_the_test_set_has_none(world):
    _, volumes = built(world)
    manifest = world[1]
    validated = manifest.filter((pl.col("split") == "train") & (pl.col("fold") == 0))["case_id"].to_list()
    assert volumes.filter(pl.col("role") == "validation")["case_id"].to_list() == validated
    assert set(volumes["case_id"]) == set(manifest.filter(pl.col("split") == "train")["case_id"])


def test_the_table_fits_its_schema(world, tmp_path):
    _, volumes = built(world)
    tables.write_table(tmp_path / "volumes.parquet", volumes, FoldVolumes)


def test_stored_volumes_have_the_plan_s_spacing_in_int16_hu(world):
    plan, volumes = built(world)
    entry = Store(world[0] / "store").open(volumes["image_key"][0])
    assert entry.grid.spacing_mm == pytest.approx(plan.target_spacing_mm, rel=1e-3)
    assert entry.array().dtype == np.int16


def test_image_and_mask_lie_on_the_same_grid(world):
    _, volumes = built(world)
    store = Store(world[0] / "store")
    for row in volumes.iter_rows(named=True):
        assert store.open(row["image_key"]).grid.same_as(store.open(row["label_key"]).grid)
        assert row["foreground_voxels"] == np.count_nonzero(store.open(row["label_key"]).array())


def test_folds_that_share_a_spacing_share_their_volumes(world):
    _, first = built(world, "0")
    entries = len(Store(world[0] / "store").all_keys())
    _, second = built(world, "1")
    assert first["image_key"].to_list() == second["image_key"].to_list()
    assert len(Store(world[0] / "store").all_keys()) == entries


def test_a_second_run_makes_nothing(world, monkeypatch):
    built(world)
    monkeypatch.setattr(fold_volumes, "_make", lambda *_, **__: pytest.fail("made again"))
    built(world)


def test_another_spacing_crop_or_order_is_another_volume(world):
    keys = set()
    for change in ({}, {"spacing": (2.0, 2.0, 3.0)}, {"crop": "body"}, {"image_order": 1}):
        settings = FIXED.model_copy(update=change)
        keys.add(built(world, settings=settings)[1]["image_key"][0])
    assert len(keys) == 4


def test_a_damaged_entry_is_remade(world):
    _, volumes = built(world)
    store = Store(world[0] / "store")
    path = store.path(volumes["image_key"][0])
    before = path.read_bytes()
    content = bytearray(before)
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    built(world)
    assert path.read_bytes() == before


def test_the_number_of_workers_changes_no_byte(world):
    built(world)
    store = Store(world[0] / "store")
    before = {key: store.path(key).read_bytes() for key in store.all_keys()}
    store.remove(store.all_keys())
    built(world, workers=2)
    assert {key: store.path(key).read_bytes() for key in store.all_keys()} == before


def test_a_case_without_a_mask_is_there_without_one(world):
    folder, manifest = world
    write_case(folder, "case_0000", seed=0, with_label=False)
    without = manifest.with_columns(
        label=pl.when(pl.col("case_id") == "case_0000").then(None).otherwise("label")
    )
    _, volumes = built((folder, without))
    row = volumes.filter(pl.col("case_id") == "case_0000").row(0, named=True)
    assert (row["label_key"], row["label"], row["foreground_voxels"]) == (None, None, 0)


def test_an_unusable_case_has_no_row(world):
    folder, _ = world
    (folder / "case_0001.nii.gz").write_bytes(b"broken")
    plan, volumes = built(world)
    assert "case_0001" not in volumes["case_id"]
    assert "training_case_left_out" in plan.warnings


def test_what_no_table_names_is_freed_and_the_rest_stays(world, tmp_path):
    folder = world[0]
    _, volumes = built(world)
    built(world, settings=PlanSettings(spacing=(3.0, 3.0, 3.0)))
    tables.write_table(folder / "folds" / "0" / "volumes.parquet", volumes, FoldVolumes)
    count, size = fold_volumes.free_unnamed(folder / "store", [folder / "folds" / "0"], remove=False)
    freed = fold_volumes.free_unnamed(folder / "store", [folder / "folds" / "0"])
    assert freed == (count, size)
    assert count == volumes.height * 2
    left = set(Store(folder / "store").all_keys())
    assert left == set(volumes["image_key"]) | set(volumes["label_key"])


def test_a_body_crop_keeps_the_lesion_and_drops_the_air(world):
    folder = world[0]
    for name, air in (("case_0000.nii.gz", -1000), ("case_0000_mask.nii.gz", 0)):
        volume = nifti.read(folder / name)
        array = np.pad(volume.array, ((0, 0), (15, 15), (15, 15)), constant_values=air)
        nifti.write(
            folder / name, type(volume)(array, type(volume.grid)(array.shape, volume.grid.affine_lps))
        )
    whole = built(world)[1].row(0, named=True)
    cropped = built(world, settings=FIXED.model_copy(update={"crop": "body", "crop_margin_mm": 5}))[1]
    kept = cropped.row(0, named=True)
    assert kept["foreground_voxels"] == pytest.approx(whole["foreground_voxels"], rel=0.1)
    assert np.prod(kept["shape_kji"]) < 0.6 * np.prod(whole["shape_kji"])


def test_stored_axes_do_not_matter(world):
    """The same patient stored with other axes gives the same stored volume, voxel for voxel."""
    folder, manifest = world
    _, before = built(world)
    store = Store(folder / "store")
    one = store.open(before["image_key"][0]).array()
    for name in ("case_0000.nii.gz", "case_0000_mask.nii.gz"):
        volume = nifti.read(folder / name)
        flip = np.array([[1, 0, 0, 0], [0, -1, 0, volume.grid.shape[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        grid = type(volume.grid)(volume.grid.shape, volume.grid.affine_lps @ flip)
        nifti.write(folder / name, type(volume)(volume.array[:, ::-1], grid))
    _, after = built((folder, manifest))
    assert (store.open(after["image_key"][0]).array() == one).all()

"""Crops of pairs and what is measured in them, against the phantom's truth."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from ct_assets.errors import UsageError
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.systems.longitudinal import measure, nodule_pairs, patch_store
from ct_assets_tests.systems.longitudinal.conftest import SETTINGS


def test_every_pair_of_the_tables_has_two_crops(cohort):
    pairs = sum(len(one.nodules) * (len(one.exams) - 1) for one in cohort.patients)
    crops = patch_store.read(cohort.patches)
    assert (cohort.cut.pairs, cohort.cut.unusable, len(crops.rows)) == (pairs, 0, pairs)
    assert crops.earlier.shape == crops.later.shape == (pairs, 12, 12, 12)


def test_splits_are_of_patients(cohort):
    by_split = {
        name: {row["pid"] for row in patch_store.read(cohort.patches, name).rows}
        for name in ("train", "val", "test")
    }
    assert by_split == {
        name: {one.pid for one in cohort.patients if one.split == name} for name in ("train", "val", "test")
    }


def test_growth_in_registered_crops_is_the_truth_within_a_tenth(cohort):
    crops = patch_store.read(cohort.patches)
    for row, earlier, later in zip(crops.rows, crops.earlier, crops.later, strict=True):
        contrast = measure.contrast_of(earlier, row["box_a"], SETTINGS.spacing_mm, row["volume_a"])
        assert measure.measure(
            earlier, row["box_a"], SETTINGS.spacing_mm, contrast
        ).volume_mm3 == pytest.approx(row["volume_a"])
        measured = measure.measure(later, row["box_a"], SETTINGS.spacing_mm, contrast)
        limit = 0.45 if row["nodule_type"] == "erratic" else 0.13
        assert measured.volume_mm3 == pytest.approx(row["volume_b"], rel=limit)


def test_a_second_run_cuts_nothing(cohort, tmp_path):
    shutil.copytree(cohort.patches, tmp_path / "patches")
    again = patch_store.write(
        cohort.root / "tables", cohort.root / "registrations", cohort.root / "phantom/tracking.parquet",
        cohort.root / "phantom/images", tmp_path / "patches", SETTINGS,
    )  # fmt: skip
    assert (again.pairs, again.cut_now) == (cohort.cut.pairs, 0)


def test_the_exam_before_and_skipped_timepoints_go_with_a_pair(cohort):
    for row in patch_store.read(cohort.patches).rows:
        exams = {
            exam.timepoint: exam.days
            for one in cohort.patients
            if one.pid == row["pid"]
            for exam in one.exams
        }
        a, b = row["exam_idx_a"], row["exam_idx_b"]
        assert row["delta_days"] == exams[b] - exams[a]
        assert row["timepoints_skipped"] == b - a - 1
        assert row["days_before"] == (exams[1] - exams[0] if a == 1 else None)


def test_a_crop_is_read_through_the_transform_and_is_air_beyond_the_image():
    _, j, i = np.indices((20, 20, 20))
    volume = Volume((i + 100 * j).astype(np.int16), Grid.of((20, 20, 20), (1.0, 1.0, 1.0)))
    matrix = np.eye(4)
    matrix[:3, 3] = 3.0, 0.0, 0.0  # the fixed point (x, y, z) is the exam's (x + 3, y, z)
    settings = SETTINGS.model_copy(update={"shape": (4, 4, 4), "spacing_mm": (1.0, 1.0, 1.0)})
    crop = patch_store.crop(volume, matrix, patch_store.grid_at((2, 5, 15), settings))
    assert crop.array[0, 0].tolist() == [518, 519, -1000, -1000]


def test_pairs_without_what_they_need_are_listed(cohort):
    read = {
        name: pl.read_parquet(cohort.root / path).to_dicts()
        for name, path in (
            ("pairs", "tables/paired_nodules.parquet"),
            ("exams", "tables/single_timepoints.parquet"),
            ("registrations", "registrations/registrations.parquet"),
            ("tracked", "phantom/tracking.parquet"),
        )
    }
    for row in read["registrations"]:
        row["status"] = "poor" if row["status"] == "ok" else row["status"]
    read["pairs"][0]["delta_days"] = None
    for row in read["tracked"]:
        row["coords"] = None
    joined = nodule_pairs.join(read["pairs"], read["exams"], read["registrations"], read["tracked"])
    assert joined.usable == []
    assert joined.unusable[0]["reasons"] == ["interval_unknown", "pair_not_registered", "pair_without_box"]


def test_a_damaged_crop_is_named(cohort, tmp_path):
    shutil.copytree(cohort.patches, tmp_path / "patches")
    key = patch_store.read(tmp_path / "patches").rows[0]["key_a"]
    next((tmp_path / "patches").rglob(f"{key}.b2nd")).write_bytes(b"nothing")
    with pytest.raises(UsageError, match=key):
        patch_store.read(tmp_path / "patches")


def test_the_settings_of_crops_lie_beside_them(cohort):
    assert json.loads((cohort.patches / "patches.json").read_text())["mode"] == "common"


class TestMeasure:
    CONTRAST = measure.Contrast(-860.0, 40.0)

    def ball(self, radius, centre=(6.0, 6.0, 6.0)):
        """A ball of 40 HU in lung with exact partial volume: the mean of 8 x 8 x 8 points a voxel."""
        fine = (np.arange(104) + 0.5) / 8 - 0.5
        k, j, i = np.meshgrid(fine, fine, fine, indexing="ij")
        inside = np.sqrt((k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2) * 2 < radius
        share = inside.reshape(13, 8, 13, 8, 13, 8).mean(axis=(1, 3, 5))
        return -860 + 900 * share

    def test_partial_volume_counts_by_its_share(self):
        for radius in (2.5, 4.0, 6.0):
            measured = measure.measure(self.ball(radius), [5, 5, 5, 7, 7, 7], (2.0, 2.0, 2.0), self.CONTRAST)
            assert measured.volume_mm3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)

    def test_what_it_touches_outside_the_widened_box_does_not_count(self):
        crop = self.ball(4.0)
        crop[:, 6, 8:] = 40.0  # a vessel to the edge
        measured = measure.measure(crop, [4, 4, 4, 8, 8, 8], (2.0, 2.0, 2.0), self.CONTRAST)
        assert (
            measured.volume_mm3
            < measure.measure(crop, [0, 0, 0, 12, 12, 12], (2.0, 2.0, 2.0), self.CONTRAST).volume_mm3
        )

    def test_an_empty_crop_has_no_nodule(self):
        assert (
            measure.measure(np.full((9, 9, 9), -860.0), [3, 3, 3, 5, 5, 5], (2.0, 2.0, 2.0), self.CONTRAST)
            is None
        )

    def test_a_nodule_elsewhere_is_not_it(self):
        crop = self.ball(2.5, centre=(1.0, 1.0, 1.0))
        assert measure.measure(crop, [9, 9, 9, 11, 11, 11], (2.0, 2.0, 2.0), self.CONTRAST) is None

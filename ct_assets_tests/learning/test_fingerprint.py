"""Fingerprints: exact figures, one pass a case, a merge that is the sum of its cases, faults as rows."""

import nibabel
import numpy as np
import polars as pl
import pytest

from ct_assets.imaging import nifti, nifti_read
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.volumes import fingerprint
from ct_assets.learning.volumes.fingerprint import Histogram
from ct_assets_tests.learning.volumes import chest, cohort, write_case


def checked(folder, **changes):
    write_case(folder, "case", seed=1)
    row = {
        "case_id": "case",
        "patient_id": "p",
        "image": "case.nii.gz",
        "label": "case_mask.nii.gz",
    } | changes
    return fingerprint.check(pl.DataFrame([row]), folder, folder / "store", workers=1)[0]


class TestHistogram:
    @pytest.fixture
    def values(self):
        return np.random.default_rng(0).normal(-200, 300, 10_001).astype(np.int16)

    @pytest.mark.parametrize("percent", [0, 0.5, 25, 50, 99.5, 100])
    def test_percentiles_are_those_of_all_voxels(self, values, percent):
        assert Histogram.of(values).percentile(percent) == pytest.approx(np.percentile(values, percent))

    def test_mean_and_deviation_are_exact(self, values):
        counted = Histogram.of(values)
        assert counted.mean() == pytest.approx(values.mean(dtype=np.float64))
        assert counted.std() == pytest.approx(values.std(dtype=np.float64))

    def test_a_sum_of_histograms_is_the_histogram_of_all(self, values):
        other = (values // 3 + 900).astype(np.int16)
        both = Histogram.of(values).plus(Histogram.of(other))
        assert both.percentile(37) == pytest.approx(np.percentile(np.concatenate([values, other]), 37))

    def test_the_ends_of_16_bits_are_counted(self):
        counted = Histogram.of(np.array([-32768, 32767, 0], np.int16))
        assert (counted.low, counted.high, counted.total) == (-32768, 32767, 3)


class TestOneCase:
    def test_figures_of_image_and_mask_are_exact(self, tmp_path):
        image, mask = chest(1)
        found = checked(tmp_path).fingerprint
        assert found.image.mean() == pytest.approx(image.mean(dtype=np.float64))
        assert found.foreground.percentile(99.5) == pytest.approx(np.percentile(image[mask > 0], 99.5))
        assert found.label_voxels == {"1": int(mask.sum())}
        assert found.label_parts == 1
        assert found.spacing_mm == (1.5, 1.5, 3.0)

    def test_what_is_cached_is_not_read_again(self, tmp_path, monkeypatch):
        first = checked(tmp_path)
        monkeypatch.setattr(nifti_read, "read", lambda path: pytest.fail("read again"))
        row = {"case_id": "case", "patient_id": "p", "image": "case.nii.gz", "label": "case_mask.nii.gz"}
        again = fingerprint.check(pl.DataFrame([row]), tmp_path, tmp_path / "store", workers=1)[0]
        assert again.fingerprint.to_json() == first.fingerprint.to_json()

    def test_a_changed_voxel_is_noticed_although_name_and_size_are_the_same(self, tmp_path):
        before = checked(tmp_path).fingerprint
        image, _ = chest(1)
        image[3, 4, 5] += 1
        nifti.write(
            tmp_path / "case.nii.gz", Volume(image, Grid.of(image.shape, (1.5, 1.5, 3.0), (-30, -30, 10)))
        )
        row = {"case_id": "case", "patient_id": "p", "image": "case.nii.gz", "label": "case_mask.nii.gz"}
        after = fingerprint.check(pl.DataFrame([row]), tmp_path, tmp_path / "store", workers=1)[0].fingerprint
        assert after.pixel_digest != before.pixel_digest

    def test_the_pixel_digest_does_not_depend_on_compression(self, tmp_path):
        before = checked(tmp_path).fingerprint
        volume = nifti.read(tmp_path / "case.nii.gz")
        nifti.write(tmp_path / "plain.nii", volume)
        after = checked(tmp_path, image="plain.nii").fingerprint
        assert after.image_digest != before.image_digest
        assert after.pixel_digest == before.pixel_digest

    def test_stored_axes_are_told_and_spacing_follows_the_patient(self, tmp_path):
        affine = np.array([[0, 0, 3.0, 0], [-1.5, 0, 0, 0], [0, 1.2, 0, 0], [0, 0, 0, 1]])
        volume = Volume(np.arange(210, dtype=np.int16).reshape(5, 6, 7) * 5 - 500, Grid((5, 6, 7), affine))
        nifti.write(tmp_path / "turned.nii.gz", volume)
        found = checked(tmp_path, image="turned.nii.gz", label=None).fingerprint
        assert found.axes == "ASL"
        assert found.spacing_mm == (3.0, 1.5, 1.2)
        assert found.shape == (6, 7, 5)


class TestFaults:
    def test_a_missing_image(self, tmp_path):
        assert checked(tmp_path, image="nowhere.nii.gz").fault[0] == "image_missing"

    def test_an_unreadable_image(self, tmp_path):
        (tmp_path / "broken.nii.gz").write_bytes(b"no gzip at all")
        assert checked(tmp_path, image="broken.nii.gz").fault[0] == "image_unreadable"

    def test_an_image_that_was_cut_off(self, tmp_path):
        write_case(tmp_path, "whole", seed=2)
        (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "whole.nii.gz").read_bytes()[:2000])
        assert checked(tmp_path, image="cut.nii.gz").fault[0] == "image_unreadable"

    def test_a_four_dimensional_image(self, tmp_path):
        nibabel.save(
            nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), tmp_path / "four.nii.gz"
        )
        assert checked(tmp_path, image="four.nii.gz").fault[0] == "image_unreadable"

    def test_a_mask_on_another_grid(self, tmp_path):
        nifti.write(
            tmp_path / "shifted.nii.gz",
            Volume(chest(1)[1], Grid.of((20, 40, 44), (1.5, 1.5, 3.0), (-30.0, -30.0, 13.0))),
        )
        assert checked(tmp_path, label="shifted.nii.gz").fault[0] == "label_grid_mismatch"

    def test_a_mask_of_fractions(self, tmp_path):
        grid = Grid.of((20, 40, 44), (1.5, 1.5, 3.0), (-30.0, -30.0, 10.0))
        nifti.write(tmp_path / "half.nii.gz", Volume(chest(1)[1] * np.float32(0.5), grid))
        assert checked(tmp_path, label="half.nii.gz").fault[0] == "label_not_integer"

    def test_an_image_with_nan(self, tmp_path):
        array = np.zeros((5, 5, 5), np.float32)
        array[0, 0, 0] = np.nan
        nifti.write(tmp_path / "nan.nii.gz", Volume(array, Grid.of((5, 5, 5), (1, 1, 1))))
        assert checked(tmp_path, image="nan.nii.gz", label=None).fault[0] == "image_not_finite"

    def test_an_empty_mask_is_a_warning(self, tmp_path):
        grid = Grid.of((20, 40, 44), (1.5, 1.5, 3.0), (-30.0, -30.0, 10.0))
        nifti.write(tmp_path / "empty.nii.gz", Volume(np.zeros((20, 40, 44), np.uint8), grid))
        assert checked(tmp_path, label="empty.nii.gz").fingerprint.warnings == ("label_empty",)


def written(folder, name, array):
    """A file of an array (i, j, k) on the grid of `write_case`."""
    image = nibabel.load(folder / "case.nii.gz")
    nibabel.save(nibabel.Nifti1Image(array, image.affine, dtype=array.dtype), folder / name)
    return name


class TestValues:
    """Images that are no CT in HU, and headers that contradict themselves: the rules of `predict`."""

    @pytest.fixture
    def hu(self):
        return chest(1)[0].transpose(2, 1, 0)

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            (np.zeros_like, "image_constant"),
            (lambda hu: (hu > 0).astype(np.uint8), "image_normalised"),
            (lambda hu: ((hu + 1000.0) / 2000).astype(np.float32), "image_normalised"),
        ],
    )
    def test_values_that_cannot_be_hu_are_a_fault(self, tmp_path, hu, change, code):
        write_case(tmp_path, "case", seed=1)
        assert checked(tmp_path, image=written(tmp_path, "odd.nii.gz", change(hu))).fault[0] == code

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            (lambda hu: ((hu + 1100.0) / 16).clip(0, 255).astype(np.uint8), "values_of_8_bits"),
            (lambda hu: (hu.astype(int) + 1024).clip(0).astype(np.uint16), "no_air_in_ct"),
        ],
    )
    def test_values_that_may_not_be_hu_are_a_warning(self, tmp_path, hu, change, code):
        write_case(tmp_path, "case", seed=1)
        found = checked(tmp_path, image=written(tmp_path, "odd.nii.gz", change(hu)))
        assert found.fingerprint.warnings == (code,)

    def test_a_mask_of_the_whole_image_is_a_warning(self, tmp_path, hu):
        write_case(tmp_path, "case", seed=1)
        label = written(tmp_path, "all.nii.gz", np.ones(hu.shape, np.uint8))
        assert checked(tmp_path, label=label).fingerprint.warnings == ("label_everywhere",)

    def test_labels_almost_whole_are_rounded_with_a_warning(self, tmp_path, hu):
        write_case(tmp_path, "case", seed=1)
        mask = chest(1)[1].transpose(2, 1, 0)
        label = written(tmp_path, "scaled.nii.gz", mask * np.float32(0.9999))
        found = checked(tmp_path, label=label).fingerprint
        assert found.warnings == ("label_rounded",)
        assert found.label_voxels == {"1": int(mask.sum())}

    def test_a_header_without_forms_is_a_warning(self, tmp_path, hu):
        write_case(tmp_path, "case", seed=1)
        nibabel.save(nibabel.Nifti1Image(hu, None), tmp_path / "no.nii.gz")
        assert checked(tmp_path, image="no.nii.gz", label=None).fingerprint.warnings == (
            "nifti_orientation_unknown",
        )


def test_a_merge_does_not_depend_on_the_order_or_number_of_workers(tmp_path):
    manifest = cohort(tmp_path)
    one = fingerprint.check(manifest, tmp_path, tmp_path / "one", workers=1)
    two = fingerprint.check(manifest[::-1], tmp_path, tmp_path / "two", workers=2)
    merged = [fingerprint.merge([case.fingerprint for case in found]).summary() for found in (one, two[::-1])]
    assert merged[0] == merged[1]

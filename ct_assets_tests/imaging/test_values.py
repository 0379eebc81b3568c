"""Values without DICOM headers: certainly no HU is refused by name, not proven is a warning, HU says nothing."""

import numpy as np
import pytest

from ct_assets import reasons
from ct_assets.imaging import nifti, values
from ct_assets.imaging.nifti_read import NiftiRefused
from ct_assets.imaging.volume import Grid, Volume

RANDOM = np.random.default_rng(5)
HU = RANDOM.integers(-1000, 1500, (4, 8, 8)).astype(np.int16)


def volume(array):
    return Volume(np.asarray(array), Grid.of(np.shape(array), (0.8, 0.8, 2.0)))


def warnings_of(array, **options):
    found = values.as_hu(volume(array), **options)[1]
    for code in found:
        reasons.reason(code)
    return found


@pytest.mark.parametrize("array", [HU, HU.astype(np.float32), HU + 0.25, HU * 10.0, np.clip(HU, -1000, 100)])
def test_an_image_with_air_is_hu(array):
    assert warnings_of(array) == ()


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((4, 8, 8), np.int16), "image_constant"),
        (np.full((4, 8, 8), -1000), "image_constant"),
        ((HU + 1024) / 4096, "image_normalised"),
        (HU / 1500, "image_normalised"),
        ((HU - HU.mean()) / HU.std(), "image_normalised"),
        (np.where(HU < 0, np.nan, HU), "image_not_finite"),
        (np.full((4, 8, 8), np.inf), "image_not_finite"),
    ],
)
def test_what_is_no_hu_for_certain_is_refused(array, code):
    with pytest.raises(NiftiRefused, match=code):
        values.as_hu(volume(array))
    reasons.reason(code)


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.clip((HU + 200) / 2, 0, 255).astype(np.uint8), "values_of_8_bits"),
        (np.clip((HU + 200) / 2.0, 0, 255), "values_of_8_bits"),
        (HU + 1024, "no_air_in_ct"),
        (HU.astype(np.int32) + 32768, "no_air_in_ct"),
        (np.clip(HU, -150, 300), "no_air_in_ct"),
    ],
)
def test_what_may_be_no_hu_is_a_warning(array, code):
    assert warnings_of(array) == (code,)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_number_become_air_where_asked(odd):
    array = HU.astype(np.float32)
    array[0, 0, 0] = odd
    cleaned, warnings = values.as_hu(volume(array), not_finite="air")
    assert cleaned.array[0, 0, 0] == -1000
    np.testing.assert_array_equal(cleaned.array[1:], HU[1:])
    assert warnings == ("non_finite_voxels",)
    with pytest.raises(NiftiRefused, match="image_not_finite"):
        values.as_hu(volume(np.full((4, 8, 8), odd)), not_finite="air")


def test_a_file_is_read_with_the_warnings_of_header_and_values(tmp_path):
    nifti.write(tmp_path / "a.nii", volume(HU + 1024))
    assert values.read_ct(tmp_path / "a.nii").warnings == ("no_air_in_ct",)
    nifti.write(tmp_path / "b.nii", volume(HU[:1]))
    with pytest.raises(NiftiRefused, match="single_slice"):
        values.read_ct(tmp_path / "b.nii")


class TestLabels:
    @pytest.mark.parametrize("share", [1.0, 1 + 5e-8])
    def test_whole_numbers_stay(self, share):
        array, warnings = values.as_labels(np.arange(256.0).reshape(4, 8, 8) * share)
        assert array.dtype == np.uint8
        assert warnings == (() if share == 1.0 else warnings)
        np.testing.assert_array_equal(array.ravel(), np.arange(256))

    def test_nearly_whole_numbers_are_rounded_with_a_warning(self):
        array, warnings = values.as_labels(np.array([[[0, 0.99996, 2.0009]]]))
        assert (array.ravel().tolist(), warnings) == ([0, 1, 2], ("label_rounded",))

    @pytest.mark.parametrize("value", [0.5, 1.002, np.nan, np.inf])
    def test_fractions_are_refused(self, value):
        with pytest.raises(NiftiRefused, match="label_not_integer"):
            values.as_labels(np.array([[[0, value]]]))

    @pytest.mark.parametrize("value", [-1, 256])
    def test_values_beyond_a_byte_are_refused(self, value):
        with pytest.raises(NiftiRefused, match="label_out_of_range"):
            values.as_labels(np.array([[[0, value]]]))

    def test_a_file_is_read_as_the_labels_that_its_scaled_values_mean(self, tmp_path):
        path = tmp_path / "label.nii.gz"
        stored = np.zeros((3, 4, 5), np.float32)
        stored[1, 1, 1], stored[2, 2, 2] = 0.9999, 0.0001
        nifti.write(path, volume(stored))
        image = values.read_labels(path)
        assert image.volume.array.dtype == np.uint8
        assert np.argwhere(image.volume.array).tolist() == [[1, 1, 1]]
        assert image.warnings == ("label_rounded",)

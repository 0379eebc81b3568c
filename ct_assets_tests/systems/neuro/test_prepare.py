"""Windows, MR scaling, background and view, worked out by hand."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_assets.neuro import TinyEncoder, load_image, prepare_for_inference
from ct_assets.settings.neuro import PreprocessingSettings


def image_of(array_kji, spacing=(1.0, 1.0, 4.0)) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.asarray(array_kji, dtype=np.float32))
    image.SetSpacing(spacing)
    return image


class TestCtWindows:
    @pytest.mark.parametrize(
        ("hu", "brain", "blood", "bone"),
        [
            (-1000, 0, 0, 0),
            (0, 0, 20 / 200, 800 / 2800),
            (40, 0.5, 60 / 200, 840 / 2800),
            (80, 1, 0.5, 880 / 2800),
            (180, 1, 1, 980 / 2800),
            (600, 1, 1, 0.5),
            (3000, 1, 1, 1),
        ],
    )
    def test_brain_80_40_blood_200_80_bone_2800_600(self, hu, brain, blood, bone):
        images, _, _ = prepare_for_inference(image_of(np.full((4, 16, 16), hu)), "ct")
        assert [round(float(one.mean()), 5) for one in images] == [
            round(value, 5) for value in (brain, blood, bone)
        ]

    def test_background_is_at_or_below_minus_500(self):
        array = np.full((4, 16, 16), 40.0)
        array[0, 0, :3] = (-499, -500, -501)
        _, mask, _ = prepare_for_inference(image_of(array), "ct")
        assert mask[0, 0, 0, :4].tolist() == [0, 1, 1, 0]
        assert int(mask.sum()) == 2

    def test_holes_are_filled_only_where_asked(self):
        array = np.full((12, 32, 32), -1000.0)
        array[2:-2, 4:-4, 4:-4] = 40
        array[5:7, 14:18, 14:18] = -1000  # a sinus
        _, plain, _ = prepare_for_inference(image_of(array), "ct")
        _, filled, _ = prepare_for_inference(
            image_of(array), "ct", settings=PreprocessingSettings(fill_holes=True)
        )
        assert plain[0, 6, 15, 15] == 1
        assert filled[0, 6, 15, 15] == 0
        assert filled[0, 0, 0, 0] == 1


class TestMr:
    def test_clipped_to_half_percent_at_each_end_then_scaled_to_0_and_1(self):
        array = np.arange(4 * 16 * 16, dtype=np.float32).reshape(4, 16, 16)  # 0 to 1023
        (image,), _, _ = prepare_for_inference(image_of(array), "mri")
        low, high = 0.005 * 1023, 0.995 * 1023
        expected = np.clip((array - low) / (high - low), 0, 1)
        np.testing.assert_allclose(image[0].numpy(), expected, atol=1e-5)

    def test_background_is_at_or_below_the_tenth_percentile(self):
        array = np.arange(4 * 16 * 16, dtype=np.float32).reshape(4, 16, 16)
        _, mask, _ = prepare_for_inference(image_of(array), "mri")
        assert int(mask.sum()) == 103  # 0 to 102 lie below 0.1 x 1023 = 102.3

    def test_a_constant_image_gives_zeros(self):
        (image,), mask, _ = prepare_for_inference(image_of(np.full((4, 16, 16), 7.0)), "mri")
        assert float(image.abs().max()) == 0.0
        assert int(mask.min()) == 1

    @settings(deadline=None)
    @given(st.floats(-1e4, 1e4), st.floats(0.01, 1e3))
    def test_brightness_and_contrast_of_the_scanner_change_nothing(self, offset, gain):
        array = np.random.default_rng(3).normal(size=(4, 16, 16))
        (reference,), _, _ = prepare_for_inference(image_of(array), "mri")
        (image,), _, _ = prepare_for_inference(image_of(array * gain + offset * gain), "mri")
        # float32 keeps 24 bits of the offset.
        np.testing.assert_allclose(image, reference, atol=1e-3 + abs(offset) * 2**-21)


class TestShapesAndView:
    @pytest.mark.parametrize(("z_dim", "view"), [(0, 2), (1, 1), (2, 0)])
    def test_the_slice_axis_is_moved_to_the_front_and_named_as_array_axis(self, z_dim, view):
        spacing = [1.0, 1.0, 1.0]
        spacing[z_dim] = 4.0
        array = np.random.default_rng(0).normal(size=(32, 48, 64))
        images, mask, found = prepare_for_inference(image_of(array, spacing), "mri")
        assert found == view
        moved = np.moveaxis(array, view, 0)
        assert tuple(images[0].shape) == (1, *moved.shape)
        assert mask.shape == images[0].shape
        np.testing.assert_array_equal(
            mask[0].numpy(), moved.astype(np.float32) <= np.percentile(array.astype(np.float32), 10)
        )

    def test_a_given_slice_axis_holds_against_the_spacing(self):
        _, _, view = prepare_for_inference(image_of(np.zeros((32, 32, 32))), "ct", z_dim=0)
        assert view == 2

    @pytest.mark.parametrize("shape", [(3, 16, 16), (4, 15, 16), (4, 16, 15)])
    def test_smaller_than_a_token_is_none(self, shape):
        assert prepare_for_inference(image_of(np.zeros(shape)), "ct", z_dim=2) is None

    def test_the_smallest_image_is_one_token(self):
        assert prepare_for_inference(image_of(np.zeros((4, 16, 16))), "ct") is not None

    @pytest.mark.parametrize("mode", ["pet", "", "mr", None])
    def test_another_mode_raises(self, mode):
        with pytest.raises(ValueError, match="'ct' or 'mri'"):
            prepare_for_inference(image_of(np.zeros((4, 16, 16))), mode)

    def test_types_and_ranges(self):
        images, mask, view = prepare_for_inference(
            image_of(np.random.default_rng(0).normal(0, 500, (8, 32, 32))), "CT"
        )
        assert len(images) == 3
        assert all(one.dtype == torch.float32 for one in images)
        assert all(0 <= float(one.min()) <= float(one.max()) <= 1 for one in images)
        assert mask.dtype == torch.uint8
        assert set(mask.unique().tolist()) <= {0, 1}
        assert isinstance(view, int)

    def test_the_image_given_is_left_as_it_was(self):
        image = image_of(np.random.default_rng(0).normal(0, 500, (8, 32, 32)))
        before = SimpleITK.GetArrayFromImage(image)
        prepare_for_inference(image, "mri")
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), before)


def test_inference_needs_no_setup(tmp_path):
    array = np.random.default_rng(0).normal(300, 50, (40, 50, 20)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 4.0, 1.0])), tmp_path / "scan.nii.gz")
    model = TinyEncoder()
    img_arrs, _, _ = prepare_for_inference(load_image(tmp_path / "scan.nii.gz"), mode="mri")
    output = model(img_arrs[0])
    assert output.shape == (1, 32)
    assert torch.equal(output, TinyEncoder()(img_arrs[0]))

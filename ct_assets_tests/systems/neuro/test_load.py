"""Loading: formats, order of steps, orientation, slice axis, resampling, and what is refused."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from ct_assets.neuro import ImageRefusedError, load_image
from ct_assets.systems.neuro.preprocess import slice_axis
from ct_assets_tests.systems.neuro.factories import box_head, dicom_series, nifti_file

RPI_DIRECTION = (-1, 0, 0, 0, 1, 0, 0, 0, -1)


class TestFormats:
    @pytest.mark.parametrize("name", ["head.nii", "head.nii.gz"])
    def test_nifti_is_read(self, tmp_path, name):
        image = load_image(nifti_file(tmp_path / name, box_head(), (1, 1, 4)))
        assert image.GetSize() == (48, 64, 40)

    def test_a_folder_of_dicom_is_read_whatever_the_names_of_its_files(self, tmp_path):
        for number, path in enumerate(dicom_series(tmp_path / "ct")):
            path.rename(path.with_name(f"IM{number * 7919 % 12}"))
        image = load_image(tmp_path / "ct", preprocess=False)
        assert image.GetSize() == (48, 40, 12)
        assert image.GetSpacing() == (1, 1, 4)
        values = SimpleITK.GetArrayFromImage(image)
        assert values.min() == -1000
        assert values.max() == 40

    def test_one_dicom_file_is_one_slice(self, tmp_path):
        path = dicom_series(tmp_path / "ct")[3]
        image = load_image(path, preprocess=False)
        assert image.GetSize() == (48, 40, 1)
        assert "single_slice" in image.GetMetaData("ct_assets.warnings")

    @pytest.mark.parametrize("name", ["IM0003", "1.2.840.113619.2.55", "scan.img"])
    def test_a_dicom_file_is_known_by_its_beginning_whatever_its_name(self, tmp_path, name):
        path = dicom_series(tmp_path / "ct")[3].rename(tmp_path / name)
        assert load_image(path, preprocess=False).GetSize() == (48, 40, 1)

    def test_mr_slices_are_read_without_a_rescale(self, tmp_path):
        dicom_series(tmp_path / "mr", mode="mri", value=lambda k: 100 + k)
        values = SimpleITK.GetArrayFromImage(load_image(tmp_path / "mr", preprocess=False))
        assert values[:, 20, 20].tolist() == [100 + k for k in range(12)]

    def test_a_trailing_axis_of_one_is_no_fourth_dimension(self, tmp_path):
        image = load_image(nifti_file(tmp_path / "a.nii.gz", box_head()[..., None], (1, 1, 4, 1)[:3]))
        assert image.GetDimension() == 3


class TestRefusals:
    """A missing path raises FileNotFoundError; everything else ImageRefusedError with a registered code."""

    def test_a_missing_path_raises(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.nii\.gz"):
            load_image(tmp_path / "none.nii.gz")

    def refusal(self, path) -> str:
        with pytest.raises(ImageRefusedError) as refused:
            load_image(path)
        return refused.value.code

    def test_another_format(self, tmp_path):
        (tmp_path / "notes.txt").write_text("no image")
        assert self.refusal(tmp_path / "notes.txt") == "unsupported_format"

    def test_an_empty_folder(self, tmp_path):
        assert self.refusal(tmp_path) == "no_image_series"

    @pytest.mark.parametrize(
        "content",
        [b"", b"no gzip", gzip.compress(b"no NIfTI"), gzip.compress(bytes(348))],
        ids=["empty", "no gzip", "no NIfTI", "empty header"],
    )
    def test_a_damaged_file(self, tmp_path, content):
        (tmp_path / "a.nii.gz").write_bytes(content)
        assert self.refusal(tmp_path / "a.nii.gz") == "unreadable_image"

    def test_a_truncated_file(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)))
        path.write_bytes(path.read_bytes()[:-2000])
        assert self.refusal(path) == "unreadable_image"

    def test_a_damaged_dicom_file(self, tmp_path):
        (tmp_path / "a.dcm").write_bytes(b"no DICOM")
        assert self.refusal(tmp_path / "a.dcm") == "unreadable_image"

    def test_a_colour_nifti(self, tmp_path):
        rgb = np.zeros((8, 8, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii.gz")
        assert self.refusal(tmp_path / "rgb.nii.gz") == "not_monochrome"

    def test_a_colour_dicom_folder(self, tmp_path):
        dicom_series(tmp_path / "rgb", samples=3)
        assert self.refusal(tmp_path / "rgb") == "not_monochrome"

    def test_a_time_series(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii.gz", np.zeros((8, 8, 8, 3), dtype=np.int16))
        assert self.refusal(path) == "not_three_dimensional"

    def test_a_folder_of_two_series_takes_neither_silently(self, tmp_path):
        dicom_series(tmp_path / "ct", series_uid="1.2.3.4.5")
        dicom_series(tmp_path / "ct", series_uid="1.2.3.4.6")
        assert self.refusal(tmp_path / "ct") == "several_series"

    def test_an_image_of_nothing_but_nan(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii.gz", np.full((20, 20, 20), np.nan, dtype=np.float32))
        assert self.refusal(path) == "no_finite_voxels"

    @pytest.mark.parametrize("spacing", [1e-3, 1e3])
    def test_an_image_in_other_units_than_millimetres(self, tmp_path, spacing):
        path = nifti_file(tmp_path / "a.nii.gz", box_head((20, 20, 20), margin=2), (spacing,) * 3)
        assert self.refusal(path) == "implausible_extent"

    def test_another_mode_than_ct_and_mri(self, tmp_path):
        with pytest.raises(ValueError, match="'ct' or 'mri'"):
            load_image(nifti_file(tmp_path / "a.nii.gz", box_head()), mode="pet")

    def test_whatever_a_reader_raises_is_a_refusal(self, tmp_path, monkeypatch):
        def fails(*_, **__):
            raise RuntimeError("a value of the header")

        dicom_series(tmp_path / "ct")
        monkeypatch.setattr("ct_assets.systems.neuro.dicom_source.load_series", fails)
        assert self.refusal(tmp_path / "ct") == "unreadable_image"

    def test_a_missing_slice(self, tmp_path):
        dicom_series(tmp_path / "ct")[5].unlink()
        assert self.refusal(tmp_path / "ct") == "missing_slices"


class TestOddImages:
    def test_nan_becomes_the_smallest_value_and_is_told(self, tmp_path):
        array = box_head().astype(np.float32)
        array[0, 0, 0] = np.nan
        image = load_image(nifti_file(tmp_path / "a.nii.gz", array, (1, 1, 4)), preprocess=False)
        assert image.GetMetaData("ct_assets.warnings") == "non_finite_voxels"
        assert SimpleITK.GetArrayFromImage(image)[0, 0, 0] == -1000

    def test_a_tilted_ct_series_is_straightened_and_told(self, tmp_path):
        dicom_series(tmp_path / "ct", slices=10, shear_mm=1.0)
        image = load_image(tmp_path / "ct", preprocess=False)
        assert "gantry_tilt" in image.GetMetaData("ct_assets.warnings")
        # The square begins at row 8 of every slice, whose first row lies at y = -15 + k mm.
        for k in (0, 9):
            point = (0.0, -15.0 + k + 20, 4.0 * k)
            assert image[image.TransformPhysicalPointToIndex(point)] == 40

    def test_a_sheared_nifti_is_straightened_by_preprocessing_alone(self, tmp_path):
        affine = np.diag([1.0, 1.0, 4.0, 1.0])
        affine[1, 2] = 1.0
        path = nifti_file(tmp_path / "a.nii.gz", box_head(), affine_ras=affine)
        assert load_image(path).GetMetaData("ct_assets.warnings") == "sheared_grid"
        with pytest.raises(ImageRefusedError) as refused:
            load_image(path, preprocess=False)
        assert refused.value.code == "sheared_grid"


class TestOrientation:
    def test_rpi_has_the_direction_that_simpleitk_gives_it(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii.gz", box_head(), (1, 1, 4))
        assert load_image(path).GetDirection() == RPI_DIRECTION
        assert SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "RPI").GetDirection() == RPI_DIRECTION

    def test_every_axis_order_and_flip_gives_the_same_image(self, tmp_path):
        random = np.random.default_rng(1)
        array = random.integers(-1000, 1000, (32, 48, 8)).astype(np.int16)
        reference = SimpleITK.GetArrayFromImage(
            load_image(nifti_file(tmp_path / "ras.nii.gz", array, (1, 1, 4)))
        )
        image = nib.Nifti1Image(array, np.diag([1.0, 1, 4, 1]))
        for codes in ("LPS", "SRA", "PIR", "AIL"):
            turn = nib.orientations.ornt_transform(
                nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
            )
            nib.save(image.as_reoriented(turn), tmp_path / f"{codes}.nii.gz")
            turned = SimpleITK.GetArrayFromImage(load_image(tmp_path / f"{codes}.nii.gz"))
            np.testing.assert_array_equal(turned, reference)

    def test_an_oblique_image_keeps_its_own_axes(self, tmp_path):
        angle = np.deg2rad(12)
        turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        affine = np.eye(4)
        affine[:3, :3] = turn * (1, 1, 4)
        path = nifti_file(tmp_path / "a.nii.gz", box_head(), affine_ras=affine)
        expected = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "RPI").GetDirection()
        np.testing.assert_allclose(load_image(path).GetDirection(), expected, atol=1e-5)


class TestSliceAxis:
    @pytest.mark.parametrize(
        ("spacing", "size", "axis"),
        [
            ((1.0, 1.0, 1.0), (256, 256, 180), 2),  # all equal
            ((1.0, 1.0, 1.0), (180, 256, 256), 2),  # all equal, whatever the sizes
            ((0.5, 0.5, 5.0), (512, 512, 30), 2),
            ((5.0, 0.5, 0.5), (30, 512, 512), 0),
            ((0.5, 5.0, 0.5), (512, 30, 512), 1),
            ((1.0, 2.0, 4.0), (64, 64, 64), 2),  # cubic with unequal spacing
            ((4.0, 2.0, 1.0), (64, 64, 64), 0),
            ((1.0, 3.0, 3.0), (256, 40, 256), 1),  # two share the largest: the size that occurs once
            ((1.0, 3.0, 3.0), (256, 256, 40), 2),
            ((3.0, 3.0, 1.0), (100, 90, 80), 1),  # sizes tell nothing: the later of the two
            ((0.9766, 0.9766, 0.9767), (256, 256, 100), 2),  # equal up to rounding
        ],
    )
    def test_rule(self, spacing, size, axis):
        assert slice_axis(spacing, size) == axis

    def test_a_cubic_volume_with_unequal_spacing_loads(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii.gz", box_head((40, 40, 40)), (2, 1, 1))
        assert load_image(path).GetSpacing() == (4, 1, 1)


class TestResampling:
    def test_four_millimetres_between_slices_one_within_and_whole_tokens(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii.gz", box_head((120, 133, 31)), (0.8, 0.9, 5.0))
        image = load_image(path)
        assert image.GetSpacing() == (1, 1, 4)
        # 96 mm, 119.7 mm and 155 mm hold 6, 7 and 9 whole tokens.
        assert image.GetSize() == (96, 112, 36)

    def test_the_crop_is_about_the_centre(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii.gz", box_head((53, 70, 43)), (1, 1, 4))
        before, after = load_image(path, preprocess=False), load_image(path)
        for one in (before, after):
            one.centre = np.array(
                one.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in one.GetSize()])
            )
        assert np.abs(before.centre - after.centre).max() <= 2.0  # half a slice, where the rest is odd

    def test_an_axis_shorter_than_a_token_keeps_its_length(self, tmp_path):
        path = nifti_file(tmp_path / "a.nii.gz", box_head((40, 40, 3), margin=1), (1, 1, 4))
        assert load_image(path).GetSize() == (32, 32, 3)

    def test_a_point_stays_where_it_was(self, tmp_path):
        array = np.full((60, 70, 40), -1000, dtype=np.int16)
        array[28:34, 30:36, 18:22] = 1000
        affine = np.diag([-0.9, 1.1, 3.0, 1.0])
        affine[:3, 3] = [31.0, -27.0, 12.0]
        image = load_image(nifti_file(tmp_path / "a.nii.gz", array, affine_ras=affine))
        values = SimpleITK.GetArrayFromImage(image).astype(float) + 1000
        k, j, i = (
            np.average(np.arange(n), weights=values.sum(axis=tuple({0, 1, 2} - {a})))
            for a, n in enumerate(values.shape)
        )
        expected = (affine @ [30.5, 32.5, 19.5, 1])[:3] * (-1, -1, 1)
        found = image.TransformContinuousIndexToPhysicalPoint((i, j, k))
        np.testing.assert_allclose(found, expected, atol=0.05)

    def test_no_value_leaves_the_range_of_the_image_and_the_rim_is_air(self, tmp_path):
        # Cubic splines overshoot at such an edge: plain B-splines reach -1243 HU beside +1000.
        array = box_head((61, 67, 40), air=-1000, tissue=1000)
        values = SimpleITK.GetArrayFromImage(
            load_image(nifti_file(tmp_path / "a.nii.gz", array, (0.7, 0.7, 5)))
        )
        assert values.min() == -1000
        assert values.max() == 1000
        # 0.7 mm x 61 leave 42.7 mm: the head begins 5.6 mm in, and 5 mm of that are cropped away.
        assert values[0].max() == pytest.approx(-1000, abs=1e-3)
        assert values[-1].max() == pytest.approx(-1000, abs=1e-3)

    def test_padding_below_air_does_not_bleed_into_ct(self, tmp_path):
        array = box_head((61, 67, 40))
        array[:4] = -3024
        assert (
            SimpleITK.GetArrayFromImage(
                load_image(nifti_file(tmp_path / "a.nii.gz", array, (0.7, 0.7, 5)))
            ).min()
            == -1000
        )

    def test_a_straightened_mr_image_is_filled_with_its_own_darkest_value(self, tmp_path):
        affine = np.diag([1.0, 1.0, 4.0, 1.0])
        affine[1, 2] = 1.5
        array = box_head(air=7, tissue=500)
        values = SimpleITK.GetArrayFromImage(
            load_image(nifti_file(tmp_path / "a.nii.gz", array, affine_ras=affine))
        )
        assert values.min() == 7


@pytest.mark.real
class TestRealImages:
    @pytest.mark.parametrize("name", ["CT_AVM", "CT_pitch", "MR_Gd"])
    def test_agree_with_simpleitk_in_place_and_values(self, real_data, name):
        path = real_data / "brain_nifti" / f"{name}.nii.gz"
        image = load_image(path)
        plain = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32), "RPI")
        np.testing.assert_allclose(image.GetDirection(), plain.GetDirection(), atol=1e-4)
        smooth = SimpleITK.SmoothingRecursiveGaussian(plain, 2.0)
        onto = SimpleITK.Resample(
            smooth,
            SimpleITK.SmoothingRecursiveGaussian(image, 1.0),
            SimpleITK.Transform(),
            SimpleITK.sitkLinear,
        )
        ours = SimpleITK.GetArrayFromImage(SimpleITK.SmoothingRecursiveGaussian(image, 2.0))
        assert np.corrcoef(ours.ravel(), SimpleITK.GetArrayFromImage(onto).ravel())[0, 1] > 0.98

    @pytest.mark.parametrize(
        "name", ["humans_ctbrain1.dcm", "cookies_image3.dcm", "ultrasounds_RGB_IMAGE.dcm"]
    )
    def test_colour_pictures_are_refused_by_name(self, real_data, name):
        with pytest.raises(ImageRefusedError) as refused:
            load_image(real_data / "deid_samples" / name)
        assert refused.value.code == "not_monochrome"

"""One slice to Hounsfield units, its refusals, and which way is up."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from ct_assets.systems.brain import slices
from ct_assets.systems.brain.slices import SliceRefusedError
from ct_assets_tests.systems.brain.factories import dicom, head


def refused(path):
    with pytest.raises(SliceRefusedError) as error:
        slices.read(path)
    return error.value.code


class TestHounsfield:
    def test_slope_and_intercept_then_the_first_percentile_becomes_minus_1024(self, tmp_path):
        hu = np.arange(-1000, 1500, dtype=np.int16).reshape(50, 50)
        dicom(tmp_path / "a.dcm", hu, RescaleSlope="2", RescaleIntercept="-1500")
        expected = 2.0 * (hu.astype(float) + 1024) - 1500
        limit = np.percentile(expected, 1)
        got = slices.read(tmp_path / "a.dcm").hu
        assert got.dtype == np.float32
        assert np.array_equal(got, np.where(expected <= limit, -1024, expected))

    def test_padding_far_below_air_ends_at_minus_1024(self, tmp_path):
        hu = head()
        hu[:4] = -3000
        dicom(tmp_path / "a.dcm", hu)
        assert slices.read(tmp_path / "a.dcm").hu.min() == -1024


class TestRefusals:
    def test_no_dicom_file(self, tmp_path):
        (tmp_path / "a.dcm").write_text("nothing")
        assert refused(tmp_path / "a.dcm") == "no_dicom_file"

    def test_an_empty_file(self, tmp_path):
        (tmp_path / "a.dcm").write_bytes(b"")
        assert refused(tmp_path / "a.dcm") == "no_dicom_file"

    def test_pixels_that_end_early(self, tmp_path):
        dicom(tmp_path / "a.dcm")
        whole = (tmp_path / "a.dcm").read_bytes()
        (tmp_path / "a.dcm").write_bytes(whole[:-500])
        assert refused(tmp_path / "a.dcm") == "truncated_pixel_data"

    def test_no_pixels(self, tmp_path):
        dicom(tmp_path / "a.dcm", PixelData=None)
        assert refused(tmp_path / "a.dcm") == "no_pixel_data"

    def test_colour(self, tmp_path):
        dicom(tmp_path / "a.dcm", SamplesPerPixel=3, PhotometricInterpretation="RGB")
        assert refused(tmp_path / "a.dcm") == "not_monochrome"

    def test_another_modality(self, tmp_path):
        dicom(tmp_path / "a.dcm", Modality="MR")
        assert refused(tmp_path / "a.dcm") == "slice_not_ct"

    def test_a_localizer(self, tmp_path):
        dicom(tmp_path / "a.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        assert refused(tmp_path / "a.dcm") == "localizer"

    def test_several_frames(self, tmp_path):
        dicom(tmp_path / "a.dcm", NumberOfFrames=2)
        assert refused(tmp_path / "a.dcm") == "slice_multi_frame"

    def test_no_rescale_is_never_guessed(self, tmp_path):
        dicom(tmp_path / "a.dcm", RescaleSlope=None)
        assert refused(tmp_path / "a.dcm") == "missing_rescale"

    def test_a_slope_of_zero(self, tmp_path):
        dicom(tmp_path / "a.dcm", RescaleSlope="0")
        assert refused(tmp_path / "a.dcm") == "invalid_rescale"

    def test_one_value(self, tmp_path):
        dicom(tmp_path / "a.dcm", np.full((32, 32), -1000, np.int16))
        assert refused(tmp_path / "a.dcm") == "slice_constant"

    def test_values_that_know_no_air(self, tmp_path):
        dicom(tmp_path / "a.dcm", np.clip(head(), 0, 255))
        assert refused(tmp_path / "a.dcm") == "slice_values_not_hu"

    def test_a_coronal_plane(self, tmp_path):
        dicom(tmp_path / "a.dcm", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
        assert refused(tmp_path / "a.dcm") == "slice_not_axial"

    def test_a_tiny_picture(self, tmp_path):
        dicom(tmp_path / "a.dcm", head()[:8])
        assert refused(tmp_path / "a.dcm") == "too_small_slice"


class TestWarnings:
    def test_a_tilted_gantry_is_told_and_used(self, tmp_path):
        lean = np.radians(15)
        dicom(tmp_path / "a.dcm", ImageOrientationPatient=[1, 0, 0, 0, np.cos(lean), -np.sin(lean)])
        assert slices.read(tmp_path / "a.dcm").warnings == ("slice_oblique",)

    def test_an_unknown_orientation_is_told_and_used(self, tmp_path):
        dicom(tmp_path / "a.dcm", ImageOrientationPatient=None)
        assert slices.read(tmp_path / "a.dcm").warnings == ("slice_orientation_unknown",)


class TestUpright:
    @pytest.mark.parametrize(
        "orientation",
        [
            (1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, 1, 0),
            (0, 1, 0, 1, 0, 0), (0, -1, 0, 1, 0, 0), (0, 1, 0, -1, 0, 0), (0, -1, 0, -1, 0, 0),
        ],
    )  # fmt: skip
    def test_every_way_of_lying_gives_the_same_picture(self, orientation):
        """A pixel's value is its place in the patient, so the upright picture is known beforehand."""
        size = 5
        row, column = np.array(orientation[:3]), np.array(orientation[3:])
        j, i = np.indices((size, size))
        place = i[..., None] * row + j[..., None] * column
        left, back = (place[..., axis] - place[..., axis].min() for axis in (0, 1))
        expected_left = np.tile(np.arange(size), (size, 1))
        assert np.array_equal(slices.upright(left, orientation), expected_left)
        assert np.array_equal(slices.upright(back, orientation), expected_left.T)

    def test_without_an_orientation_nothing_is_turned(self):
        image = np.arange(6).reshape(2, 3)
        assert slices.upright(image, None) is image


@pytest.mark.real
class TestRealHeads:
    @pytest.mark.parametrize("name", ["humans_ctbrain1.dcm", "humans_ctbrain2.dcm"])
    def test_a_colour_secondary_capture_of_a_head_is_refused_by_name(self, real_data, name):
        path = real_data / "deid_samples" / name
        assert pydicom.dcmread(path).SOPClassUID == SecondaryCaptureImageStorage
        assert refused(path) == "not_monochrome"

    @pytest.mark.parametrize("name", ["cookies_image3.dcm", "ultrasounds_RGB_IMAGE.dcm"])
    def test_photographs_and_ultrasound_are_refused_by_name(self, real_data, name):
        assert refused(real_data / "deid_samples" / name) in (
            "not_monochrome",
            "slice_not_ct",
            "slice_multi_frame",
        )

    def test_the_tilt_of_the_real_head_is_that_of_its_gantry(self, real_data):
        header = pydicom.dcmread(real_data / "deid_samples/humans_ctbrain1.dcm", stop_before_pixels=True)
        orientation = slices.orientation_of(header)
        # half the tag's 7.25 degrees would be wrong too: the plane leans by asin(0.1515)
        assert slices.tilt_deg(orientation) == pytest.approx(np.degrees(np.arcsin(0.1515243862995)), abs=0.01)

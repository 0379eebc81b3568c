"""One loader for every format: the same voxels at the same place, or a refusal by name."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_assets import reasons
from ct_assets.dicom.uids import Kind
from ct_assets.imaging import nifti
from ct_assets.imaging.load import ImageRefused, load, series_of
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.settings import Settings
from ct_assets.settings.audit import AuditSettings
from ct_assets_tests.imaging.ct_factory import ct_series, seg_of
from ct_assets_tests.imaging.test_convert import rotation

FORMATS = [".nii", ".nii.gz", ".mhd", ".mha", ".nrrd", ".nhdr"]


def oblique_volume() -> Volume:
    array = np.random.default_rng(3).integers(-1024, 3000, (5, 6, 7)).astype(np.int16)
    flipped = rotation((4, -7, 11)) @ np.diag([1.0, -1.0, -1.0])
    return Volume(array, Grid.of(array.shape, (0.7, 0.8, 2.5), (-120.5, 33.25, -800.0), flipped))


def write(volume: Volume, path) -> None:
    """Write with the format's own library: nibabel's for NIfTI, ITK for the rest."""
    if path.name.endswith((".nii", ".nii.gz")):
        nifti.write(path, volume)
        return
    image = SimpleITK.GetImageFromArray(volume.array)
    image.SetSpacing(volume.grid.spacing_mm)
    image.SetOrigin(volume.grid.origin_lps_mm)
    image.SetDirection(volume.grid.direction.ravel().tolist())
    SimpleITK.WriteImage(image, str(path))


def refusal(path, **options) -> tuple[str, ...]:
    with pytest.raises(ImageRefused) as refused:
        load(path, **options)
    for code in refused.value.reasons:
        reasons.reason(code)
    return refused.value.reasons


@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(0.2, 6)] * 3),
    st.tuples(*[st.floats(-2000, 2000)] * 3),
    st.tuples(*[st.booleans()] * 3),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_world_and_voxel_lead_back_to_each_other(angles, spacing, origin, flips):
    direction = rotation(angles) @ np.diag(np.where(flips, -1.0, 1.0))
    grid = Grid.of((9, 8, 7), spacing, origin, direction)
    indices = np.array([[0, 0, 0], [6, 7, 8], [2.25, 3.5, 1.75]])
    np.testing.assert_allclose(grid.index(grid.world(indices)), indices, atol=1e-6)
    np.testing.assert_allclose(grid.world(grid.index(grid.corners())), grid.corners(), atol=1e-6)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_voxels_and_corners_back(tmp_path, suffix):
    volume = oblique_volume()
    path = tmp_path / f"image{suffix}"
    write(volume, path)
    found = load(path).volume
    np.testing.assert_array_equal(found.array, volume.array)
    np.testing.assert_allclose(found.grid.corners(), volume.grid.corners(), atol=1e-3)


def test_a_folder_of_dicom_a_nifti_and_a_metaimage_of_one_series_are_one_volume(tmp_path):
    series = ct_series(shape=(6, 7, 8))
    from_dicom = load(series.save(tmp_path / "series"))
    assert from_dicom.series_id == series.slices[0].SeriesInstanceUID
    np.testing.assert_array_equal(from_dicom.volume.array, series.stored.astype(int) - 1024)
    for suffix in (".nii.gz", ".mhd"):
        write(from_dicom.volume, tmp_path / f"again{suffix}")
        again = load(tmp_path / f"again{suffix}").volume
        np.testing.assert_array_equal(again.array, from_dicom.volume.array)
        assert again.grid.same_as(from_dicom.volume.grid, 1e-3)


class TestDicomFolders:
    def test_of_several_series_one_must_be_chosen(self, tmp_path):
        first, second = ct_series(name="first"), ct_series(name="second", origin_mm=(5.0, 5.0, 5.0))
        first.save(tmp_path / "all/a")
        second.save(tmp_path / "all/b")
        assert refusal(tmp_path / "all") == ("several_series",)
        chosen = second.slices[0].SeriesInstanceUID
        found = load(tmp_path / "all", series=chosen)
        assert found.series_id == chosen
        assert found.volume.grid.origin_lps_mm == (5.0, 5.0, 5.0)
        assert {one.series_id for one in series_of(tmp_path / "all")} == {
            one.slices[0].SeriesInstanceUID for one in (first, second)
        }

    def test_what_is_no_slice_of_a_ct_does_not_make_a_choice_necessary(self, tmp_path):
        series = ct_series()
        series.save(tmp_path / "all")
        ct_series(shape=(1, 9, 30), name="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]).save(
            tmp_path / "all/scout"
        )
        seg_of(series, {1: np.ones(series.stored.shape, bool)}).save_as(tmp_path / "all/seg.dcm")
        (tmp_path / "all/readme.txt").write_text("no image")
        assert load(tmp_path / "all").series_id == series.slices[0].SeriesInstanceUID

    def test_a_choice_that_is_not_there_is_told(self, tmp_path):
        ct_series().save(tmp_path / "all")
        assert refusal(tmp_path / "all", series="1.2.3") == ("no_image_series",)

    def test_a_refused_series_keeps_its_reasons_and_a_setting_corrects_it(self, tmp_path):
        series = ct_series(shape=(9, 5, 5))
        del series.slices[4]
        folder = series.save(tmp_path / "gap")
        assert refusal(folder) == ("missing_slices",)
        allowed = Settings(audit=AuditSettings(missing_slices="correct"))
        assert load(folder, settings=allowed).warnings[0] == "missing_slices"

    def test_one_slice_alone_is_no_volume(self, tmp_path):
        folder = ct_series().save(tmp_path)
        assert refusal(sorted(folder.iterdir())[0]) == ("single_slice",)

    def test_colour_is_no_volume(self, tmp_path):
        series = ct_series(shape=(4, 6, 6))
        for one in series.slices:
            one.SamplesPerPixel, one.PhotometricInterpretation, one.PlanarConfiguration = 3, "RGB", 0
            one.BitsAllocated = one.BitsStored = 8
            one.HighBit, one.PixelData = 7, bytes(6 * 6 * 3)
        assert "not_monochrome" in refusal(series.save(tmp_path))

    def test_a_localizer_alone_says_that_it_is_one(self, tmp_path):
        scout = ct_series(shape=(1, 9, 30), name="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        assert [one.kind for one in series_of(scout.save(tmp_path))] != [Kind.CT]
        assert refusal(tmp_path) == ("localizer",)


class TestRefusals:
    def test_a_path_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "nothing.nii")

    @pytest.mark.parametrize("name", ["notes.txt", "picture.png", "nothing"])
    def test_a_format_that_is_none(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"something else")
        assert refusal(tmp_path / name) == ("unsupported_format",)

    def test_an_empty_folder(self, tmp_path):
        assert refusal(tmp_path) == ("unsupported_format",)

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_a_damaged_file(self, tmp_path, suffix):
        path = tmp_path / f"image{suffix}"
        path.write_bytes(b"no such thing")
        assert refusal(path) == ("unreadable_image",)

    def test_a_header_without_its_data(self, tmp_path):
        write(oblique_volume(), tmp_path / "image.mhd")
        (tmp_path / "image.raw").unlink()
        assert refusal(tmp_path / "image.mhd") == ("unreadable_image",)

    @pytest.mark.parametrize("suffix", [".mhd", ".mha", ".nrrd"])
    def test_colour_and_time_of_itk(self, tmp_path, suffix):
        colour = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
        SimpleITK.WriteImage(colour, str(tmp_path / f"colour{suffix}"))
        assert refusal(tmp_path / f"colour{suffix}") == ("not_monochrome",)
        moving = SimpleITK.JoinSeries([SimpleITK.Image(4, 5, 3, SimpleITK.sitkInt16)] * 2)
        SimpleITK.WriteImage(moving, str(tmp_path / f"time{suffix}"))
        assert refusal(tmp_path / f"time{suffix}") == ("not_three_dimensional",)

    def test_colour_and_time_of_nifti(self, tmp_path):
        rgb = np.zeros((4, 5, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.Nifti1Image(rgb, np.eye(4)).to_filename(tmp_path / "colour.nii")
        assert refusal(tmp_path / "colour.nii") == ("not_monochrome",)
        nib.Nifti1Image(np.zeros((4, 5, 3, 2), np.int16), np.eye(4)).to_filename(tmp_path / "time.nii.gz")
        assert refusal(tmp_path / "time.nii.gz") == ("not_three_dimensional",)

    def test_a_flat_picture(self, tmp_path):
        SimpleITK.WriteImage(SimpleITK.Image(4, 5, SimpleITK.sitkInt16), str(tmp_path / "flat.mha"))
        assert refusal(tmp_path / "flat.mha") == ("not_three_dimensional",)


def test_one_time_point_is_a_volume(tmp_path):
    single = SimpleITK.JoinSeries([SimpleITK.Image(4, 5, 3, SimpleITK.sitkInt16)])
    SimpleITK.WriteImage(single, str(tmp_path / "one.nrrd"))
    assert load(tmp_path / "one.nrrd").volume.array.shape == (3, 5, 4)

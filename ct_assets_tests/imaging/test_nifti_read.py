"""NIfTI files of any origin: content decides what they are, units and forms follow the header, causes are told."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from ct_assets import reasons
from ct_assets.imaging import nifti, nifti_read
from ct_assets.imaging.nifti_read import NiftiRefused

AFFINE = np.array([[-0.7, 0, 0, 20.0], [0, -0.9, 0, 30.0], [0, 0, 2.5, -50.0], [0, 0, 0, 1]])
VOXELS = np.random.default_rng(1).integers(-1000, 1000, (6, 5, 4)).astype(np.int16)


def save(path, array=VOXELS, affine=AFFINE, sform=1, qform=1, unit="mm", qaffine=None, kind=nib.Nifti1Image):
    image = kind(array, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine if qaffine is None else qaffine, qform)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def moved(**rows):
    affine = AFFINE.copy()
    for name, row in rows.items():
        affine["xyz".index(name)] = row
    return affine


def patched(path, offset, form, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, *values)
    path.write_bytes(content)
    return path


def refusal(path):
    with pytest.raises(NiftiRefused) as refused:
        nifti_read.read(path)
    reasons.reason(refused.value.code)
    assert len(refused.value.detail.split()) > 3, "the cause is told in words"
    return refused.value.code


def is_the_image(image, tolerance_mm=1e-3):
    np.testing.assert_array_equal(image.volume.array, VOXELS.transpose(2, 1, 0))
    corner = np.array([5, 4, 3])
    lps = np.array([-1, -1, 1]) * (AFFINE[:3, :3] @ corner + AFFINE[:3, 3])
    np.testing.assert_allclose(image.volume.grid.world(corner), lps, atol=tolerance_mm)
    return True


class TestFiles:
    def test_what_a_file_is_called_does_not_matter(self, tmp_path):
        path = save(tmp_path / "a.nii.gz")
        packed = path.read_bytes()
        for name, content in (("b.nii", packed), ("c.NII.GZ", packed), ("d.nii.gz", gzip.decompress(packed))):
            (tmp_path / name).write_bytes(content)
            assert is_the_image(nifti_read.read(tmp_path / name))

    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    def test_both_versions_are_read(self, tmp_path, kind):
        assert is_the_image(nifti_read.read(save(tmp_path / "a.nii", kind=kind)))

    @pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
    @pytest.mark.parametrize("given", ["a.hdr", "a.img"])
    def test_a_pair_is_read_by_either_name(self, tmp_path, kind, given):
        save(tmp_path / "a.img", kind=kind)
        assert is_the_image(nifti_read.read(tmp_path / given))
        assert nifti_read.find_images(tmp_path) == [tmp_path / "a.hdr"]

    @pytest.mark.parametrize(("kept", "lost"), [("a.hdr", "a.img"), ("a.img", "a.hdr")])
    def test_half_a_pair_is_refused(self, tmp_path, kept, lost):
        save(tmp_path / "a.img", kind=nib.Nifti1Pair)
        (tmp_path / lost).unlink()
        assert refusal(tmp_path / kept) == "nifti_part_missing"

    def test_analyze_is_no_nifti(self, tmp_path):
        nib.AnalyzeImage(VOXELS, AFFINE).to_filename(tmp_path / "a.img")
        assert refusal(tmp_path / "a.hdr") == "analyze_format"

    def test_cut_short_is_refused(self, tmp_path):
        path = save(tmp_path / "a.nii")
        path.write_bytes(path.read_bytes()[:-7])
        assert refusal(path) == "unreadable_image"
        path.write_bytes(b"")
        assert refusal(path) == "unreadable_image"

    def test_a_header_of_a_thousand_gigabytes_allocates_nothing(self, tmp_path):
        assert (
            refusal(patched(save(tmp_path / "a.nii"), 42, "<3h", 32767, 32767, 32767)) == "unreadable_image"
        )

    def test_colours_and_complex_numbers_are_no_image(self, tmp_path):
        colours = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        for array in (colours, np.zeros((4, 4, 4), np.complex64)):
            nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "a.nii")
            assert refusal(tmp_path / "a.nii") == "not_monochrome"
            with pytest.raises(NiftiRefused):
                nifti_read.check_header(tmp_path / "a.nii")

    @pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4, 2), (4, 4, 4, 1, 3)])
    def test_only_three_dimensions_are_a_volume(self, tmp_path, shape):
        assert refusal(save(tmp_path / "a.nii", np.zeros(shape, np.int16))) == "not_three_dimensional"

    def test_names(self):
        assert nifti_read.is_nifti_name("X.NII.GZ")
        assert not nifti_read.is_nifti_name("x.nii.txt")
        assert nifti_read.name_without_suffix("a.b.NII.gz") == "a.b"
        assert nifti_read.name_without_suffix("a.txt") == "a.txt"


class TestUnits:
    @pytest.mark.parametrize(("unit", "per_mm"), [("mm", 1), ("micron", 1000), ("meter", 0.001)])
    def test_lengths_become_millimetres(self, tmp_path, unit, per_mm):
        affine = np.diag([per_mm] * 3 + [1]) @ AFFINE
        image = nifti_read.read(save(tmp_path / "a.nii", affine=affine, unit=unit))
        assert is_the_image(image)
        assert image.warnings == ()
        np.testing.assert_allclose(nifti.read(tmp_path / "a.nii").grid.spacing_mm, (0.7, 0.9, 2.5), rtol=1e-6)

    @pytest.mark.parametrize(
        ("step", "is_proven"), [(0.7, True), (0.1, True), (5, True), (0.05, False), (12, False)]
    )
    def test_a_unit_that_is_not_stated_is_millimetres_where_only_they_fit_a_body(
        self, tmp_path, step, is_proven
    ):
        image = nifti_read.read(save(tmp_path / "a.nii", affine=np.diag([step] * 3 + [1]), unit="unknown"))
        assert image.warnings == (() if is_proven else ("length_unit_not_stated",))
        np.testing.assert_allclose(image.volume.grid.spacing_mm, step, rtol=1e-6)

    @pytest.mark.parametrize("per_mm", [0.001, 1000])
    def test_a_wrong_unit_is_no_extent_of_a_ct(self, tmp_path, per_mm):
        image = nifti_read.read(save(tmp_path / "a.nii", affine=np.diag([per_mm] * 3 + [1]) @ AFFINE))
        with pytest.raises(NiftiRefused, match="implausible_extent"):
            nifti_read.check_extent(image.volume.grid)


class TestForms:
    @pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (1, 1), (2, 1), (4, 4)])
    def test_one_or_both_alike_hold(self, tmp_path, sform, qform):
        image = nifti_read.read(save(tmp_path / "a.nii", sform=sform, qform=qform))
        assert is_the_image(image)
        assert image.warnings == ()

    def test_neither_is_a_warning(self, tmp_path):
        image = nifti_read.read(save(tmp_path / "a.nii", sform=0, qform=0))
        assert image.warnings == ("nifti_orientation_unknown",)
        np.testing.assert_allclose(image.volume.grid.spacing_mm, (0.7, 0.9, 2.5), rtol=1e-6)

    @pytest.mark.parametrize("other", [{"x": [0.7, 0, 0, -1.7]}, {"z": [0, 0, 2.5, -49.0]}])
    def test_where_they_contradict_the_sform_holds_with_a_warning(self, tmp_path, other):
        image = nifti_read.read(save(tmp_path / "a.nii", qaffine=moved(**other)))
        assert is_the_image(image)
        assert image.warnings == ("nifti_forms_disagree",)

    def test_a_broken_qform_beside_a_sform_is_a_warning_and_alone_a_refusal(self, tmp_path):
        path = patched(save(tmp_path / "a.nii"), 256, "<3f", 2.0, 2.0, 2.0)
        assert is_the_image(nifti_read.read(path))
        assert nifti_read.read(path).warnings == ("nifti_forms_disagree",)
        assert refusal(patched(path, 254, "<h", 0)) == "singular_affine"

    def test_a_shear_is_a_warning(self, tmp_path):
        path = save(tmp_path / "a.nii", affine=moved(y=[0, -0.9, 0.8, 30.0]), qform=0, qaffine=AFFINE)
        assert set(nifti_read.read(path).warnings) == {"nifti_spacing_disagrees", "sheared_grid"}

    def test_a_sform_into_another_space_is_seen_by_its_steps(self, tmp_path):
        path = save(tmp_path / "a.nii", affine=np.diag([1.2, 1.2, 1.2, 1]) @ AFFINE, sform=4, qform=0)
        patched(path, 80, "<3f", 0.7, 0.9, 2.5)
        assert nifti_read.read(path).warnings == ("nifti_spacing_disagrees",)

    @pytest.mark.parametrize(
        "values", [[0.0] * 12, [float("nan")] * 12, [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0]]
    )
    def test_an_affine_without_space_is_refused(self, tmp_path, values):
        assert refusal(patched(save(tmp_path / "a.nii"), 280, "<12f", *values)) == "singular_affine"

    @pytest.mark.parametrize("step", [0.0, float("nan")])
    def test_no_step_and_no_sform_is_refused(self, tmp_path, step):
        path = save(tmp_path / "a.nii", sform=0)
        assert refusal(patched(path, 88, "<f", step)) == "singular_affine"

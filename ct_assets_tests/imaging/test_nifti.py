"""NIfTI files: what is written is read back, here and by others, and the same voxels give the same bytes."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume


def volume(dtype=np.int16, shape=(4, 3, 5), **grid):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return Volume(array, Grid.of(shape, (0.7, 0.8, 2.5), (-10.5, 20.25, 300.125), **grid))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.uint16, np.float32])
def test_voxels_and_grid_come_back(tmp_path, suffix, dtype):
    written = volume(dtype)
    nifti.write(tmp_path / f"image{suffix}", written)
    for read in (nifti.read(tmp_path / f"image{suffix}").array, _by_nibabel(tmp_path / f"image{suffix}")):
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, written.array)
    assert nifti.read(tmp_path / f"image{suffix}").grid.same_as(written.grid, 1e-3)


def _by_nibabel(path):
    return np.asanyarray(nib.load(path).dataobj).transpose(2, 1, 0)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(-3.1, 3.1)] * 3), st.booleans())
def test_qform_and_sform_say_the_same_for_any_direction(tmp_path_factory, angles, flip):
    from scipy.spatial.transform import Rotation

    direction = Rotation.from_euler("xyz", angles).as_matrix() @ np.diag([1, 1, -1 if flip else 1])
    path = tmp_path_factory.mktemp("nifti") / "image.nii.gz"
    written = volume(direction=direction)
    nifti.write(path, written)
    image = nib.load(path)
    assert image.header["sform_code"] == 1
    if image.header["qform_code"]:
        corner = [4, 2, 3, 1]
        np.testing.assert_allclose(image.get_qform() @ corner, image.get_sform() @ corner, atol=0.01)
    np.testing.assert_allclose(nifti.read(path).grid.corners(), written.grid.corners(), atol=1e-3)


def test_a_rotation_that_single_precision_quaternions_lose_stands_in_the_sform_alone(tmp_path):
    turn = 0.0006  # radians about z; over half a metre this is 0.3 mm
    direction = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    written = volume(shape=(2, 600, 600), direction=direction)
    nifti.write(tmp_path / "a.nii.gz", written)
    assert nib.load(tmp_path / "a.nii.gz").header["qform_code"] == 0
    assert nifti.read(tmp_path / "a.nii.gz").grid.same_as(written.grid, 1e-3)


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([1.0, -1, 1]), np.roll(np.eye(3), 1, axis=0)])
def test_the_usual_orientations_have_both_forms(tmp_path, direction):
    nifti.write(tmp_path / "a.nii.gz", volume(direction=direction))
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.header["qform_code"] == image.header["sform_code"] == 1
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)


def test_the_same_voxels_give_the_same_bytes(tmp_path):
    nifti.write(tmp_path / "a.nii.gz", volume())
    nifti.write(tmp_path / "b.nii.gz", volume())
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_any_gzip_reads_it_and_the_header_is_nifti_1(tmp_path):
    nifti.write(tmp_path / "a.nii.gz", volume())
    content = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    assert content[344:348] == b"n+1\0"
    assert len(content) == 352 + 2 * 4 * 3 * 5


def test_a_view_with_other_strides_is_written_in_order(tmp_path):
    turned = Volume(volume().array[::-1], volume().grid)
    nifti.write(tmp_path / "a.nii.gz", turned)
    np.testing.assert_array_equal(nifti.read(tmp_path / "a.nii.gz").array, turned.array)


def test_four_dimensions_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 2), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="3-D"):
        nifti.read(tmp_path / "a.nii.gz")

"""Registration finds known motions, whatever the start, and its verdict looks at the result."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ct_assets.imaging import registration_quality
from ct_assets.imaging.registration import RegistrationRefused, register, working
from ct_assets.imaging.volume import Grid, Volume
from ct_assets_tests.imaging.bodies import body, grid


def motion(rotation_deg=(0, 0, 0), translation=(0, 0, 0)):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    matrix[:3, 3] = translation
    return matrix


def moved_pair(matrix, *, seed=0, moving_grid=None):
    """Return a fixed and a moving image; `matrix` carries a point of the fixed image to the moving one."""
    fixed = body(grid(), seed=seed)
    moving = body(moving_grid or grid(), seed=seed, matrix=np.linalg.inv(matrix))
    return working(fixed), working(moving)


def error_mm(result, matrix, image):
    points = image.body_points[::20]
    found = registration_quality.mapped(result, points)
    return np.linalg.norm(found - (points @ matrix[:3, :3].T + matrix[:3, 3]), axis=1)


TURNED = motion((3, -4, 6), (12, -8, 15))


@pytest.fixture(scope="module")
def turned():
    fixed, moving = moved_pair(TURNED)
    return fixed, moving, register(fixed, moving)


class TestAKnownMotion:
    def test_is_found_to_a_fraction_of_a_voxel(self, turned):
        fixed, _, result = turned
        assert error_mm(result, TURNED, fixed).mean() < 0.4

    def test_is_judged_ok(self, turned):
        quality = registration_quality.evaluate(*turned)
        assert (quality.status, quality.reasons) == ("ok", ())
        assert quality.similarity_after > 0.9 > quality.similarity_before
        assert quality.lung_overlap_after > 0.95 > quality.lung_overlap_before

    def test_its_angle_is_that_of_the_rotation(self, turned):
        angle = np.degrees(np.linalg.norm(Rotation.from_matrix(TURNED[:3, :3]).as_rotvec()))
        assert turned[2].rotation_deg == pytest.approx(angle, abs=0.3)

    def test_is_the_same_to_the_last_bit_when_repeated(self, turned):
        fixed, moving, result = turned
        again = register(fixed, moving)
        assert np.array_equal(result.matrix_fixed_to_moving, again.matrix_fixed_to_moving)


def test_images_far_apart_in_space_are_brought_together():
    shift = motion(translation=(400, -250, 900))
    far = grid()
    affine = far.affine_lps.copy()
    affine[:3, 3] += shift[:3, 3]
    fixed, moving = moved_pair(shift, moving_grid=Grid(far.shape, affine))
    result = register(fixed, moving)
    assert error_mm(result, shift, fixed).mean() < 0.4
    assert registration_quality.evaluate(fixed, moving, result).status == "ok"


def test_a_moving_image_of_the_upper_half_only_is_placed_by_its_anatomy():
    affine = grid().affine_lps.copy()
    affine[2, 3] = 0.0
    half = Grid((30, 60, 84), affine)
    fixed, moving = moved_pair(motion(translation=(6, 0, 0)), moving_grid=half)
    result = register(fixed, moving)
    assert error_mm(result, motion(translation=(6, 0, 0)), fixed).mean() < 1.0
    quality = registration_quality.evaluate(fixed, moving, result)
    assert quality.overlap_share < 0.6


def test_another_body_is_poor():
    fixed = working(body(grid(), seed=1))
    other = working(body(grid(), seed=2, matrix=motion((0, 0, 90))))
    quality = registration_quality.evaluate(fixed, other, register(fixed, other))
    assert quality.status == "poor"
    assert quality.reasons


@pytest.mark.parametrize("value", [-1000, 0])
def test_an_image_of_one_value_is_refused(value):
    with pytest.raises(RegistrationRefused, match="registration_image_empty"):
        working(Volume(np.full(grid().shape, value, np.int16), grid()))


def test_values_that_are_not_finite_are_refused():
    array = body(grid()).array.astype(np.float32)
    array[3, 3, 3] = np.nan
    with pytest.raises(RegistrationRefused, match="registration_image_not_finite"):
        working(Volume(array, grid()))


def test_an_affine_stage_finds_a_change_of_scale():
    fixed = working(body(grid()))
    moving = working(body(grid(), scale=1.06))
    result = register(fixed, moving, "affine")
    assert error_mm(result, np.diag([1.06, 1.06, 1.06, 1.0]), fixed).mean() < 1.0


@pytest.mark.slow
def test_a_deformation_is_carried_as_itk_resamples_with_it_and_does_not_fold():
    fixed, moving = moved_pair(TURNED)
    result = register(fixed, moving, "bspline")
    point = (10.0, 20.0, 30.0)
    ours = registration_quality.mapped(result, np.array([point]))[0]
    np.testing.assert_allclose(result.itk_transform().TransformPoint(point), ours, atol=1e-9)
    quality = registration_quality.evaluate(fixed, moving, result)
    assert 0 < quality.jacobian_min <= quality.jacobian_max

"""Peaks and suppression: worked out by hand, and against other implementations."""

import numpy as np
import pytest
from skimage.feature import peak_local_max

from ct_assets.systems.nodules import peaks


def heat(**voxels):
    array = np.zeros((8, 9, 10), dtype=np.float32)
    for place, value in voxels.items():
        array[tuple(int(digit) for digit in place[1:])] = value
    return array


def found(array, threshold=0.1):
    places, heights = peaks.local_maxima(array, threshold)
    return [
        (*place, round(height, 4)) for place, height in zip(places.tolist(), heights.tolist(), strict=True)
    ]


class TestLocalMaxima:
    def test_the_highest_first_and_none_below_the_threshold(self):
        assert found(heat(v111=0.5, v555=0.75, v377=0.05)) == [(5, 5, 5, 0.75), (1, 1, 1, 0.5)]

    def test_a_voxel_at_the_threshold_is_a_peak(self):
        assert len(found(heat(v111=0.5), 0.5)) == 1

    def test_a_diagonal_neighbour_that_is_higher(self):
        assert found(heat(v111=0.5, v222=0.6)) == [(2, 2, 2, 0.6)]

    def test_a_plateau_is_one_peak_at_its_centroid(self):
        assert found(heat(v333=0.5, v334=0.5, v335=0.5)) == [(3, 3, 4, 0.5)]

    def test_a_shoulder_is_no_peak(self):
        assert found(heat(v333=0.5, v334=0.5, v335=0.6)) == [(3, 3, 5, 0.6)]
        assert found(heat(v333=0.5, v334=0.5, v335=0.5, v336=0.6)) == [(3, 3, 6, 0.6)]

    def test_at_the_border(self):
        assert found(heat(v000=0.5, v789=0.4)) == [(0, 0, 0, 0.5), (7, 8, 9, 0.4)]

    def test_rows_that_follow_each_other_in_memory_are_no_neighbours(self):
        assert len(found(heat(v109=0.5, v110=0.6))) == 2

    def test_nothing(self):
        assert found(heat()) == []

    def test_a_constant_volume_is_one_plateau(self):
        assert found(np.full((3, 3, 3), 0.5)) == [(1, 1, 1, 0.5)]

    def test_without_a_plateau_as_scikit_image_finds_them(self):
        array = np.random.default_rng(0).random((20, 21, 22))
        expected = peak_local_max(
            array, footprint=np.ones((3, 3, 3)), threshold_abs=0.3, exclude_border=False
        )
        places, heights = peaks.local_maxima(array, 0.3)
        assert {tuple(place) for place in places.astype(int).tolist()} == {
            tuple(p) for p in expected.tolist()
        }
        assert (np.diff(heights) <= 0).all()


def test_points_nearer_than_the_radius_are_suppressed_by_the_better_one():
    points = np.array([[0.0, 0, 0], [4, 0, 0], [8, 0, 0], [0, 5, 0]])
    # 1 takes out 0 and 2; without it 3 remains at exactly the radius of 0
    assert peaks.suppress_points(points, np.array([0.5, 0.9, 0.6, 0.1]), 5.0).tolist() == [1, 3]
    assert peaks.suppress_points(points, np.array([0.9, 0.5, 0.6, 0.1]), 5.0).tolist() == [0, 2, 3]
    assert peaks.suppress_points(np.empty((0, 3)), np.empty(0), 5.0).tolist() == []


def test_a_suppressed_point_takes_out_no_other():
    points = np.array([[0.0, 0, 0], [4, 0, 0], [8, 0, 0]])
    assert peaks.suppress_points(points, np.array([0.9, 0.8, 0.7]), 5.0).tolist() == [0, 2]


def test_overlap_of_half_open_boxes():
    first, second = np.array([0, 0, 0, 2, 2, 2.0]), np.array([1, 0, 0, 3, 2, 2.0])
    assert peaks.overlap(first, second) == pytest.approx(4 / 12)
    assert peaks.overlap(first, second + np.array([1, 0, 0, 1, 0, 0])) == 0


@pytest.mark.parametrize("iou", [0.0, 0.1, 0.22, 0.5])
def test_boxes_are_kept_as_by_the_plain_rule(iou):
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 60, (200, 3))
    boxes = np.concatenate([low, low + rng.uniform(2, 20, (200, 3))], axis=1)
    scores = rng.random(200)
    kept: list[int] = []
    for row in np.argsort(-scores):
        if all(peaks.overlap(boxes[row], boxes[other]) <= iou for other in kept):
            kept.append(int(row))
    assert peaks.suppress_boxes(boxes, scores, iou).tolist() == kept

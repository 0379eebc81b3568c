"""Segmentation measures against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from ct_assets.imaging.volume import Grid
from ct_assets.learning.evaluation import segmentation as metrics

SHAPE = (10, 10, 10)
GRID = Grid.of(SHAPE, (1.0, 1.0, 2.0))


def box(*corners):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(low, high) for low, high in corners)] = True
    return mask


def score(predicted, reference, tolerance=1.0):
    return metrics.score(predicted, reference, GRID, nsd_tolerance_mm=tolerance)


class TestOverlapAndVolume:
    def test_dice_by_hand(self):
        # 4 x 4 x 4 = 64 voxels each, shifted by one along i: 48 in both
        found = score(box((2, 6), (2, 6), (3, 7)), box((2, 6), (2, 6), (2, 6)))
        assert found.dice == pytest.approx(2 * 48 / 128)

    def test_volumes_are_millilitres_of_the_grid(self):
        found = score(box((0, 5), (0, 5), (0, 4)), box((0, 5), (0, 5), (0, 5)))
        assert found.reference_ml == pytest.approx(125 * 2 / 1000)
        assert found.volume_error_ml == pytest.approx(-25 * 2 / 1000)
        assert found.volume_error_share == pytest.approx(0.2)


class TestSurfaces:
    def test_a_shift_of_two_voxels_moves_the_border_by_two_millimetres_at_most(self):
        one, other = box((4, 5), (4, 5), (2, 3)), box((4, 5), (4, 5), (4, 5))
        found = score(one, other)
        assert found.hd95_mm == pytest.approx(2.0)  # spacing 1 mm along i
        assert found.nsd == 0.0
        assert score(one, other, tolerance=2.0).nsd == 1.0

    def test_slices_are_two_millimetres_apart(self):
        found = score(box((2, 3), (4, 5), (4, 5)), box((3, 4), (4, 5), (4, 5)))
        assert found.hd95_mm == pytest.approx(2.0)

    def test_nsd_counts_border_voxels_of_both_within_tolerance(self):
        # a row of 4 and a row of 5 sharing 4: one border voxel of nine lies 1 mm away, more than 0.5 mm
        found = score(box((4, 5), (4, 5), (2, 6)), box((4, 5), (4, 5), (2, 7)), tolerance=0.5)
        assert found.nsd == pytest.approx(8 / 9)

    def test_the_inside_of_a_mask_is_no_border(self):
        to_reference, _ = metrics.surface_distances(
            box((2, 7), (2, 7), (2, 7)), box((2, 7), (2, 7), (2, 7)), GRID.spacing_mm
        )
        assert to_reference.size == 125 - 27

    @settings(max_examples=20, deadline=None)
    @given(arrays(bool, (4, 5, 6)), arrays(bool, (4, 5, 6)))
    def test_hd95_and_nsd_equal_those_of_all_pairs(self, one, other):
        spacing = (1.0, 1.5, 2.0)
        found = metrics.surface_distances(one, other, spacing)
        expected = _all_pairs(one, other, spacing), _all_pairs(other, one, spacing)
        for ours, theirs in zip(found, expected, strict=True):
            assert sorted(ours.tolist()) == pytest.approx(sorted(theirs))


def _all_pairs(one, other, spacing):
    border = [[tuple(p) for p in np.argwhere(mask) if _is_border(mask, p)] for mask in (one, other)]
    step = np.array(spacing[::-1])
    if not border[1]:
        return [np.inf] * len(border[0])
    return [min(np.linalg.norm((np.array(a) - b) * step) for b in border[1]) for a in border[0]]


def _is_border(mask, point):
    for axis in range(3):
        for way in (-1, 1):
            near = list(point)
            near[axis] += way
            if not 0 <= near[axis] < mask.shape[axis] or not mask[tuple(near)]:
                return True
    return False


class TestMisses:
    def test_a_missed_lesion_costs_the_diagonal_of_the_image(self):
        found = score(box((0, 0), (0, 0), (0, 0)), box((2, 6), (2, 6), (2, 6)))
        assert found.is_missed
        assert (found.dice, found.nsd) == (0.0, 0.0)
        assert found.hd95_mm == pytest.approx(np.sqrt(9**2 + 9**2 + 18**2))

    def test_the_mean_never_improves_by_missing_a_lesion(self):
        near = score(box((2, 6), (2, 6), (3, 7)), box((2, 6), (2, 6), (2, 6)))
        missed = score(np.zeros(SHAPE, bool), box((2, 6), (2, 6), (2, 6)))
        assert missed.hd95_mm > near.hd95_mm

    def test_nothing_to_find_and_nothing_found_is_perfect(self):
        found = score(np.zeros(SHAPE, bool), np.zeros(SHAPE, bool))
        assert (found.dice, found.nsd, found.hd95_mm, found.lesion_f1) == (1.0, 1.0, 0.0, 1.0)
        assert found.volume_error_share is None
        assert not found.is_missed

    def test_a_false_alarm_on_an_empty_reference_is_worst(self):
        found = score(box((2, 3), (2, 3), (2, 3)), np.zeros(SHAPE, bool))
        assert (found.dice, found.lesion_f1, found.lesions_false) == (0.0, 0.0, 1)


class TestLesions:
    def test_two_of_three_found_and_one_false_alarm(self):
        reference = box((0, 2), (0, 2), (0, 2)) | box((4, 6), (4, 6), (4, 6)) | box((8, 9), (8, 9), (8, 9))
        predicted = box((1, 3), (1, 3), (1, 3)) | box((4, 6), (4, 6), (4, 6)) | box((8, 9), (0, 1), (0, 1))
        found = score(predicted, reference)
        assert (found.lesions, found.lesions_found, found.lesions_false) == (3, 2, 1)
        assert found.lesion_f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))

    def test_voxels_that_touch_at_a_corner_are_one_lesion(self):
        assert (
            score(np.zeros(SHAPE, bool), box((0, 1), (0, 1), (0, 1)) | box((1, 2), (1, 2), (1, 2))).lesions
            == 1
        )

"""Several outlines on one plane: holes, islands, unions, repeats; the truth is counted on boxes."""

import numpy as np
import pytest

from ct_assets.imaging.contours import combine


def box(low, high, *, start=0, reverse=False, shift=0.0):
    """The outline around the pixels low to high of both axes; its edges run half a pixel outside."""
    a, b = low - 0.5, high + 0.5
    corners = [(a, a), (b, a), (b, b), (a, b)]
    corners = corners[start:] + corners[:start]
    return np.array(corners[::-1] if reverse else corners) + shift


def pixels(*outlines, xor=False):
    region, warnings = combine([(outline, xor) for outline in outlines], 30, 30)
    return region.on(0, 0, 30, 30), warnings


def area(low, high):
    return (high - low + 1) ** 2


class TestNested:
    def test_an_inner_outline_is_a_hole_and_one_in_it_an_island(self):
        found, warnings = pixels(box(2, 25), box(6, 20), box(9, 12))
        assert found.sum() == area(2, 25) - area(6, 20) + area(9, 12)
        assert not warnings

    def test_an_outer_outline_that_stands_again_leaves_the_hole(self):
        found, warnings = pixels(box(2, 25), box(6, 20), box(2, 25, start=1))
        assert found.sum() == area(2, 25) - area(6, 20)
        assert warnings == {"contours_repeated"}


class TestRepeated:
    @pytest.mark.parametrize(
        "again",
        [
            {},
            {"start": 2},
            {"reverse": True},
            {"shift": 0.0004},
            {"shift": 0.3},
            {"start": 3, "reverse": True, "shift": -0.2},
        ],
    )
    @pytest.mark.parametrize("xor", [False, True])
    def test_a_copy_is_no_hole(self, again, xor):
        found, warnings = pixels(box(4, 15), box(4, 15, **again), xor=xor)
        assert found.sum() == area(4, 15)
        assert warnings == {"contours_repeated"}

    def test_with_other_points_on_the_same_line(self):
        corners = box(4, 15)
        ends = np.roll(corners, -1, axis=0)
        finer = np.concatenate([np.linspace(a, b, 9)[:-1] for a, b in zip(corners, ends, strict=True)])
        found, _ = pixels(corners, finer)
        assert found.sum() == area(4, 15)

    def test_three_times(self):
        assert pixels(box(4, 15), box(4, 15), box(4, 15, start=1))[0].sum() == area(4, 15)


class TestOverlapping:
    def test_closed_planar_outlines_are_joined_with_a_warning(self):
        found, warnings = pixels(box(2, 10), box(7, 15))
        assert found.sum() == 2 * area(2, 10) - area(7, 10)
        assert warnings == {"contours_overlap"}

    def test_xor_outlines_are_not(self):
        found, warnings = pixels(box(2, 10), box(7, 15), xor=True)
        assert found.sum() == 2 * area(2, 10) - 2 * area(7, 10)
        assert not warnings

    def test_a_hole_of_one_of_them_stays(self):
        found, _ = pixels(box(2, 14), box(12, 20), box(4, 8))
        assert found.sum() == area(2, 14) + area(12, 20) - area(12, 14) - area(4, 8)

    def test_neighbours_that_touch_are_two_parts(self):
        found, warnings = pixels(box(2, 9), box(10, 14))
        assert found.sum() == area(2, 9) + area(10, 14)
        assert not warnings


def test_an_outline_without_a_pixel_centre_is_told():
    found, warnings = pixels(box(2, 9), np.array([[15.1, 15.1], [15.3, 15.1], [15.3, 15.4]]))
    assert found.sum() == area(2, 9)
    assert warnings == {"contours_without_pixels"}


BOW_TIE = np.array([[2.2, 2.3], [20.2, 20.3], [20.2, 2.3], [2.2, 20.3]])
LOOP_TWICE = np.array([[2, 2], [20, 2], [20, 20], [5, 20], [5, 5], [15, 5], [15, 25], [2, 25]]) + 0.5
KEYHOLE = np.array(
    [
        [2, 2],
        [20, 2],
        [20, 20],
        [10, 20],
        [10, 15],
        [5, 15],
        [5, 5],
        [15, 5],
        [15, 15],
        [10, 15],
        [10, 20],
        [2, 20],
    ]
)


@pytest.mark.parametrize(
    ("outline", "crosses"),
    [
        (BOW_TIE, True),
        (LOOP_TWICE, True),
        (KEYHOLE + 0.5, False),
        (KEYHOLE[::-1] + 0.5, False),
        (box(2, 20), False),
    ],
)
def test_an_outline_that_crosses_itself_is_reported(outline, crosses):
    """Both lobes of the bow tie stay; what a loop goes around twice is outside (even-odd)."""
    found, warnings = pixels(outline)
    assert warnings == ({"contour_crosses_itself"} if crosses else set())
    j, i = np.mgrid[:30, :30]
    turns = np.zeros((30, 30))
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        a, b = np.arctan2(y0 - j, x0 - i), np.arctan2(y1 - j, x1 - i)
        turns += (b - a + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_array_equal(found, np.rint(turns / (2 * np.pi)).astype(int) % 2 == 1)

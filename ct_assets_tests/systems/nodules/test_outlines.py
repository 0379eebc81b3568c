"""Outlines to pixels: the line is outside, what it encloses inside."""

import numpy as np
import pytest
from scipy import ndimage

from ct_assets.systems.nodules import outlines
from ct_assets_tests.systems.nodules.lidc_factory import square

COLUMNS = 40


def drawn(points):
    inside, line = outlines.pixels(np.array(points), COLUMNS)
    return {(p % COLUMNS, p // COLUMNS) for p in inside.tolist()}, {
        (p % COLUMNS, p // COLUMNS) for p in line.tolist()
    }


def test_a_chain_of_pixels_encloses_what_is_within():
    inside, line = drawn(square(5, 7, 3))
    assert inside == {(c, r) for c in (5, 6, 7) for r in (7, 8, 9)}
    assert line == set(square(5, 7, 3))


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("closed", [True, False])
def test_direction_and_a_repeated_first_point_mean_nothing(order, closed):
    points = square(5, 7, 3)[::order]
    assert len(drawn(points + points[:1] if closed else points)[0]) == 9


def test_corners_alone_draw_the_same_square():
    assert drawn([(4, 6), (8, 6), (8, 10), (4, 10)])[0] == drawn(square(5, 7, 3))[0]


def test_a_centre_exactly_on_an_oblique_edge_is_on_the_line():
    inside, line = drawn([(0, 0), (8, 4), (0, 8)])
    assert {(2, 1), (4, 2), (6, 3)} <= line
    assert (1, 1) in inside
    assert (3, 1) not in inside


def test_a_spur_and_a_second_turn_change_nothing():
    points = square(5, 7, 3)
    assert drawn([*points, (3, 7), (2, 7), (3, 7)])[0] == drawn(points)[0]
    assert drawn(points * 2)[0] == drawn(points)[0]


def test_both_halves_of_an_eight_are_inside():
    assert {(3, 6), (9, 6)} <= drawn([(2, 2), (10, 10), (10, 2), (2, 10)])[0]


@pytest.mark.parametrize("points", [[(3, 3)], [(3, 3), (9, 3)], [(3, 3), (6, 6), (3, 3)]])
def test_a_line_encloses_nothing(points):
    assert drawn(points)[0] == set()


@pytest.mark.parametrize("seed", range(10))
def test_against_filling_the_line(seed):
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    radii = rng.uniform(7, 15, 9)
    corners = np.rint(np.stack([18 + radii * np.cos(angles), 18 + radii * np.sin(angles)], axis=1)).astype(
        int
    )
    chain = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        steps = max(1, int(np.abs(end - start).max()))
        chain += [
            tuple(np.rint(start + (end - start) * t / steps).astype(int).tolist()) for t in range(steps)
        ]
    line = np.zeros((COLUMNS, COLUMNS), dtype=bool)
    line[tuple(np.array(chain).T[::-1])] = True
    # An 8-connected chain is closed for 4-connected filling; a pixel on it is never inside.
    expected = ndimage.binary_fill_holes(line) & ~line
    inside, _ = drawn(chain)
    assert inside == {(c, r) for r, c in np.argwhere(expected).tolist()}


def test_an_outline_of_absurd_length_is_refused():
    points = np.tile([[0, 0], [0, 30000]], (400, 1))
    with pytest.raises(outlines.OutlineError):
        outlines.pixels(points, COLUMNS)

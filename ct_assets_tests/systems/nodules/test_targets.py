"""Targets: heat by millimetres, exactly 1 at the nearest voxel of every nodule."""

import numpy as np
import pytest

from ct_assets.imaging.volume import Grid
from ct_assets.systems.nodules.targets import targets

GRID = Grid.of((20, 24, 28), (0.7, 0.8, 1.5), (-5.0, 3.0, 40.0))
ONE = np.full((1, 3), 6.0)


def centre(kji, grid=GRID):
    return grid.world(np.array(kji, dtype=float)[::-1])[None]


@pytest.mark.parametrize(
    "kji", [(10, 12, 14), (10.5, 12.49, 13.7), (0, 0, 0), (19.3, 23.4, 27.4), (10.5, 12.5, 14.5)]
)
@pytest.mark.parametrize("join", ["max", "sum"])
def test_the_nearest_voxel_is_exactly_one(kji, join):
    made = targets(GRID, centre(kji), ONE, join=join)
    assert made.heat.max() == 1
    assert made.heat[made.is_centre].tolist() == [1]
    k, j, i = np.argwhere(made.is_centre)[0]
    assert np.array([k, j, i]) + made.offset[:, k, j, i] == pytest.approx(np.array(kji), abs=1e-5)


def test_heat_falls_with_millimetres_not_voxels():
    made = targets(GRID, centre((10, 12, 14)), ONE)
    assert made.heat[12, 12, 14] == pytest.approx(np.exp(-(3.0**2) / 18))
    assert made.heat[10, 12, 18] == pytest.approx(np.exp(-(2.8**2) / 18))
    assert made.heat[10, 12, 27] == 0  # 9.1 mm, beyond three sigmas


def test_an_oblique_grid_gives_the_same_heat_at_the_same_place():
    turn = np.array([[np.cos(0.4), -np.sin(0.4), 0], [np.sin(0.4), np.cos(0.4), 0], [0, 0, -1.0]])
    oblique = Grid.of((20, 24, 28), (0.7, 0.8, 1.5), (7.0, 3.0, 40.0), turn)
    first, second = targets(GRID, centre((9, 8, 7)), ONE), targets(oblique, centre((9, 8, 7), oblique), ONE)
    assert np.abs(first.heat - second.heat).max() < 1e-5


def test_two_nodules_are_joined_by_the_larger_heat_or_the_limited_sum():
    both = np.concatenate([centre((10, 12, 10)), centre((10, 12, 16))])
    sizes = np.array([[6.0, 5, 4], [9, 8, 7]])
    between = [targets(GRID, both, sizes, join=join).heat[10, 12, 13] for join in ("max", "sum")]
    alone = np.exp(-(2.1**2) / 18)
    assert between == pytest.approx([alone, 1.0])
    made = targets(GRID, both, sizes)
    assert made.size_mm[:, 10, 12, 16].tolist() == [9, 8, 7]
    assert made.is_centre.sum() == 2


def test_a_centre_outside_the_grid_is_named():
    made = targets(GRID, np.concatenate([centre((10, 12, 14)), centre((-1, 0, 0))]), np.full((2, 3), 5.0))
    assert made.left_out == (1,)
    assert made.is_centre.sum() == 1


def test_without_nodules_everything_is_zero():
    made = targets(GRID, np.empty((0, 3)), np.empty((0, 3)))
    assert made.heat.max() == 0
    assert not made.is_centre.any()

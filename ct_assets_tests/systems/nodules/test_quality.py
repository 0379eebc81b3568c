"""Checks of a volume and its annotations: each code, and its border."""

import numpy as np
import pytest

from ct_assets.imaging.volume import Grid, Volume
from ct_assets.reasons import reason
from ct_assets.systems.nodules import quality


def volume(shape=(32, 40, 36), spacing=(0.7, 0.7, 1.25), dtype=np.int16, change=None):
    array = np.random.default_rng(0).integers(-1000, 400, shape).astype(dtype)
    if change is not None:
        change(array)
    return Volume(array, Grid.of(shape, spacing, (-10.0, 5.0, 100.0)))


def test_a_whole_volume_has_no_code():
    assert quality.of_volume(volume()) == quality.Quality((), ())


@pytest.mark.parametrize(
    ("made", "refusals", "warnings"),
    [
        (volume(shape=(31, 40, 40)), ["volume_too_small"], []),
        (volume(spacing=(0.09, 0.7, 1)), ["spacing_out_of_range"], []),
        (volume(spacing=(0.7, 0.7, 10.1)), ["spacing_out_of_range"], []),
        (volume(spacing=(0.1, 0.7, 10.0)), [], []),
        (
            volume(dtype=np.float32, change=lambda a: a.__setitem__((3, 3, 3), np.nan)),
            ["values_not_finite"],
            [],
        ),
        (
            volume(dtype=np.float32, change=lambda a: a.__setitem__((3, 3, 3), np.inf)),
            ["values_not_finite"],
            [],
        ),
        (volume(change=lambda a: a.__setitem__(5, -1000)), [], ["empty_slices"]),
        (volume(change=lambda a: np.clip(a, 0, None, out=a)), ["hu_range_implausible"], []),
        (volume(change=lambda a: np.clip(a, None, 100, out=a)), ["hu_range_implausible"], []),
        (volume(change=lambda a: np.clip(a, None, 300, out=a)), [], ["values_cut_off"]),
    ],
)
def test_codes(made, refusals, warnings):
    found = quality.of_volume(made)
    assert (list(found.refusals), list(found.warnings)) == (refusals, warnings)
    assert all(reason(code) for code in (*found.refusals, *found.warnings))


def test_annotations_outside():
    grid = volume().grid
    index = np.array([[0, 0, 0], [35.4, 39.4, 31.4], [35.6, 0, 0], [-0.6, 0, 0], [0, 0, 32], [np.nan, 0, 0]])
    assert quality.outside(grid, grid.world(index)).tolist() == [False, False, True, True, True, True]
    assert quality.outside(grid, np.empty((0, 3))).tolist() == []

"""Resampling: positions, extent, means and small lesions are kept; nothing is invented, nothing overshoots."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_assets.imaging import resample
from ct_assets.imaging.volume import Grid, Volume


def world_of(grid: Grid) -> np.ndarray:
    """Return LPS positions of every voxel, indexed (k, j, i, 3)."""
    k, j, i = np.meshgrid(*(np.arange(size) for size in grid.shape), indexing="ij")
    return grid.world(np.stack([i, j, k], axis=-1))


def ramp(grid: Grid, slope: tuple[float, float, float] = (1.0, -2.0, 3.0)) -> Volume:
    return Volume((world_of(grid) @ np.array(slope)).astype(np.float32), grid)


def blob(shape=(12, 20, 24), spacing=(1.0, 1.0, 2.0)) -> Volume:
    random = np.random.default_rng(3)
    return Volume(random.integers(-1000, 1500, shape).astype(np.int16), Grid.of(shape, spacing))


class TestGrid:
    @settings(deadline=None)
    @given(
        st.tuples(*[st.integers(1, 40)] * 3),
        st.tuples(*[st.floats(0.3, 5)] * 3),
        st.tuples(*[st.floats(0.3, 5)] * 3),
    )
    def test_the_new_grid_has_the_spacing_and_covers_the_extent(self, shape, old, new):
        grid = Grid.of(shape, old, (5.0, -7.0, 11.0))
        made = resample.grid_at(grid, new)
        assert made.spacing_mm == pytest.approx(new, rel=1.1e-3)
        before, after = (np.array(one.shape[::-1]) * one.spacing_mm for one in (grid, made))
        assert (after >= before * (1 - 2e-3) - 1e-6).all()
        assert (after < before + np.array(made.spacing_mm) + 1e-6).all()

    def test_both_extents_have_the_same_centre(self):
        grid = Grid.of((11, 20, 33), (0.7, 0.7, 1.25), (1.0, 2.0, 3.0))
        made = resample.grid_at(grid, (1.5, 1.5, 2.0))
        assert made.corners().mean(axis=0) == pytest.approx(grid.corners().mean(axis=0))


class TestImages:
    @pytest.mark.parametrize("order", [1, 3])
    def test_a_ramp_stays_the_same_ramp_where_the_grid_gets_finer(self, order):
        source = ramp(Grid.of((12, 14, 16), (1.0, 1.2, 2.0), (3.0, 4.0, 5.0)))
        made = resample.resample(source, (0.7, 0.9, 1.1), order, outside=-1000)
        inner = (slice(4, -4),) * 3
        assert made.array[inner] == pytest.approx(ramp(made.grid).array[inner], abs=0.02)

    def test_coarser_voxels_are_exact_means_of_what_they_cover(self):
        source = blob((8, 8, 8), (1.0, 1.0, 1.0))
        made = resample.resample(Volume(source.array.astype(np.float32), source.grid), (2.0, 2.0, 2.0))
        means = source.array.reshape(4, 2, 4, 2, 4, 2).mean(axis=(1, 3, 5))
        assert made.array == pytest.approx(means, abs=1e-3)

    def test_the_mean_of_a_volume_stays_where_voxels_fit_evenly(self):
        source = blob((12, 12, 12), (1.0, 1.0, 1.0))
        made = resample.resample(source, (1.5, 1.5, 1.5))
        assert made.array.mean() == pytest.approx(source.array.mean(), abs=0.5)

    @pytest.mark.parametrize("order", [0, 1, 3])
    @pytest.mark.parametrize("spacing", [(0.6, 0.6, 0.9), (1.7, 1.7, 3.1), (0.6, 1.7, 2.0)])
    def test_nothing_overshoots_the_source(self, order, spacing):
        source = blob()
        made = resample.resample(source, spacing, order)
        assert made.array.min() >= source.array.min()
        assert made.array.max() <= source.array.max()

    def test_a_step_does_not_ring_although_brighter_voxels_are_elsewhere(self):
        array = np.full((6, 6, 40), -1000, np.int16)
        array[..., 20:] = 0
        array[0, 0, 0] = 3000
        made = resample.resample(Volume(array, Grid.of(array.shape, (1, 1, 1))), (0.4, 1, 1), 3)
        assert made.array[2:, 2:].max() == 0
        assert made.array[2:, 2:].min() == -1000

    def test_beyond_the_source_there_is_air(self):
        source = blob()
        wider = Grid.of((16, 24, 28), (1.0, 1.0, 2.0), (-2.0, -2.0, -4.0))
        made = resample.onto(source, wider, 1, outside=-1000)
        assert (made.array[:2] == -1000).all()
        assert (made.array[..., -2:] == -1000).all()
        assert (made.array[2:-2, 2:-2, 2:-2] == source.array).all()

    def test_the_same_grid_changes_nothing(self):
        source = blob()
        assert (resample.resample(source, (1.0, 1.0, 2.0), 3).array == source.array).all()

    def test_int16_is_rounded_to_nearest_not_cut_off(self):
        source = Volume(np.array([[[0, 1, 1, 1]]], np.int16), Grid.of((1, 1, 4), (1, 1, 1)))
        assert resample.resample(source, (4.0, 1.0, 1.0)).array.item() == 1  # the mean is 0.75

    def test_it_agrees_with_simpleitk_where_the_grid_gets_finer(self):
        import SimpleITK

        source = blob()
        made = resample.resample(source, (0.8, 0.7, 1.3), 1)
        image = SimpleITK.GetImageFromArray(source.array.astype(np.float32))
        image.SetSpacing(source.grid.spacing_mm)
        x, y, z = made.grid.origin_lps_mm
        k, j, i = made.grid.shape
        theirs = SimpleITK.GetArrayFromImage(
            SimpleITK.Resample(
                image, (i, j, k), SimpleITK.Transform(), SimpleITK.sitkLinear, (x, y, z), made.grid.spacing_mm
            )
        )
        inner = (slice(1, -1),) * 3
        assert np.abs(made.array[inner] - theirs[inner]).max() <= 0.51


class TestOrientation:
    @pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)])
    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
    def test_every_voxel_keeps_its_place_in_the_patient(self, signs, order):
        affine = np.eye(4)
        affine[:3, :3] = (np.diag(signs) * np.array([1.0, 1.5, 2.0]))[:, order]
        affine[:3, 3] = (4, 5, 6)
        source = ramp(Grid((4, 5, 6), affine))
        made = resample.oriented(source)
        assert resample.axes_name(made.grid) == "LPS"
        assert made.array == pytest.approx(ramp(made.grid).array)

    def test_a_flipped_source_is_resampled_onto_the_same_places(self):
        source = blob()
        flipped = Volume(
            source.array[::-1],
            Grid(
                source.grid.shape,
                source.grid.affine_lps
                @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 11], [0, 0, 0, 1.0]]),
            ),
        )
        target = resample.grid_at(source.grid, (1.3, 0.8, 1.5))
        one, other = resample.onto(source, target, 1), resample.onto(flipped, target, 1)
        assert np.abs(one.array.astype(int) - other.array).max() <= 1

    def test_a_turned_grid_is_sampled_point_by_point(self):
        angle = np.deg2rad(20)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        source = ramp(Grid.of((10, 30, 30), (1, 1, 1), (-15, -15, 0)))
        target = Grid.of((10, 10, 10), (1, 1, 1), (-3, -3, 0), turn)
        assert resample.onto(source, target).array == pytest.approx(ramp(target).array, abs=1e-3)


class TestLabels:
    def lesion(self, *voxels: tuple[int, int, int], label: int = 1) -> Volume:
        array = np.zeros((30, 64, 64), np.uint8)
        for voxel in voxels:
            array[voxel] = label
        return Volume(array, Grid.of(array.shape, (0.7, 0.7, 1.0)))

    def test_a_lesion_of_three_voxels_is_not_lost_in_coarser_voxels(self):
        source = self.lesion((15, 30, 30), (15, 30, 31), (15, 31, 31))
        made = resample.resample_labels(source, (2.0, 2.0, 3.0))
        assert np.count_nonzero(made.array) == 1
        here = made.grid.world(np.argwhere(made.array)[0][::-1])
        there = source.grid.world(np.array([30.5, 30.5, 15]))
        assert np.abs(here - there).max() <= 2.0

    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(
            st.tuples(st.integers(0, 29), st.integers(0, 63), st.integers(0, 63)), min_size=1, max_size=5
        ),
        st.tuples(*[st.floats(0.5, 4)] * 3),
    )
    def test_no_connected_part_is_ever_lost(self, voxels, spacing):
        source = self.lesion(*voxels)
        made = resample.resample_labels(source, spacing)
        filled = made.grid.world(np.argwhere(made.array)[:, ::-1])
        reach = np.array(made.grid.spacing_mm) + np.array(source.grid.spacing_mm)
        for k, j, i in voxels:
            here = source.grid.world(np.array([i, j, k]))
            assert (np.abs(filled - here) <= reach).all(axis=1).any()

    @settings(deadline=None, max_examples=30)
    @given(st.tuples(*[st.floats(0.5, 3)] * 3))
    def test_no_label_is_invented_between_two_others(self, spacing):
        array = np.zeros((20, 20, 20), np.uint8)
        array[5:15, 5:10, 5:15] = 1
        array[5:15, 10:15, 5:15] = 3
        made = resample.resample_labels(Volume(array, Grid.of(array.shape, (1, 1, 1))), spacing)
        assert set(np.unique(made.array)) == {0, 1, 3}

    @pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (1.3, 1.3, 1.3), (2.0, 2.0, 2.0)])
    def test_the_volume_of_a_ball_stays(self, spacing):
        k, j, i = np.meshgrid(*[np.arange(40) - 19.5] * 3, indexing="ij")
        ball = (k**2 + j**2 + i**2 < 15**2).astype(np.uint8)
        made = resample.resample_labels(Volume(ball, Grid.of(ball.shape, (1, 1, 1))), spacing)
        volume = np.count_nonzero(made.array) * np.prod(spacing)
        assert volume == pytest.approx(np.count_nonzero(ball), rel=0.02)

    def test_there_and_back_keeps_a_box(self):
        array = np.zeros((30, 40, 40), np.uint8)
        array[8:22, 10:30, 12:31] = 1
        source = Volume(array, Grid.of(array.shape, (0.8, 0.8, 1.5)))
        back = resample.labels_onto(resample.resample_labels(source, (1.0, 1.0, 2.0)), source.grid)
        both = np.count_nonzero(back.array & array)
        assert both / np.count_nonzero(back.array | array) >= 0.9

    def test_an_empty_mask_stays_empty(self):
        source = self.lesion()
        assert not resample.resample_labels(source, (2.0, 2.0, 2.0)).array.any()


def test_a_coarser_grid_that_is_turned_takes_means_and_aliases_nothing():
    """A pattern that alternates from slice to slice has the mean 0: sampled on turned 4 mm voxels it must vanish."""
    pattern = np.where(np.arange(80) % 2, 500, -500).astype(np.int16)
    source = Volume(
        np.broadcast_to(pattern[:, None, None], (80, 40, 40)).copy(), Grid.of((80, 40, 40), (1, 1, 1))
    )
    angle = np.radians(7)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    target = Grid.of((12, 4, 4), (4.0, 4.0, 4.0), (10.0, 14.0, 12.0), turn)
    assert np.abs(resample.onto(source, target).array).max() <= 130

"""Skull crop, windows, letterbox."""

import numpy as np
import pytest

from ct_assets.systems.brain import preprocess
from ct_assets_tests.systems.brain.factories import config, head


class TestSkullCrop:
    def test_the_box_holds_exactly_the_pixels_above_the_percentile(self):
        hu = np.zeros((20, 30), np.float32)
        hu[5, 7], hu[11, 21] = 1000, 900
        cropped, box = preprocess.crop_to_skull_bbox(hu, percentile=98)
        assert box == (5, 12, 7, 22)
        assert cropped.shape == (7, 15)
        assert cropped.dtype == np.float32
        assert cropped[0, 0] == 1000
        assert cropped[-1, -1] == 900

    def test_padding_stops_at_the_edges(self):
        hu = np.zeros((20, 30), np.float32)
        hu[1, 28] = 1000
        assert preprocess.crop_to_skull_bbox(hu, pad=3)[1] == (0, 5, 25, 30)

    def test_without_anything_brighter_the_whole_slice_stays(self):
        cropped, box = preprocess.crop_to_skull_bbox(np.full((6, 8), 7.0))
        assert box == (0, 6, 0, 8)
        assert cropped.shape == (6, 8)

    def test_a_volume_is_no_slice(self):
        with pytest.raises(ValueError, match="two axes"):
            preprocess.crop_to_skull_bbox(np.zeros((2, 4, 4)))

    def test_the_input_is_left_alone(self):
        hu = head().astype(np.float32)
        before = hu.copy()
        preprocess.crop_to_skull_bbox(hu)[0][:] = 0
        assert np.array_equal(hu, before)


class TestWindows:
    def test_forty_eighty_runs_from_0_to_80(self):
        assert preprocess.brain_window([-5, 0, 20, 40, 80, 500]).tolist() == [0, 0, 0.25, 0.5, 1, 1]

    def test_thirds_of_ninety_each_show_their_own_band(self):
        bands = preprocess.channels(np.array([[15.0, 45.0, 75.0]], np.float32), "brain_thirds")
        assert bands[:, 0].tolist() == [[0.5, 1, 1], [0, 0.5, 1], [0, 0, 0.5]]

    def test_brain_subdural_bone(self):
        bands = preprocess.channels(np.array([[40.0, 75.0, 600.0]], np.float32), "brain_subdural_bone")
        assert bands.shape == (3, 1, 3)
        assert bands[0, 0, 0] == 0.5
        assert bands[1, 0, 1] == pytest.approx(0.5)
        assert bands[2, 0, 2] == pytest.approx(0.5)

    def test_one_band_is_one_channel(self):
        assert preprocess.channels(np.zeros((4, 5), np.float32), "brain").shape == (1, 4, 5)


class TestLetterbox:
    @pytest.mark.parametrize(
        ("rows", "columns", "size"), [(40, 20, 32), (20, 40, 32), (31, 33, 16), (5, 5, 64)]
    )
    def test_proportions_stay_and_the_rest_is_shared(self, rows, columns, size):
        out = preprocess.letterbox(np.ones((1, rows, columns), np.float32), size)[0]
        height, width = (np.flatnonzero(out.any(axis=axis)) for axis in (1, 0))
        scale = size / max(rows, columns)
        assert len(height) == round(rows * scale)
        assert len(width) == round(columns * scale)
        for inside in (height, width):
            before, after = inside[0], size - 1 - inside[-1]
            assert after - before in (0, 1)
        assert np.allclose(out[np.ix_(height, width)], 1)

    def test_a_ramp_stays_a_ramp(self):
        ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))[None]
        assert np.abs(preprocess.letterbox(ramp, 32)[0, 16] - (np.arange(32) * 2 + 0.5) / 63).max() < 0.02


class TestAdjacent:
    def test_neighbours_are_cut_by_the_middle_slices_box(self):
        middle, other = head().astype(np.float32), np.full((48, 48), -1024.0, np.float32)
        other[20:24, 20:24] = 2000
        out = preprocess.prepare_adjacent(other, middle, middle, config(windows="brain_adjacent"), 32)
        alone = preprocess.prepare(middle, config(), 32)[0]
        assert np.array_equal(out[1], alone)
        assert np.array_equal(out[2], alone)
        assert 0 < (out[0] > 0.5).sum() < 40

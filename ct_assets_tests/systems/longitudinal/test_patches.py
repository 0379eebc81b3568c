"""Crops of nodules: where they lie and what they hold, by index."""

import numpy as np
import pytest

from ct_assets.imaging.store import Store
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.systems.longitudinal import patches
from ct_assets.systems.longitudinal.patches import VoxelBox

FIRST, SECOND = VoxelBox((100, 60, 20), (104, 64, 22)), VoxelBox((110, 60, 20), (113, 64, 23))


def image(dtype=np.int16):
    k, j, i = np.meshgrid(np.arange(40), np.arange(90), np.arange(200), indexing="ij")
    return Volume(
        (k * 400 + j * 4 + i % 4).astype(dtype), Grid.of((40, 90, 200), (0.7, 0.7, 2.5), (5.0, 6.0, 7.0))
    )


def test_the_centre_of_the_box_is_the_centre_voxel():
    start, _ = patches.starts(FIRST, SECOND, "centred")
    assert start == (21 - 16, 62 - 64, 102 - 64)


def test_common_is_one_place_around_both_boxes_and_centred_one_each():
    assert patches.starts(FIRST, SECOND) == ((22 - 16, 62 - 64, 107 - 64),) * 2
    assert patches.starts(FIRST, SECOND, "centred")[1] == (22 - 16, 62 - 64, 112 - 64)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_crop_has_the_image_where_there_is_one_and_air_beyond(dtype):
    crop = patches.cut(image(dtype), (5, -2, 38))
    assert crop.array.dtype == np.int16
    assert crop.array[16, 64, 64] == 21 * 400 + 62 * 4 + 102 % 4
    assert (crop.array[:, :2] == -1000).all()
    assert (crop.array[:, 92:] == -1000).all()
    np.testing.assert_allclose(
        crop.grid.world(np.array([64.0, 64.0, 16.0])), [5 + 102 * 0.7, 6 + 62 * 0.7, 7 + 21 * 2.5]
    )


def test_a_crop_wholly_outside_is_air():
    assert (patches.cut(image(), (500, 0, -900)).array == -1000).all()


def test_a_box_is_carried_into_the_crop_and_told_where_it_is_cut_off():
    assert patches.within(FIRST, (5, -2, 38)) == (VoxelBox((62, 62, 15), (66, 66, 17)), False)
    assert patches.within(FIRST, (21, -2, 38)) == (VoxelBox((62, 62, 0), (66, 66, 1)), True)


def test_a_stored_crop_is_read_scaled(tmp_path):
    store = Store(tmp_path)
    name = patches.key("g", "007", 1, "common", {"image": "digest"})
    crop = patches.cut(image(), (5, -2, 38))
    crop.array[0, 0, :3] = -2000, -750, 500
    store.put(name, crop, {"mode": "common"})
    read = patches.read(store, name)
    assert (read.shape, read.dtype) == ((1, 32, 128, 128), np.float32)
    np.testing.assert_allclose(read[0, 0, 0, :3], [-1, 0, 1], atol=1e-6)
    assert name != patches.key("g", "007", 1, "centred", {"image": "digest"})

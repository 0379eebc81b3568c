"""Transforms: image, mask, point and box move together, and back."""

import numpy as np
import pytest

from ct_assets.imaging.transform import AffineTransform, Box
from ct_assets.imaging.volume import Grid, Volume

GRID = Grid.of((40, 60, 60), (1.0, 1.0, 1.5), (-30.0, -30.0, -30.0))
BLOB = (slice(18, 24), slice(26, 34), slice(22, 32))


def turned(degrees: float, shift=(3.0, -2.0, 4.0)) -> AffineTransform:
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = shift
    return AffineTransform(matrix)


def blob() -> Volume:
    array = np.zeros(GRID.shape, np.uint8)
    array[BLOB] = 1
    return Volume(array, GRID)


def centre(mask: Volume) -> np.ndarray:
    return GRID.world(np.argwhere(mask.array)[:, ::-1].mean(axis=0))


@pytest.mark.parametrize("degrees", [0, 10, -25])
def test_image_mask_and_point_move_together(degrees):
    move = turned(degrees)
    source = blob()
    there = move.points(centre(source))
    assert centre(move.mask(source, GRID)) == pytest.approx(there, abs=0.6)
    bright = Volume(np.where(source.array, 500, -1000).astype(np.int16), GRID)
    image = move.image(bright, GRID)
    assert centre(Volume(image.array > -250, GRID)) == pytest.approx(there, abs=0.6)


def test_what_comes_in_is_air():
    image = turned(0, shift=(10, 0, 0)).image(Volume(np.zeros(GRID.shape, np.int16), GRID), GRID)
    assert (image.array[..., :9] == -1000).all()


def test_points_come_back():
    points = np.random.default_rng(0).normal(0, 50, (20, 3))
    move = turned(33)
    assert move.inverse().points(move.points(points)) == pytest.approx(points)


@pytest.mark.parametrize("degrees", [0, 1.5])
def test_a_box_comes_back_with_an_overlap_of_at_least_nine_tenths(degrees):
    move = turned(degrees)
    box = Box.of_mask(blob())
    assert move.inverse().box(move.box(box)).overlap(box) >= 0.9


def test_a_moved_box_holds_all_that_the_box_held():
    move = turned(30)
    box = Box.of_mask(blob())
    moved = move.box(box)
    inside = move.points(np.random.default_rng(0).uniform(box.low_mm, box.high_mm, (200, 3)))
    assert (inside >= np.array(moved.low_mm) - 1e-9).all()
    assert (inside <= np.array(moved.high_mm) + 1e-9).all()


def test_by_its_mask_a_box_moves_as_the_mask_does():
    move = turned(30)
    box = Box.of_mask(blob())
    by_mask = move.box_by_mask(box, GRID)
    assert by_mask.overlap(Box.of_mask(move.mask(blob(), GRID))) >= 0.8
    assert by_mask.overlap(move.box(box)) >= 0.8


def test_a_singular_matrix_is_refused():
    with pytest.raises(ValueError, match="invertible"):
        AffineTransform(np.zeros((4, 4)))

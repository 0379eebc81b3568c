"""Random changes: what they do to a picture whose answer is known, and that they follow their generator."""

import math

import numpy as np
import pytest
import torch

from ct_assets.systems.brain import augment
from ct_assets_tests.systems.brain.factories import config


def dot(row, column, size=33):
    image = torch.zeros(1, size, size)
    image[0, row - 1 : row + 2, column - 1 : column + 2] = 1
    return image


def centre(image):
    total = image.sum()
    rows, columns = torch.arange(image.shape[-2]), torch.arange(image.shape[-1])
    return (
        float((image[0].sum(1) * rows).sum() / total),
        float((image[0].sum(0) * columns).sum() / total),
    )


class TestAffine:
    def test_nothing_changes_nothing(self):
        image = torch.rand(2, 16, 16)
        assert torch.allclose(augment.affine(image, 0.0, (0.0, 0.0), 1.0), image, atol=1e-6)

    def test_a_shift_moves_right_and_down_by_its_share(self):
        moved = augment.affine(dot(16, 16), 0.0, (0.1, 0.2), 1.0)
        assert centre(moved) == pytest.approx((16 + 0.2 * 33, 16 + 0.1 * 33), abs=0.05)

    def test_a_quarter_turn_moves_a_point_a_quarter_round(self):
        # clockwise or not is of no account for a random sign; the distance from the middle is
        turned = augment.affine(dot(16, 26), math.pi / 2, (0.0, 0.0), 1.0)
        assert centre(turned)[1] == pytest.approx(16, abs=0.05)
        assert abs(centre(turned)[0] - 16) == pytest.approx(10, abs=0.05)

    def test_a_scale_moves_away_from_the_middle(self):
        assert centre(augment.affine(dot(16, 24), 0.0, (0.0, 0.0), 1.1))[1] == pytest.approx(
            16 + 8.8, abs=0.1
        )

    def test_a_flip_mirrors_left_and_right_only(self):
        image = torch.rand(1, 8, 8)
        flipped = augment.affine(image, 0.0, (0.0, 0.0), 1.0, flip=True)
        assert torch.allclose(flipped, image.flip(-1), atol=1e-6)

    def test_what_comes_in_from_outside_is_black(self):
        assert float(augment.affine(torch.ones(1, 8, 8), 0.0, (0.5, 0.0), 1.0)[0, :, 0].max()) == 0


class TestDraws:
    def test_the_same_generator_gives_the_same_picture(self):
        image = torch.rand(1, 32, 32)
        one, other = (
            augment.augment(image, config(blur_p=0.5), torch.Generator().manual_seed(3)) for _ in range(2)
        )
        assert torch.equal(one, other)

    def test_no_draw_leaves_its_range(self):
        settings = config(rotation_deg=15, shift_share=0.05, scale_range=(0.9, 1.1))
        places = []
        for seed in range(200):
            changed = augment.augment(dot(16, 16), settings, torch.Generator().manual_seed(seed))
            places.append(np.subtract(centre(changed), 16))
        assert np.abs(places).max() < 0.05 * 33 * 1.11 + 0.2
        assert np.std(places) > 0.3

    def test_half_of_the_pictures_are_mirrored(self):
        still = config(rotation_deg=0, shift_share=0, scale_range=(1, 1), flip_p=0.5)
        image = dot(16, 24)
        sides = [
            centre(augment.augment(image, still, torch.Generator().manual_seed(seed)))[1] < 16
            for seed in range(300)
        ]
        # 300 fair draws: 150 with a deviation of 8.7, five of them
        assert abs(sum(sides) - 150) < 44


class TestBlurAndErasing:
    def test_a_blur_keeps_the_sum_and_widens_the_spot(self):
        image = dot(16, 16)
        blurred = augment.blur(image, 1.0)
        assert float(blurred.sum()) == pytest.approx(float(image.sum()), rel=1e-4)
        assert float(blurred.max()) < 1

    def test_both_are_off_by_default(self):
        assert (config().blur_p, config().erasing_p) == (0, 0)

    def test_an_erased_rectangle_holds_its_share(self):
        shares = []
        for seed in range(100):
            erased = augment.erase(
                torch.ones(3, 64, 64), config(erasing_p=1.0), torch.Generator().manual_seed(seed)
            )
            shares.append(float((erased[0] == 0).float().mean()))
        assert min(shares) > 0.01
        assert max(shares) < 0.17

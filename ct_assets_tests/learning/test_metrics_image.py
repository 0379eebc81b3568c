"""Likeness of images and feature sets: worked out by hand, or held against another library's."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from ct_assets.learning.evaluation import image as likeness


def test_psnr_of_an_error_of_a_tenth_of_the_range_is_twenty_decibels():
    assert likeness.psnr(np.zeros((4, 4)), np.full((4, 4), 0.1), 1.0) == pytest.approx(20)


def test_psnr_of_equal_images_is_infinite():
    assert likeness.psnr(np.ones(5), np.ones(5), 1.0) == math.inf


def test_ssim_of_equal_images_is_one():
    image = np.random.default_rng(0).normal(size=(12, 12, 12))
    assert likeness.ssim(image, image, 1.0) == pytest.approx(1)


def test_ssim_of_two_constants_is_their_luminance_term():
    # variances are zero: (2ab + c1) / (a^2 + b^2 + c1)
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    assert likeness.ssim(np.full((16, 16), 0.5), np.full((16, 16), 0.25), 1.0) == pytest.approx(expected)


def test_ssim_is_that_of_another_library_away_from_the_border():
    random = np.random.default_rng(1)
    first = random.uniform(size=(40, 40))
    second = np.clip(first + random.normal(0, 0.1, first.shape), 0, 1)
    _, theirs = structural_similarity(
        first,
        second,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    inner = np.zeros(first.shape, bool)
    inner[6:-6, 6:-6] = True
    assert likeness.ssim(first, second, 1.0, inner) == pytest.approx(theirs[inner].mean(), abs=1e-6)


def test_images_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        likeness.psnr(np.zeros(3), np.zeros(4), 1.0)


def test_frechet_distance_of_shifted_sets_is_the_squared_shift():
    table = np.random.default_rng(2).normal(size=(50, 3))
    assert likeness.frechet_distance(table, table + np.array([3.0, 4.0, 0.0])) == pytest.approx(25)


def test_frechet_distance_of_one_feature_by_hand():
    # means 1 and 5, variances 2 (n - 1) and 8: 16 + 2 + 8 - 2 sqrt(16) = 18
    assert likeness.frechet_distance([[0.0], [2.0]], [[3.0], [7.0]]) == pytest.approx(18)


def test_frechet_distance_stands_a_degenerate_covariance():
    flat = np.column_stack([np.arange(4.0), np.zeros(4)])
    assert likeness.frechet_distance(flat, flat) == pytest.approx(0, abs=1e-6)


def test_mmd_of_two_pairs_by_hand():
    # kernel exp(-d^2 / 2): within 0 and 1: e^-0.5; within 10 and 11: e^-0.5; across: next to nothing
    expected = 2 * math.exp(-0.5)
    assert likeness.mmd2([[0.0], [1.0]], [[10.0], [11.0]], bandwidth=1.0) == pytest.approx(expected)


def test_mmd_of_sets_of_one_kind_is_about_nothing_and_of_two_kinds_is_not():
    random = np.random.default_rng(3)
    first, same, other = (
        random.normal(size=(80, 2)),
        random.normal(size=(80, 2)),
        random.normal(2, 1, (80, 2)),
    )
    assert abs(likeness.mmd2(first, same)) < 0.03
    assert likeness.mmd2(first, other) > 0.2


def test_tables_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="two tables"):
        likeness.mmd2([[0.0], [1.0]], [[1.0, 2.0], [1.0, 2.0]])

"""Growth, worked out by hand."""

import math

import pytest

from ct_assets.learning.evaluation import growth


def test_a_volume_that_doubles_in_ninety_days_has_that_doubling_time():
    assert growth.doubling_time_days(1.0, 2.0, 90) == pytest.approx(90)


def test_a_volume_that_grows_eightfold_in_ninety_days_doubles_in_thirty():
    assert growth.doubling_time_days(0.5, 4.0, 90) == pytest.approx(30)


def test_a_shrinking_lesion_has_its_halving_time_with_a_minus_sign():
    assert growth.doubling_time_days(2.0, 1.0, 60) == pytest.approx(-60)


def test_a_lesion_that_stays_never_doubles():
    assert growth.doubling_time_days(1.0, 1.0, 60) == math.inf


@pytest.mark.parametrize("volumes", [(0.0, 1.0, 30), (1.0, 0.0, 30), (1.0, 2.0, 0)])
def test_nothing_is_divided_by_zero(volumes):
    with pytest.raises(ValueError, match="must be positive"):
        growth.doubling_time_days(*volumes)


@pytest.mark.parametrize(
    ("after", "expected"), [(1.25, "growing"), (1.249, "stable"), (0.751, "stable"), (0.75, "shrinking")]
)
def test_a_quarter_more_is_growth(after, expected):
    assert growth.growth_class(1.0, after) == expected


def test_agreement_of_three_lesions():
    # errors +1, 0, -2; truth 2, 1, 6 has mean 3 and sum of squares 1 + 4 + 9 = 14
    found = growth.agreement([1.0, 1.0, 4.0], [2.0, 1.0, 6.0], [3.0, 1.0, 4.0])
    assert found.mae_ml == pytest.approx(1.0)
    assert found.median_error_ml == pytest.approx(1.0)
    assert found.rmse_ml == pytest.approx(math.sqrt(5 / 3))
    assert found.r2 == pytest.approx(1 - 5 / 14)
    assert found.direction_accuracy == pytest.approx(2 / 3)  # the third grew and was said to stay
    assert found.class_accuracy == pytest.approx(2 / 3)

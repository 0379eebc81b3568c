"""Windows: one registry, two mappings that differ at the edges, 8 bits to within 1/510."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_assets.errors import UsageError
from ct_assets.imaging import windows


@pytest.mark.parametrize(
    ("name", "width", "level"),
    [
        ("lung", 1500, -600),
        ("brain", 80, 40),
        ("blood", 200, 80),
        ("bone", 2800, 600),
        ("brain_wide", 90, 45),
        ("triage", 1400, -300),
        ("generative", 2500, -750),
    ],
)
def test_a_named_window_has_the_width_and_level_of_the_field(name, width, level):
    window = windows.window(name)
    assert (window.width_hu, window.level_hu) == (width, level)


def test_an_unknown_window_is_refused_and_the_known_ones_named():
    with pytest.raises(UsageError, match="brain"):
        windows.window("brian")


def test_the_linear_window_takes_its_ends_to_0_and_1_and_its_level_to_a_half():
    brain = windows.window("brain")
    assert brain.linear([-10, 0, 40, 80, 90]).tolist() == [0, 0, 0.5, 1, 1]


def test_the_dicom_window_follows_the_formula_of_the_standard():
    # PS3.3 C.11.2.1.2.1: with c 40, w 80: x <= 0 -> 0; x > 79 -> 1; else (x - 39.5) / 79 + 0.5
    brain = windows.window("brain")
    assert brain.dicom([0, 79, 80]).tolist() == [0, 1, 1]
    assert brain.dicom([20])[0] == pytest.approx((20 - 39.5) / 79 + 0.5)


def test_the_two_mappings_differ_at_the_edges():
    brain = windows.window("brain")
    assert brain.linear([79])[0] < 1 == brain.dicom([79])[0]


def test_bands_are_stacked_as_channels():
    shown = windows.stack("brain_thirds", np.array([[0.0, 30, 60, 90]]))
    assert shown.shape == (3, 1, 4)
    assert shown[:, 0].tolist() == [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_8_bits_keep_a_value_to_within_a_510th(values):
    unit = np.array(values)
    assert np.abs(windows.dequantise(windows.quantise(unit)) - unit).max() <= 1 / 510 + 1e-7

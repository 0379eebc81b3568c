"""The measuring of slices: laws over random grids, and each fault by name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_assets.dicom import geometry


def measured(positions, orientation=(1, 0, 0, 0, 1, 0), spacing=(0.75, 0.75), matrix=(6, 8), **limits):
    count = len(positions)
    arguments = {"tolerance_mm": 0.15, "oblique_tolerance_deg": 45.0, "max_position_mm": 5000.0} | limits
    return geometry.measure(
        np.asarray(positions, float),
        np.tile(np.asarray(orientation, float), (count, 1)),
        np.tile(np.asarray(spacing, float), (count, 1)),
        np.tile(np.asarray(matrix, np.int64), (count, 1)),
        **arguments,
    )


@st.composite
def rotations(draw):
    """Random rotation matrices, from unit quaternions."""
    parts = np.array([draw(st.floats(-1, 1)) for _ in range(4)])
    w, x, y, z = parts / norm if (norm := np.linalg.norm(parts)) > 0.1 else (1.0, 0, 0, 0)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def stacks(draw):
    """Regular stacks anywhere in the patient: (positions in order, orientation, pixel spacing, step)."""
    rotation = draw(rotations())
    count = draw(st.integers(2, 40))
    step = draw(st.floats(0.4, 10))
    origin = np.array([draw(st.floats(-1500, 1500)) for _ in range(3)])
    spacing = (draw(st.floats(0.2, 2)), draw(st.floats(0.2, 2)))
    positions = origin + np.outer(np.arange(count) * step, rotation[:, 2])
    return positions, np.concatenate([rotation[:, 0], rotation[:, 1]]), spacing, step


ANY_ANGLE = {"oblique_tolerance_deg": 90.0}


class TestEveryRegularStack:
    @given(stacks(), st.randoms(use_true_random=False))
    @settings(max_examples=150, deadline=None)
    def test_is_a_grid_whose_corners_lie_where_the_headers_say(self, stack, random):
        positions, orientation, spacing, step = stack
        order = list(range(len(positions)))
        random.shuffle(order)
        found = measured(positions[order], orientation, spacing, **ANY_ANGLE)
        assert found.faults == ()
        assert found.geometry.spacing_mm == pytest.approx(step)
        assert [order[at] for at in found.order] == list(range(len(positions)))
        for k, position in enumerate(positions):
            for i, j in ((0, 0), (7, 0), (0, 5), (7, 5)):
                corner = position + orientation[:3] * spacing[1] * i + orientation[3:] * spacing[0] * j
                assert np.abs((found.geometry.affine_lps @ [i, j, k, 1])[:3] - corner).max() < 1e-6

    @given(stacks())
    @settings(max_examples=100, deadline=None)
    def test_survives_rounding_of_its_positions_to_a_tenth(self, stack):
        positions, orientation, spacing, _ = stack
        assert measured(np.round(positions, 1), orientation, spacing, **ANY_ANGLE).faults == ()

    @given(stacks(), st.data())
    @settings(max_examples=100, deadline=None)
    def test_with_a_slice_taken_out_is_a_gap_at_that_place(self, stack, data):
        positions, orientation, spacing, step = stack
        if len(positions) < 4:
            return
        lost = data.draw(st.integers(1, len(positions) - 2))
        kept = np.delete(positions, lost, axis=0)
        found = measured(kept, orientation, spacing, **ANY_ANGLE)
        if len(positions) == 4:  # two steps, one twice the other: no usual step to miss
            assert found.faults in (("missing_slices",), ("uneven_spacing",))
            return
        assert found.faults == ("missing_slices",)
        (gap,) = found.geometry.gaps
        assert (gap.after_slice, gap.missing_slices) == (lost - 1, 1)
        assert gap.gap_mm == pytest.approx(2 * step)

    @pytest.mark.parametrize("slices", range(4, 8))
    def test_of_thin_slices_does_not_hide_a_lost_one_in_the_tolerance(self, slices):
        kept = np.delete(np.outer(np.arange(slices), [0, 0, 0.4375]), 1, axis=0)
        assert measured(kept).faults in ((("missing_slices",),) if slices > 4 else (("uneven_spacing",),))

    @given(stacks(), st.floats(1, 40), st.floats(0, 2 * np.pi))
    @settings(max_examples=100, deadline=None)
    def test_when_sheared_is_a_tilt_of_that_angle(self, stack, degrees, direction):
        positions, orientation, spacing, step = stack
        way = np.cos(direction) * orientation[:3] + np.sin(direction) * orientation[3:]
        shift = np.tan(np.radians(degrees)) * step
        sheared = positions + np.outer(np.arange(len(positions)) * shift, way)
        found = measured(sheared, orientation, spacing, **ANY_ANGLE)
        if shift * (len(positions) - 1) > 0.6:  # more than any tolerance
            assert found.faults == ("gantry_tilt",)
            assert found.geometry.tilt_deg == pytest.approx(degrees, abs=1e-3)


def test_order_of_axes_is_column_row_slice():
    found = measured([(10, 20, 30), (10, 20, 33)], spacing=(0.5, 0.8)).geometry
    assert found.affine_lps.tolist() == [[0.8, 0, 0, 10], [0, 0.5, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]]


def test_descending_slices_ascend_along_the_normal():
    found = measured([(0, 0, 9), (0, 0, 6), (0, 0, 3)])
    assert (found.order, found.geometry.origin_lps_mm) == ((2, 1, 0), (0, 0, 3))


def test_a_shift_within_the_tolerance_is_told_and_admitted():
    found = measured([(0, 0, 0), (0, 0, 2.1), (0, 0, 4), (0, 0, 6)])
    assert found.faults == ()
    assert found.geometry.max_corner_error_mm == pytest.approx(0.1)


class TestASmallDrift:
    def test_of_positions_told_in_full_is_a_tilt(self):
        assert measured(np.outer(np.arange(20), [0.00123456, 0, 2.5])).faults == ("gantry_tilt",)

    def test_that_rounding_of_positions_explains_is_none(self):
        positions = np.outer(np.arange(20), [0.00123456, 0, 2.5]) + np.array([0.1, 0.3, 0.7])
        assert measured(np.round(positions, 1)).faults == ()

    def test_that_rounding_of_the_orientation_explains_is_none(self):
        angle = np.radians(5.01)
        normal = np.array([0, -np.sin(angle), np.cos(angle)])
        told = np.round([1, 0, 0, 0, np.cos(angle), np.sin(angle)], 4)
        assert measured(np.outer(np.arange(100) * 2.5, normal), told).faults == ()


def test_thin_slices_have_a_finer_tolerance():
    positions = np.outer(np.arange(10), [0, 0, 0.3])
    positions[4, 2] += 0.14
    assert measured(positions).faults == ("uneven_spacing",)


def test_half_of_the_slices_missing_is_still_a_gap():
    heights = [0, 1, 3, 5, 7, 9, 11, 12]
    assert measured(np.outer(heights, [0, 0, 1])).faults == ("missing_slices",)


def test_obliqueness_is_the_largest_angle_to_the_patients_axes():
    angle = np.radians(12)
    orientation = (np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0)
    found = measured([(0, 0, 0), (0, 0, 2)], orientation, oblique_tolerance_deg=10)
    assert found.faults == ("oblique_orientation",)
    assert found.geometry.obliqueness_deg == pytest.approx(12)


def test_orientation_rounded_to_five_digits_is_one_orientation():
    count = 20
    orientations = np.tile([0.99985, 0.01745, 0, -0.01745, 0.99985, 0], (count, 1))
    orientations[::2] += [3e-6, -3e-6, 0, 2e-6, 0, 0]
    found = geometry.measure(
        np.outer(np.arange(count), [0, 0, 2.5]),
        orientations,
        np.full((count, 2), 0.75),
        np.full((count, 2), 512),
        tolerance_mm=0.15,
        oblique_tolerance_deg=10,
        max_position_mm=5000,
    )
    assert found.faults == ()

"""Contours become voxels: even-odd at pixel centres, on the slice where they lie."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from ct_assets.dicom import rtstruct as structure_sets
from ct_assets.dicom.seg import MaskError
from ct_assets.imaging import contours
from ct_assets.imaging.convert import load_series
from ct_assets.imaging.rtstruct import place_structures
from ct_assets.imaging.target import Target
from ct_assets.settings.conversion import ConversionSettings, MaskSettings
from ct_assets_tests.imaging.ct_factory import ct_series, grouped, structure_set

SHAPE = (6, 20, 24)


def fill(polygons, rows, columns):
    """The pixels inside the only polygon, as a whole plane."""
    (polygon,) = polygons
    return contours.fill(polygon, rows, columns).on(0, 0, rows, columns)


ORIGIN, SPACING = np.array([-30.0, 20.0, -100.0]), np.array([0.7, 0.9, 2.5])


def at(i, j, k):
    """World position of a continuous voxel index."""
    return ORIGIN + SPACING * [i, j, k]


def box(k, i0, i1, j0, j1):
    """A rectangle through pixel corners: its pixels are those with i0 <= i < i1 and j0 <= j < j1."""
    corners = [(i0, j0), (i1, j0), (i1, j1), (i0, j1)]
    return np.array([at(i - 0.5, j - 0.5, k) for i, j in corners])


@pytest.fixture
def ct():
    return ct_series(shape=SHAPE, spacing_mm=tuple(SPACING), origin_mm=tuple(ORIGIN))


@pytest.fixture
def place(ct, tmp_path):
    folder = ct.save(tmp_path / "ct")
    (series,) = grouped(folder)
    converted = load_series(series, folder, ConversionSettings())

    def place(rois, mask_settings=None, **options):
        path = tmp_path / "rtstruct"
        structure_set(ct, rois, **options).save_as(path, enforce_file_format=True)
        return place_structures(
            structure_sets.read(path), converted.target, mask_settings or MaskSettings(), 0.1
        )

    return place


class TestFill:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.floats(-3, 25), st.floats(-3, 25)), min_size=3, max_size=12))
    def test_agrees_with_counting_crossings_one_pixel_at_a_time(self, points):
        polygon = np.array(points) + np.array([0.123456, 0.234567])  # off the pixel centres
        expected = np.zeros((20, 22), dtype=bool)
        for j in range(20):
            for i in range(22):
                for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                    if (y0 <= j) != (y1 <= j):
                        crossing = x0 + (j - y0) / (y1 - y0) * (x1 - x0)
                        if abs(crossing - i) < 1e-5:
                            return  # too near to call by either
                        expected[j, i] ^= crossing < i
        np.testing.assert_array_equal(fill([polygon], 20, 22), expected)

    def test_agrees_with_matplotlib_on_a_simple_outline(self):
        angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
        radius = 7 + 2 * np.cos(5 * angles)
        polygon = np.stack([11.3 + radius * np.cos(angles), 10.7 + radius * np.sin(angles)], axis=1)
        j, i = np.mgrid[:22, :24]
        expected = Outline(polygon).contains_points(np.stack([i, j], -1).reshape(-1, 2)).reshape(22, 24)
        np.testing.assert_array_equal(fill([polygon], 22, 24), expected)

    def test_a_polygon_and_its_neighbour_share_no_pixel_and_leave_none_out(self):
        left = np.array([[2.0, 2], [8, 2], [8, 9], [2, 9]])
        right = np.array([[8.0, 2], [12, 2], [12, 9], [8, 9]])
        both = fill([left], 12, 15).astype(int) + fill([right], 12, 15)
        assert both.max() == 1
        np.testing.assert_array_equal(
            both.astype(bool), fill([np.array([[2.0, 2], [12, 2], [12, 9], [2, 9]])], 12, 15)
        )

    def test_direction_and_first_point_change_nothing(self):
        polygon = np.array([[1.2, 1.1], [9.7, 2.4], [7.5, 8.8], [3.3, 6.1]])
        expected = fill([polygon], 12, 12)
        np.testing.assert_array_equal(fill([polygon[::-1]], 12, 12), expected)
        np.testing.assert_array_equal(fill([np.roll(polygon, 2, axis=0)], 12, 12), expected)


class TestStructureSets:
    def test_a_box_covers_the_pixels_whose_centres_it_holds(self, place):
        got = place({"GTV": [box(k, 3, 9, 5, 12) for k in (1, 2, 3)]}).label_map()
        expected = np.zeros(SHAPE, int)
        expected[1:4, 5:12, 3:9] = 1
        np.testing.assert_array_equal(got, expected)

    def test_an_inner_contour_is_a_hole(self, place):
        got = place({"GTV": [box(2, 2, 12, 2, 12), box(2, 5, 8, 5, 8)]}).label_map()[2]
        assert got.sum() == 100 - 9
        assert not got[5:8, 5:8].any()

    def test_a_keyhole_closes_upon_itself(self, place):
        outer = [(2, 2), (12, 2), (12, 12), (2, 12), (2, 6)]
        inner = [(5, 6), (5, 8), (8, 8), (8, 5), (5, 5), (5, 6), (2, 6)]
        points = np.array([at(i - 0.5, j - 0.5, 2) for i, j in [*outer, *inner]])
        got = place({"GTV": [points]}).label_map()[2]
        assert got.sum() == 100 - 9
        assert not got[5:8, 5:8].any()

    def test_a_contour_that_stands_twice_does_not_erase_itself(self, place):
        got = place({"GTV": [box(2, 3, 9, 5, 12)] * 2})
        assert got.label_map().sum() == 6 * 7
        assert "contours_repeated" in got.warnings

    def test_rois_keep_their_numbers_and_overlaps_are_told(self, place):
        got = place({"GTV": [box(2, 3, 9, 5, 12)], "CTV": [box(2, 2, 10, 4, 13)]})
        assert got.overlaps
        assert [voxels.segment.label for voxels in got.segments] == ["GTV", "CTV"]

    def test_stale_references_are_resolved_by_position(self, place):
        got = place({"GTV": [box(4, 3, 9, 5, 12)]}, sop_uids=["1.2.3"], references=False)
        assert got.label_map()[4].sum() == 42
        assert "mask_sop_references_stale" in got.warnings

    def test_a_reference_to_another_slice_loses_against_the_position(self, ct, place):
        got = place({"GTV": [box(4, 3, 9, 5, 12)]}, sop_uids=[ct.datasets_by_k[0].SOPInstanceUID])
        assert got.label_map()[4].sum() == 42
        assert "mask_source_elsewhere" in got.warnings


class TestBetweenSlices:
    def test_goes_to_the_nearest_slice_and_is_told(self, place):
        got = place({"GTV": [box(2.3, 3, 9, 5, 12)]})
        assert got.label_map()[2].sum() == 42
        assert "contours_moved_to_nearest_slice" in got.warnings

    def test_of_several_planes_at_one_slice_the_closest_counts(self, place):
        got = place({"GTV": [box(2.3, 0, 20, 0, 19), box(2.1, 3, 9, 5, 12)]})
        assert got.label_map()[2].sum() == 42
        assert "contour_planes_merged" in got.warnings

    def test_is_refused_when_asked_for(self, place):
        with pytest.raises(MaskError) as refused:
            place({"GTV": [box(2.3, 3, 9, 5, 12)]}, MaskSettings(between_slices="refuse"))
        assert refused.value.code == "contours_between_slices"

    @pytest.mark.parametrize(("drawn", "warned"), [((0, 2, 4), True), ((1, 2, 4), False), ((3,), False)])
    def test_slices_left_out_between_contours_are_reported(self, place, drawn, warned):
        got = place({"GTV": [box(k, 3, 9, 5, 12) for k in drawn]})
        assert ("contours_skip_slices" in got.warnings) == warned
        assert got.label_map().any(axis=(1, 2)).nonzero()[0].tolist() == list(drawn)


class TestOutside:
    @pytest.mark.parametrize(
        ("contour", "code"),
        [
            (box(20, 3, 9, 5, 12), "mask_outside_volume"),
            (box(2, 103, 109, 5, 12), "mask_outside_volume"),
            (box(2, 3, 30, 5, 12), "mask_exceeds_volume"),
        ],
    )
    def test_is_refused_by_name(self, place, contour, code):
        with pytest.raises(MaskError) as refused:
            place({"GTV": [contour]})
        assert refused.value.code == code

    def test_one_roi_outside_leaves_the_others(self, place):
        got = place({"BODY": [box(2, -5, 30, 0, 12)], "GTV": [box(2, 3, 9, 5, 12)]})
        assert [voxels.reasons for voxels in got.segments] == [("mask_exceeds_volume",), ()]
        assert got.label_map().max() == 2
        assert "rois_left_out" in got.warnings

    @pytest.mark.parametrize("stray", [box(20, 3, 9, 5, 12), box(2, 103, 109, 5, 12)])
    def test_one_contour_outside_is_called_an_excess_or_cut(self, place, stray):
        rois = {"large": [box(2, 3, 9, 5, 12), stray], "small": [box(2, 3, 5, 5, 7)]}
        got = place(rois)
        assert [voxels.reasons for voxels in got.segments] == [("mask_exceeds_volume",), ()]
        cut = place(rois, MaskSettings(outside="crop"))
        assert [voxels.flat.size for voxels in cut.segments] == [42, 4]
        assert "mask_cropped" in cut.warnings

    def test_is_cut_when_asked_for(self, place):
        contours = [box(2, 20, 30, 5, 12), box(20, 3, 9, 5, 12)]
        got = place({"GTV": contours}, MaskSettings(outside="crop"))
        assert got.label_map().sum() == 4 * 7

    def test_an_outline_along_the_border_is_inside(self, place):
        assert place({"GTV": [box(2, 0, 24, 0, 20)]}).label_map()[2].all()


def test_contours_across_the_slices_are_refused(place):
    across = np.array([at(3, 3, 0), at(3, 9, 0), at(3, 9, 4), at(3, 3, 4)])
    with pytest.raises(MaskError) as refused:
        place({"GTV": [across]})
    assert refused.value.code == "contours_not_in_slices"


@pytest.fixture
def place_dataset(ct, tmp_path):
    """Return a function that puts a structure set onto the series after a change of its data set."""
    folder = ct.save(tmp_path / "ct")
    (series,) = grouped(folder)
    target = Target.of(series)

    def place(rois, change, **options):
        dataset = structure_set(ct, rois, **options)
        change(dataset)
        dataset.save_as(tmp_path / "rt", enforce_file_format=True)
        return place_structures(structure_sets.read(tmp_path / "rt"), target, MaskSettings(), 0.1)

    return place


GTV, CTV = [box(2, 3, 9, 5, 12)], [box(3, 3, 9, 5, 12)]


class TestFrameOfReference:
    """The UID of an ROI is the space of its numbers (PS3.3 C.8.8.5)."""

    def other(self, dataset):
        dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"

    def test_an_roi_of_another_space_is_left_out_by_name(self, place_dataset):
        got = place_dataset({"MR": GTV, "GTV": CTV}, self.other)
        assert [voxels.reasons for voxels in got.segments] == [("mask_in_other_frame_of_reference",), ()]
        assert got.label_map().sum() == 42 * 2

    def test_nothing_proves_its_place_where_no_contour_names_a_slice(self, place_dataset):
        with pytest.raises(MaskError) as refused:
            place_dataset({"MR": GTV}, self.other)
        assert refused.value.code == "mask_in_other_frame_of_reference"

    def test_contours_on_the_slices_that_they_name_prove_it(self, ct, place_dataset):
        got = place_dataset({"GTV": GTV}, self.other, sop_uids=[ct.datasets_by_k[2].SOPInstanceUID])
        assert got.label_map().sum() == 42
        assert "mask_in_other_frame_of_reference" in got.warnings


class TestWhatBelongsToAnRoi:
    def test_two_items_of_contours_are_joined(self, place_dataset):
        def change(dataset):
            dataset.ROIContourSequence[1].ReferencedROINumber = 1
            del dataset.StructureSetROISequence[1]

        got = place_dataset({"GTV": GTV, "more": CTV}, change)
        assert got.label_map().sum() == 2 * 42
        assert "contour_items_joined" in got.warnings

    def test_contours_of_no_roi_are_told(self, place_dataset):
        def change(dataset):
            del dataset.StructureSetROISequence[1]

        assert "contours_without_roi" in place_dataset({"GTV": GTV, "lost": CTV}, change).warnings

    def test_a_cut_contour_leaves_its_roi_out(self, place_dataset):
        def change(dataset):
            dataset.ROIContourSequence[0].ContourSequence[0].NumberOfContourPoints = 5

        got = place_dataset({"GTV": GTV, "CTV": CTV}, change)
        assert [voxels.reasons for voxels in got.segments] == [("contours_damaged",), ()]

    @pytest.mark.parametrize(("number", "label"), [(0, 1), (-1, 1), (70000, 1), (65535, 65535), (300, 300)])
    def test_a_number_that_no_label_map_holds_gets_another(self, place_dataset, number, label):
        def change(dataset):
            dataset.StructureSetROISequence[0].ROINumber = number
            dataset.ROIContourSequence[0].ReferencedROINumber = number

        got = place_dataset({"GTV": GTV, "CTV": CTV}, change)
        assert [voxels.label for voxels in got.segments] == [label, 2]
        assert ("segments_renumbered" in got.warnings) == (number != label)
        assert np.count_nonzero(got.label_map() == label) == 42

    def test_repeated_numbers_refuse_the_object(self, place_dataset):
        def change(dataset):
            dataset.StructureSetROISequence[1].ROINumber = 1

        with pytest.raises(MaskError) as refused:
            place_dataset({"GTV": GTV, "CTV": CTV}, change)
        assert refused.value.code == "segment_numbers_invalid"


def test_a_mask_without_any_voxel_is_refused(place):
    speck = np.array([at(3.2, 3.2, 2), at(3.4, 3.2, 2), at(3.4, 3.4, 2)])
    with pytest.raises(MaskError) as refused:
        place({"GTV": [speck]})
    assert refused.value.code == "mask_empty"


@pytest.mark.parametrize("undefined", [True, False])
def test_contours_stay_in_the_file_until_they_are_asked_for(ct, tmp_path, undefined):
    dataset = structure_set(ct, {"GTV": [*GTV, *CTV], "CTV": CTV}, sop_uids=["1.2.3"])
    for sequence in (
        dataset["ROIContourSequence"],
        *(one["ContourSequence"] for one in dataset.ROIContourSequence),
    ):
        sequence.is_undefined_length = undefined
        for item in sequence.value:
            item.is_undefined_length_sequence_item = undefined
    dataset.save_as(tmp_path / "rt", enforce_file_format=True)
    found = structure_sets.read(tmp_path / "rt")
    assert "ROIContourSequence" not in found.dataset
    assert [len(found.outlines(roi).closed) for roi in found.rois] == [2, 1]
    np.testing.assert_allclose(found.outlines(found.rois[0]).closed[1].points_lps_mm, CTV[0], atol=1e-6)
    assert found.rois[0].contours[0].sources[0].sop_instance_uid == "1.2.3"

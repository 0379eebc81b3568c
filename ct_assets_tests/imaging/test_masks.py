"""SEG objects on their CT: every frame where its header says, or refused by name."""

import copy

import numpy as np
import pytest

from ct_assets.dicom import seg
from ct_assets.dicom.seg import MaskError
from ct_assets.imaging.convert import load_series
from ct_assets.imaging.masks import place_seg
from ct_assets.settings.conversion import ConversionSettings, MaskSettings
from ct_assets_tests.imaging.ct_factory import ct_series, grouped, seg_of

SHAPE = (6, 9, 11)
TOLERANCE_MM = 0.1


def blob(*, slices=slice(1, 4), rows=slice(2, 6), columns=slice(3, 8)):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[slices, rows, columns] = True
    return mask


@pytest.fixture
def ct():
    return ct_series(shape=SHAPE)


@pytest.fixture
def place(ct, tmp_path):
    """Return a function that puts a SEG data set onto the series."""
    folder = ct.save(tmp_path / "ct")
    (series,) = grouped(folder)
    converted = load_series(series, folder, ConversionSettings())

    def place(dataset, settings=None):
        path = tmp_path / "seg"
        dataset.save_as(path, enforce_file_format=True)
        return place_seg(seg.read(path), converted.target, settings or MaskSettings(), TOLERANCE_MM)

    return place


def redraw(dataset, planes):
    """Put other planes (k, j, i) into a SEG with a frame for every slice, whatever order its frames have."""
    heights = [
        float(g.PlanePositionSequence[0].ImagePositionPatient[2])
        for g in dataset.PerFrameFunctionalGroupsSequence
    ]
    content = np.packbits(planes[np.argsort(np.argsort(heights))].ravel(), bitorder="little").tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset.Rows, dataset.Columns = planes.shape[1:]


def reorder(dataset, order):
    """Write the frames in another order, pixels and descriptions alike."""
    changed = copy.deepcopy(dataset)
    frames = dataset.pixel_array.reshape(-1, *SHAPE[1:])[order]
    changed.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    if len(changed.PixelData) % 2:
        changed.PixelData += b"\0"
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    changed.PerFrameFunctionalGroupsSequence = [groups[at] for at in order]
    return changed


class TestFramesThatCoincide:
    @pytest.mark.parametrize("omit", [True, False])
    def test_a_binary_seg_comes_back_as_it_was_drawn(self, ct, place, omit):
        mask = blob()
        got = place(seg_of(ct, {1: mask}, omit_empty_frames=omit))
        np.testing.assert_array_equal(got.label_map(), mask.astype(np.uint8))

    def test_the_order_of_frames_changes_nothing(self, ct, place):
        mask = blob()
        dataset = seg_of(ct, {1: mask}, omit_empty_frames=False)
        got = place(reorder(dataset, [3, 1, 5, 0, 2, 4]))
        np.testing.assert_array_equal(got.label_map(), mask)

    def test_many_disjoint_segments_share_one_label_map(self, ct, place):
        masks = {
            n: blob(slices=slice(0, 6), rows=slice(n - 1, n), columns=slice(0, 11)) for n in range(1, 10)
        }
        got = place(seg_of(ct, masks))
        assert not got.overlaps
        expected = np.broadcast_to(np.arange(1, 10).reshape(1, 9, 1), SHAPE)
        np.testing.assert_array_equal(got.label_map(), expected)

    def test_overlapping_segments_are_told_and_kept_whole(self, ct, place):
        inner, outer = blob(rows=slice(3, 5)), blob()
        got = place(seg_of(ct, {1: inner, 2: outer}))
        assert got.overlaps
        np.testing.assert_array_equal(got.label_map({1: 1}), inner)
        np.testing.assert_array_equal(got.label_map({2: 2}), 2 * outer)

    def test_a_label_map_seg(self, ct, place):
        masks = {1: blob(), 5: blob(slices=slice(4, 6))}
        got = place(seg_of(ct, masks, kind="LABELMAP"))
        np.testing.assert_array_equal(got.label_map(), masks[1] + 5 * masks[5].astype(int))

    def test_a_fractional_seg_is_cut_at_the_threshold(self, ct, place):
        share = blob() * np.linspace(0, 1, 11)
        dataset = seg_of(ct, {1: share}, kind="FRACTIONAL", max_fractional_value=100)
        got = place(dataset, MaskSettings(fractional_threshold=0.6))
        np.testing.assert_array_equal(got.label_map(), share >= 0.6)
        assert "fractional_mask_thresholded" in got.warnings

    def test_a_part_of_each_slice_lands_in_its_place(self, ct, place):
        mask = blob()
        dataset = seg_of(ct, {1: mask}, omit_empty_frames=False)
        cut = mask[:, 2:8, 3:10]  # from row 2, column 3 on
        redraw(dataset, cut)
        for group in dataset.PerFrameFunctionalGroupsSequence:
            x, y, z = (float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)
            group.PlanePositionSequence[0].ImagePositionPatient = [x + 3 * 0.7, y + 2 * 0.9, z]
        np.testing.assert_array_equal(place(dataset).label_map(), mask)

    def test_rows_that_run_the_other_way_are_turned(self, ct, place):
        mask = blob()
        dataset = seg_of(ct, {1: mask}, omit_empty_frames=False)
        redraw(dataset, mask[:, ::-1, :])
        shared = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        shared.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
        for group in dataset.PerFrameFunctionalGroupsSequence:
            x, y, z = (float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)
            group.PlanePositionSequence[0].ImagePositionPatient = [x, y + 8 * 0.9, z]
        np.testing.assert_array_equal(place(dataset).label_map(), mask)

    def test_a_frame_without_position_takes_that_of_its_source_image(self, ct, place):
        mask = blob()
        dataset = seg_of(ct, {1: mask})
        for group in dataset.PerFrameFunctionalGroupsSequence:
            del group.PlanePositionSequence
        np.testing.assert_array_equal(place(dataset).label_map(), mask)

    def test_an_empty_segment_is_kept_and_told(self, ct, place):
        got = place(seg_of(ct, {1: blob(), 2: np.zeros(SHAPE, bool)}, omit_empty_frames=False))
        assert "segment_empty" in got.warnings
        assert [voxels.flat.size for voxels in got.segments] == [3 * 4 * 5, 0]

    def test_stale_references_of_the_frames_are_told_and_positions_decide(self, ct, place):
        mask = blob()
        dataset = seg_of(ct, {1: mask})
        for group in dataset.PerFrameFunctionalGroupsSequence:
            for source in group.DerivationImageSequence[0].SourceImageSequence:
                source.ReferencedSOPInstanceUID = "1.2.3"
        got = place(dataset)
        np.testing.assert_array_equal(got.label_map(), mask)
        assert "mask_sop_references_stale" in got.warnings


def moved(dataset, by_mm):
    for group in dataset.PerFrameFunctionalGroupsSequence:
        old = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        group.PlanePositionSequence[0].ImagePositionPatient = [a + b for a, b in zip(old, by_mm, strict=True)]
    return dataset


class TestFramesThatDoNot:
    @pytest.mark.parametrize(
        ("by_mm", "code"),
        [
            ((0, 0, 500), "mask_outside_volume"),
            ((300, 0, 0), "mask_outside_volume"),
            ((0, 0, 2.5 * 3), "mask_exceeds_volume"),  # one slice of three beyond the last
            ((5 * 0.7, 0, 0), "mask_exceeds_volume"),
            ((0.35, 0, 0), "mask_grid_differs"),
            ((0, 0, 1.25), "mask_grid_differs"),
        ],
    )
    def test_a_moved_mask_is_refused_by_name(self, ct, place, by_mm, code):
        with pytest.raises(MaskError) as refused:
            place(moved(seg_of(ct, {1: blob()}), by_mm))
        assert refused.value.code == code

    def test_a_mask_past_the_image_is_cut_only_when_asked_for(self, ct, place):
        got = place(moved(seg_of(ct, {1: blob()}), (0, 0, 7.5)), MaskSettings(outside="crop"))
        np.testing.assert_array_equal(got.label_map(), blob(slices=slice(4, 6)))
        assert "mask_cropped" in got.warnings

    def test_an_empty_border_outside_is_no_fault(self, ct, place):
        dataset = moved(seg_of(ct, {1: blob()}, omit_empty_frames=False), (0, 0, 5.0))
        np.testing.assert_array_equal(place(dataset).label_map(), blob(slices=slice(3, 6)))

    @pytest.mark.parametrize("factor", [2, 3])
    def test_a_finer_mask_is_resampled_only_when_asked_for(self, ct, place, factor):
        mask = blob()
        dataset = finer(seg_of(ct, {1: mask}, omit_empty_frames=False), mask, factor)
        with pytest.raises(MaskError) as refused:
            place(dataset)
        assert refused.value.code == "mask_grid_differs"
        got = place(dataset, MaskSettings(other_grid="nearest"))
        np.testing.assert_array_equal(got.label_map(), mask)
        assert "mask_resampled" in got.warnings

    def test_a_shifted_mask_goes_to_the_nearest_voxel(self, ct, place):
        dataset = moved(seg_of(ct, {1: blob()}), (0.3, -0.3, 0.9))
        got = place(dataset, MaskSettings(other_grid="nearest"))
        np.testing.assert_array_equal(got.label_map(), blob())

    def test_cut_off_pixels_are_refused(self, ct, place):
        from ct_assets.dicom.pixels import PixelError

        dataset = seg_of(ct, {1: blob()}, omit_empty_frames=False)
        dataset.PixelData = dataset.PixelData[:40]
        with pytest.raises(PixelError):
            place(dataset)


def finer(dataset, mask, factor):
    """Return the SEG with pixels `factor` times smaller, covering the same area."""
    fine = mask.repeat(factor, axis=1).repeat(factor, axis=2)
    redraw(dataset, fine)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    between_rows, between_columns = (float(v) for v in measures.PixelSpacing)
    measures.PixelSpacing = [between_rows / factor, between_columns / factor]
    back = (1 - 1 / factor) / 2
    return moved(dataset, (-between_columns * back, -between_rows * back, 0))


class TestLabels:
    def test_segment_0_gets_a_value_of_its_own(self, ct, place):
        dataset = seg_of(ct, {1: blob(), 2: blob(rows=slice(7, 8))})
        dataset.SegmentSequence[0].SegmentNumber = 0
        for group in dataset.PerFrameFunctionalGroupsSequence:
            item = group.SegmentIdentificationSequence[0]
            item.ReferencedSegmentNumber = {1: 0, 2: 2}[item.ReferencedSegmentNumber]
        got = place(dataset)
        assert [voxels.label for voxels in got.segments] == [1, 2]
        np.testing.assert_array_equal(got.label_map() == 1, blob())
        assert "segments_renumbered" in got.warnings

    def test_the_padding_value_of_a_label_map_is_its_background(self, ct, place):
        dataset = seg_of(ct, {1: blob(), 5: ~blob()}, kind="LABELMAP")
        dataset.PixelPaddingValue = 5
        np.testing.assert_array_equal(place(dataset).label_map(), blob())

    def test_0_is_a_segment_where_the_background_is_another_value(self, ct, place):
        dataset = relabelled(seg_of(ct, {1: blob(), 5: ~blob()}, kind="LABELMAP"))
        dataset.PixelPaddingValue = 5
        got = place(dataset)
        assert [(voxels.segment.number, voxels.label) for voxels in got.segments] == [(0, 1)]
        np.testing.assert_array_equal(got.label_map(), blob())

    def test_a_described_0_without_a_background_is_refused(self, ct, place):
        dataset = relabelled(seg_of(ct, {1: blob(), 5: ~blob()}, kind="LABELMAP"))
        if "PixelPaddingValue" in dataset:
            del dataset.PixelPaddingValue
        with pytest.raises(MaskError) as refused:
            place(dataset)
        assert refused.value.code == "label_map_background_unknown"

    def test_a_fractional_seg_without_its_maximum_is_refused(self, ct, place):
        dataset = seg_of(ct, {1: blob() * 0.7}, kind="FRACTIONAL", max_fractional_value=100)
        del dataset.MaximumFractionalValue
        with pytest.raises(MaskError) as refused:
            place(dataset)
        assert refused.value.code == "fractional_maximum_missing"

    def test_a_seg_without_any_voxel_is_refused(self, ct, place):
        with pytest.raises(MaskError) as refused:
            place(seg_of(ct, {1: np.zeros(SHAPE, bool)}, omit_empty_frames=False))
        assert refused.value.code == "mask_empty"


def relabelled(dataset):
    """Take the value 1 of a LABELMAP to 0, in pixels and descriptions; 5 stays."""
    dataset.SegmentSequence = [one for one in dataset.SegmentSequence if one.SegmentNumber in (1, 5)]
    dataset.SegmentSequence[0].SegmentNumber = 0
    values = np.frombuffer(dataset.PixelData, np.uint8).copy()
    values[values == 1] = 0
    dataset.PixelData = values.tobytes()
    return dataset


def test_each_segment_is_resampled_by_its_own_planes(ct, place):
    other = blob(slices=slice(2, 3))
    dataset = seg_of(ct, {1: blob(), 2: other})
    for group in dataset.PerFrameFunctionalGroupsSequence:
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 2:
            place_of = group.PlanePositionSequence[0]
            x, y, z = (float(value) for value in place_of.ImagePositionPatient)
            place_of.ImagePositionPatient = [x, y, z + 0.6]
    got = place(dataset, MaskSettings(other_grid="nearest"))
    np.testing.assert_array_equal(got.label_map({1: 1}), blob())
    np.testing.assert_array_equal(got.label_map({2: 1}), other)

"""Which instances belong together, and what becomes of them: a test a quirk."""

import copy

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage

from ct_assets import reasons
from ct_assets.dicom import index, series
from ct_assets.settings.audit import AuditSettings
from ct_assets_tests.dicom.factory import (
    base,
    ct_series,
    ct_slice,
    enhanced_ct,
    grouped,
    move,
    only_ct,
    scanned,
    seg,
    uid,
    write,
)


def renumbered(slices, name):
    """The same slices as further instances."""
    copies = copy.deepcopy(slices)
    for one in copies:
        one.SOPInstanceUID = uid(name, one.SOPInstanceUID)
        one.PixelData = bytes(reversed(one.PixelData))
    return copies


class TestASoundSeries:
    def test_is_converted_as_it_is(self, tmp_path):
        found = only_ct(grouped(tmp_path, ct_series()))
        assert (found.decision, found.reasons, found.warnings) == ("convert", (), ())
        assert found.geometry.grid_shape == (12, 6, 8)
        assert found.geometry.spacing_mm == pytest.approx(2.5)
        assert found.geometry.origin_lps_mm == (-3.0, -2.0, 100.0)

    def test_is_ordered_by_position_whatever_instance_numbers_say(self, tmp_path):
        slices = ct_series()
        for number, one in zip((5, 3, 9, 1, 1, 2, 7, 30, 4, 8, 6, 0), slices, strict=True):
            one.InstanceNumber = number
        found = only_ct(grouped(tmp_path, slices))
        assert [one.sop_instance_uid for one in found.instances] == [one.SOPInstanceUID for one in slices]

    def test_does_not_depend_on_the_order_of_the_index(self, tmp_path):
        table = scanned(tmp_path, [*ct_series(), seg(ct_series())])
        expected = series.group(table, AuditSettings())
        assert series.group(table.sample(fraction=1, shuffle=True, seed=3), AuditSettings()) == expected

    def test_spacing_comes_from_positions_not_from_tags(self, tmp_path):
        found = only_ct(grouped(tmp_path, ct_series(SliceThickness=5, SpacingBetweenSlices=7)))
        assert found.geometry.spacing_mm == pytest.approx(2.5)
        assert "spacing_tag_disagrees" in found.warnings

    def test_may_have_two_slices(self, tmp_path):
        assert only_ct(grouped(tmp_path, ct_series(2))).decision == "convert"

    def test_may_have_two_thousand_slices(self):
        from ct_assets_tests.dicom.test_geometry import measured

        positions = np.outer(np.arange(2000), [0, 0, 0.5])
        assert measured(positions).faults == ()

    def test_positions_rounded_to_a_tenth_are_no_fault(self, tmp_path):
        slices = ct_series(60, step_mm=0.625)
        for one in slices:
            one.ImagePositionPatient = [f"{float(value):.1f}" for value in one.ImagePositionPatient]
        found = only_ct(grouped(tmp_path, slices))
        assert (found.decision, found.warnings) == (
            "convert",
            ("positions_rounded", "spacing_tag_disagrees")[:1],
        )
        assert found.geometry.spacing_mm == pytest.approx(0.625, abs=0.1 / 59)

    def test_slope_may_vary_by_slice(self, tmp_path):
        slices = ct_series()
        for number, one in enumerate(slices):
            one.RescaleSlope = 1 + number / 10
        found = only_ct(grouped(tmp_path, slices))
        assert (found.decision, found.warnings) == ("convert", ("several_rescales",))


class TestRefusedByName:
    def test_missing_slice_with_its_place(self, tmp_path):
        slices = ct_series()
        del slices[5]
        found = only_ct(grouped(tmp_path, slices))
        assert (found.decision, found.reasons) == ("refuse", ("missing_slices",))
        (gap,) = found.geometry.gaps
        assert (gap.after_slice, gap.missing_slices, round(gap.gap_mm, 6)) == (4, 1, 5.0)

    def test_several_missing_slices(self, tmp_path):
        slices = ct_series(20)
        del slices[15], slices[3:6]
        found = only_ct(grouped(tmp_path, slices))
        assert found.reasons == ("missing_slices",)
        assert [gap.missing_slices for gap in found.geometry.gaps] == [3, 1]

    def test_uneven_spacing(self, tmp_path):
        slices = ct_series()
        move(slices, lambda number: (0, 0, 0.8 if number % 3 == 1 else 0))
        assert only_ct(grouped(tmp_path, slices)).reasons == ("uneven_spacing",)

    def test_spacing_that_grows_little_by_little(self, tmp_path):
        slices = ct_series(30)
        move(slices, lambda number: (0, 0, 0.005 * number**2))
        assert only_ct(grouped(tmp_path, slices)).reasons == ("uneven_spacing",)

    @pytest.mark.parametrize("degrees", [-18.5, -2.0, 0.7, 15.0, 16.5])
    def test_gantry_tilt_from_positions(self, tmp_path, degrees):
        slices = ct_series(GantryDetectorTilt=0)
        move(slices, lambda number: (0, np.tan(np.radians(degrees)) * number * 2.5, 0))
        found = only_ct(grouped(tmp_path, slices))
        assert found.reasons == ("gantry_tilt",)
        assert found.geometry.tilt_deg == pytest.approx(abs(degrees), abs=1e-6)

    def test_leaning_planes_of_a_tilted_gantry_are_a_tilt_and_not_oblique(self, tmp_path):
        cosine, sine = np.cos(np.radians(18.5)), np.sin(np.radians(18.5))
        slices = ct_series(ImageOrientationPatient=[1, 0, 0, 0, f"{cosine:.9f}", f"{-sine:.9f}"])
        found = only_ct(grouped(tmp_path, slices, tilt="correct"))
        assert (found.decision, found.reasons) == ("correct", ("gantry_tilt",))
        assert found.geometry.tilt_deg == pytest.approx(18.5, abs=1e-6)
        assert found.geometry.obliqueness_deg == pytest.approx(18.5, abs=1e-6)

    def test_a_tilt_tag_alone_tilts_nothing(self, tmp_path):
        found = only_ct(grouped(tmp_path, ct_series(GantryDetectorTilt=20)))
        assert (found.decision, found.warnings) == ("convert", ("tilt_tag_disagrees",))

    def test_slices_that_wander(self, tmp_path):
        slices = ct_series()
        move(slices, lambda number: (2 * np.sin(number), 0, 0))
        assert only_ct(grouped(tmp_path, slices)).reasons == ("slices_off_line",)

    def test_two_unequal_slices_at_one_place(self, tmp_path):
        slices = ct_series()
        extra = ct_slice(99, slices[4].ImagePositionPatient)
        assert only_ct(grouped(tmp_path, [*slices, extra])).reasons == ("duplicate_positions",)

    def test_two_equal_slices_at_one_place(self, tmp_path):
        slices = ct_series()
        extra = ct_slice(99, slices[4].ImagePositionPatient, PixelData=slices[4].PixelData)
        assert only_ct(grouped(tmp_path, [*slices, extra])).reasons == ("exact_duplicate_positions",)

    def test_one_slice_of_another_orientation(self, tmp_path):
        slices = ct_series()
        slices[3].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        assert "mixed_orientation" in only_ct(grouped(tmp_path, slices)).reasons

    def test_one_slice_of_another_pixel_spacing(self, tmp_path):
        slices = ct_series()
        slices[-1].PixelSpacing = [0.8, 0.8]
        assert only_ct(grouped(tmp_path, slices)).reasons == ("mixed_pixel_spacing",)

    def test_one_slice_of_another_matrix(self, tmp_path):
        slices = ct_series()
        slices[0] = ct_slice(1, slices[0].ImagePositionPatient, Rows=8)
        assert only_ct(grouped(tmp_path, slices)).reasons == ("mixed_matrix",)

    @pytest.mark.parametrize("oblique", ["refuse", "convert"])
    def test_oblique_beyond_tolerance_is_a_warning(self, tmp_path, oblique):
        cosine, sine = np.cos(np.radians(30)), np.sin(np.radians(30))
        slices = ct_series(ImageOrientationPatient=[1, 0, 0, 0, round(cosine, 9), round(sine, 9)])
        for number, one in enumerate(slices):
            one.ImagePositionPatient = [
                f"{value:.10g}" for value in np.array([0, -sine, cosine]) * 2.5 * number
            ]
        found = only_ct(grouped(tmp_path, slices, oblique=oblique))
        assert (found.decision, found.reasons, found.warnings) == ("convert", (), ("oblique_orientation",))

    @pytest.mark.parametrize(
        ("tags", "reason"),
        [
            ({"ImagePositionPatient": None}, "missing_position"),
            ({"ImageOrientationPatient": None}, "missing_orientation"),
            ({"PixelSpacing": None}, "missing_pixel_spacing"),
            ({"PixelSpacing": [0, 0]}, "invalid_pixel_spacing"),
            ({"PixelSpacing": [-0.7, 0.7]}, "invalid_pixel_spacing"),
            ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "invalid_orientation"),
            ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "invalid_orientation"),
            ({"ImagePositionPatient": [0, 0, 9e7]}, "absurd_position"),
            ({"Rows": 0, "PixelData": b"\0\0"}, "missing_matrix"),
            ({"Modality": "MR"}, "modality_not_ct"),
            (
                {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "BitsAllocated": 8},
                "not_monochrome",
            ),
            ({"PixelData": b"\0" * 40}, "pixel_data_length_mismatch"),
        ],
    )
    def test_a_slice_with_a_broken_header(self, tmp_path, tags, reason):
        slices = ct_series()
        slices[6] = ct_slice(7, slices[6].ImagePositionPatient, **tags)
        found = only_ct(grouped(tmp_path, slices))
        assert found.decision == "refuse"
        assert reason in found.reasons

    def test_position_that_is_no_number(self, tmp_path):
        slices = ct_series()
        write(tmp_path, slices)
        path = next(tmp_path.iterdir())
        content = path.read_bytes()
        at = content.index(b"\x20\x00\x32\x00DS") + 8
        path.write_bytes(content[:at] + b"NaN" + content[at + 3 :])
        found = only_ct(series.group(index.scan(tmp_path, root=tmp_path, workers=1), AuditSettings()))
        assert "missing_position" in found.reasons

    def test_one_slice_alone(self, tmp_path):
        assert only_ct(grouped(tmp_path, ct_series(1))).reasons == ("single_slice",)

    def test_a_truncated_slice(self, tmp_path):
        write(tmp_path, ct_series())
        path = next(tmp_path.iterdir())
        path.write_bytes(path.read_bytes()[:-20])
        found = only_ct(series.group(index.scan(tmp_path, root=tmp_path, workers=1), AuditSettings()))
        assert found.reasons == ("truncated_pixel_data",)


class TestCorrectionsBySetting:
    def test_tilt(self, tmp_path):
        slices = ct_series()
        move(slices, lambda number: (0, 0.3 * number, 0))
        found = only_ct(grouped(tmp_path, slices, tilt="correct"))
        assert (found.decision, found.reasons) == ("correct", ("gantry_tilt",))

    def test_exact_duplicates_are_dropped_by_name(self, tmp_path):
        slices = ct_series()
        extra = ct_slice(99, slices[4].ImagePositionPatient, PixelData=slices[4].PixelData)
        found = only_ct(grouped(tmp_path, [*slices, extra], exact_duplicates="correct"))
        assert (found.decision, len(found.instances)) == ("correct", 12)
        assert [left.reason for left in found.left_out] == ["exact_duplicate_positions"]
        assert found.geometry.grid_shape == (12, 6, 8)

    def test_unequal_duplicates_are_never_dropped(self, tmp_path):
        slices = ct_series()
        extra = ct_slice(99, slices[4].ImagePositionPatient)
        assert only_ct(grouped(tmp_path, [*slices, extra], exact_duplicates="correct")).decision == "refuse"

    def test_uneven_spacing_and_missing_slices(self, tmp_path):
        slices = ct_series()
        move(slices, lambda number: (0, 0, 0.8 if number % 3 == 1 else 0))
        assert only_ct(grouped(tmp_path / "a", slices, uneven_spacing="correct")).decision == "correct"
        gapped = ct_series()
        del gapped[5]
        assert only_ct(grouped(tmp_path / "b", gapped, uneven_spacing="correct")).decision == "refuse"
        assert only_ct(grouped(tmp_path / "c", gapped, missing_slices="correct")).decision == "correct"

    def test_a_fault_beside_it_still_refuses(self, tmp_path):
        slices = ct_series()
        move(slices, lambda number: (0, 0.3 * number, 0))
        del slices[5]
        found = only_ct(grouped(tmp_path, slices, tilt="correct"))
        assert (found.decision, set(found.reasons)) == ("refuse", {"gantry_tilt", "missing_slices"})


class TestLocalizers:
    def localizer(self, **tags):
        return ct_slice(
            50,
            (0, -200, 300),
            ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
            **tags,
        )

    def test_inside_a_series_is_left_out_by_name(self, tmp_path):
        found = only_ct(grouped(tmp_path, [*ct_series(), self.localizer()]))
        assert (found.decision, found.warnings) == ("convert", ("localizer_left_out",))
        assert [left.reason for left in found.left_out] == ["localizer"]

    def test_inside_a_series_may_refuse_it(self, tmp_path):
        found = only_ct(grouped(tmp_path, [*ct_series(), self.localizer()], localizer_inside="refuse"))
        assert found.reasons == ("localizer_inside",)

    def test_as_a_series_of_its_own_is_refused_by_its_name(self, tmp_path):
        (found,) = grouped(tmp_path, [self.localizer()])
        assert (found.kind, found.decision, found.reasons) == ("localizer", "refuse", ("localizer",))


class TestOneUidAndSeveralVolumes:
    def test_two_reconstructions_are_told_apart_by_kernel(self, tmp_path):
        soft, sharp = ct_series(ConvolutionKernel="B30"), renumbered(ct_series(), "sharp")
        for one in sharp:
            one.ConvolutionKernel = "B70"
        found = grouped(tmp_path, [*soft, *sharp])
        uid_of = soft[0].SeriesInstanceUID
        assert [one.series_id for one in found] == [uid_of, f"{uid_of}_2"]
        assert all(one.decision == "convert" and one.split_by == ("convolution_kernel",) for one in found)

    def test_two_phases_are_told_apart_by_acquisition(self, tmp_path):
        first, second = ct_series(AcquisitionNumber=1), renumbered(ct_series(), "second")
        for one in second:
            one.AcquisitionNumber = 2
        found = grouped(tmp_path, [*first, *second])
        assert [one.decision for one in found] == ["convert", "convert"]
        assert {instance.sop_instance_uid for instance in found[0].instances} == {
            one.SOPInstanceUID for one in first
        }

    def test_a_fault_of_one_phase_is_its_own(self, tmp_path):
        first, second = ct_series(AcquisitionNumber=1), renumbered(ct_series(), "second")
        for one in second:
            one.AcquisitionNumber = 2
        del second[5]
        found = grouped(tmp_path, [*first, *second])
        assert [(one.decision, one.reasons) for one in found] == [
            ("convert", ()),
            ("refuse", ("missing_slices",)),
        ]

    def test_stacked_acquisitions_are_one_volume_with_a_warning(self, tmp_path):
        slices = ct_series()
        for number, one in enumerate(slices):
            one.AcquisitionNumber = 1 + number // 6
        found = only_ct(grouped(tmp_path, slices))
        assert (found.decision, found.warnings) == ("convert", ("several_acquisitions",))

    def test_interleaved_acquisitions_are_two_volumes_though_they_look_even(self, tmp_path):
        slices = ct_series(24, step_mm=1.25)
        for number, one in enumerate(slices):
            one.AcquisitionNumber = 1 + number % 2
        found = grouped(tmp_path, slices)
        assert [one.geometry.spacing_mm for one in found] == [pytest.approx(2.5)] * 2

    @pytest.mark.parametrize(
        ("keyword", "values", "attribute"),
        [
            ("KVP", ("80", "140"), "kvp"),
            ("AcquisitionTime", ("120000", "120130"), "acquisition_time"),
            ("AcquisitionDate", ("20200101", "20200102"), "acquisition_date"),
            ("ContrastBolusAgent", ("", "Iodine"), "contrast_bolus_agent"),
            ("SliceThickness", ("1.25", "5"), "slice_thickness"),
            ("ReconstructionDiameter", ("350", "500"), "reconstruction_diameter"),
            ("FilterType", ("BODY", "HEAD"), "filter_type"),
            ("SeriesNumber", (1, 2), "series_number"),
        ],
    )
    def test_whatever_alone_tells_two_interleaved_volumes_apart_parts_them(
        self, tmp_path, keyword, values, attribute
    ):
        slices = ct_series(24, step_mm=1.25)
        for number, one in enumerate(slices):
            setattr(one, keyword, values[number % 2])
        found = grouped(tmp_path, slices)
        assert [one.geometry.spacing_mm for one in found] == [pytest.approx(2.5)] * 2
        assert [one.split_by for one in found] == [(attribute,)] * 2

    @pytest.mark.parametrize("keyword", ["KVP", "AcquisitionTime", "ContrastBolusAgent"])
    def test_what_changes_on_the_way_does_not_part_a_volume(self, tmp_path, keyword):
        slices = ct_series(24)
        for number, one in enumerate(slices):
            setattr(one, keyword, "80" if number < 12 else "90")
        found = only_ct(grouped(tmp_path, slices))
        told = {"KVP": ("several_kvps",), "ContrastBolusAgent": ("several_contrast_agents",)}
        assert (len(found.instances), found.warnings) == (24, told.get(keyword, ()))

    def test_what_differs_in_every_slice_does_not_part_a_volume(self, tmp_path):
        slices = ct_series(24)
        for number, one in enumerate(slices):
            one.AcquisitionTime, one.XRayTubeCurrent = f"1200{10 + number}", str(100 + number % 2)
        assert len(only_ct(grouped(tmp_path, slices)).instances) == 24

    def test_a_gap_between_two_acquisitions_parts_them(self, tmp_path):
        slices = ct_series(24)
        for number, one in enumerate(slices):
            one.AcquisitionNumber = 1 + number // 12
        move(slices[12:], lambda number: (0, 0, 40))
        found = grouped(tmp_path, slices)
        assert [(one.decision, len(one.instances)) for one in found] == [("convert", 12)] * 2

    def test_a_missing_slice_inside_one_acquisition_refuses_the_whole(self, tmp_path):
        slices = ct_series(24)
        for number, one in enumerate(slices):
            one.AcquisitionNumber = 1 + number // 12
        del slices[18]
        assert only_ct(grouped(tmp_path, slices)).reasons == ("missing_slices",)

    def test_an_axial_and_a_coronal_volume(self, tmp_path):
        axial, coronal = ct_series(), renumbered(ct_series(), "coronal")
        for number, one in enumerate(coronal):
            one.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
            one.ImagePositionPatient = [0, number * 2, 0]
        found = grouped(tmp_path, [*axial, *coronal])
        assert {(one.geometry.plane, one.decision) for one in found} == {
            ("axial", "convert"),
            ("coronal", "convert"),
        }

    @pytest.mark.parametrize("frames", [2, 40])
    def test_several_frames_of_reference_in_one_gapless_volume_are_one_volume(self, tmp_path, frames):
        slices = ct_series(40)
        for number, one in enumerate(slices):
            one.FrameOfReferenceUID = uid("own frame", number % frames)
        found = only_ct(grouped(tmp_path / "a", slices))
        assert (found.decision, found.warnings) == ("convert", ("several_frames_of_reference",))
        refused = only_ct(grouped(tmp_path / "b", slices, several_frames_of_reference="refuse"))
        assert refused.reasons == ("several_frames_of_reference",)

    def test_two_frames_of_reference_that_share_places_are_two_volumes(self, tmp_path):
        first, second = ct_series(), renumbered(ct_series(), "second")
        for one in second:
            one.FrameOfReferenceUID = uid("another")
        assert [one.decision for one in grouped(tmp_path, [*first, *second])] == ["convert", "convert"]


class TestWhatElseSharesAUid:
    def test_a_screen_shot_without_place_is_left_out_by_name(self, tmp_path):
        shot = ct_slice(
            60,
            (0, 0, 0),
            ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"],
            ImagePositionPatient=None,
            ImageOrientationPatient=None,
        )
        found = only_ct(grouped(tmp_path, [*ct_series(), shot]))
        assert (found.decision, found.warnings) == ("convert", ("no_place_left_out",))

    def test_an_original_slice_without_place_refuses_the_series(self, tmp_path):
        slices = ct_series()
        slices[-1] = ct_slice(12, (0, 0, 0), ImagePositionPatient=None, ImageOrientationPatient=None)
        assert "missing_position" in only_ct(grouped(tmp_path, slices)).reasons

    def test_another_object_is_left_out_by_name(self, tmp_path):
        capture = base("capture", SecondaryCaptureImageStorage, "OT", "ct", "P1")
        found = only_ct(grouped(tmp_path, [*ct_series(), capture]))
        assert (found.decision, found.warnings) == ("convert", ("not_a_ct_image_left_out",))

    def test_another_modality_is_a_series_of_its_own_kind(self, tmp_path):
        (found,) = grouped(tmp_path, [base("mr", MRImageStorage, "MR", "mr", "P1")])
        assert (found.kind, found.reasons) == ("other", ("not_a_ct_image",))


class TestIdentity:
    @pytest.mark.parametrize(
        ("keyword", "reason"),
        [
            ("StudyInstanceUID", "missing_study_instance_uid"),
            ("SeriesInstanceUID", "missing_series_instance_uid"),
            ("SOPInstanceUID", "missing_sop_instance_uid"),
            ("SOPClassUID", "missing_sop_class_uid"),
        ],
    )
    def test_a_missing_uid_refuses_the_series(self, tmp_path, keyword, reason):
        slices = ct_series()
        for one in slices:
            setattr(one, keyword, "")
        assert reason in only_ct(grouped(tmp_path, slices)).reasons

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("value", ["../1", "1.2.a", "1..2", "1.2.", "1" * 65])
    def test_a_sop_instance_uid_that_is_none_refuses_the_series(self, tmp_path, value):
        slices = ct_series()
        slices[3].add_new(0x00080018, "UI", value)
        assert only_ct(grouped(tmp_path, slices)).reasons == ("invalid_uid",)

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("tag", [0x0020000D, 0x00200052])
    def test_a_uid_that_is_only_compared_may_be_odd_with_a_warning(self, tmp_path, tag):
        slices = ct_series()
        for one in slices:
            one.add_new(tag, "UI", "STUDY-7")
        found = only_ct(grouped(tmp_path, slices))
        assert (found.decision, found.warnings) == ("convert", ("invalid_reference_uid",))

    def test_an_instance_delivered_twice_counts_once(self, tmp_path):
        slices = ct_series()
        write(tmp_path / "week1", slices)
        write(tmp_path / "week2", slices[3:4])
        table = index.scan(tmp_path, root=tmp_path, workers=1)
        found = only_ct(series.group(table, AuditSettings()))
        assert (found.decision, len(found.instances), found.warnings) == ("convert", 12, ("delivered_twice",))

    def test_unequal_instances_under_one_uid_refuse_the_series_and_none_wins(self, tmp_path):
        slices = ct_series()
        write(tmp_path / "week1", slices)
        other = copy.deepcopy(slices[3])
        other.PixelData = bytes(reversed(other.PixelData))
        write(tmp_path / "week2", [other])
        found = only_ct(series.group(index.scan(tmp_path, root=tmp_path, workers=1), AuditSettings()))
        assert "contradicting_instances" in found.reasons
        assert len(found.instances) == 11
        assert [left.reason for left in found.left_out] == ["contradicting_instances"] * 2

    def test_one_series_uid_of_two_patients_refuses_both(self, tmp_path):
        theirs = ct_series(patient="P2")
        for one in theirs:
            one.SeriesInstanceUID = uid("series", "P1", "ct")
        found = grouped(tmp_path, [*ct_series(), *theirs])
        assert [one.reasons for one in found] == [("series_uid_of_two_patients",)] * 2
        assert {one.patient_id for one in found} == {"P1", "P2"}


class TestEnhancedCt:
    def test_frames_are_slices_in_the_order_of_their_positions(self, tmp_path):
        found = only_ct(grouped(tmp_path, [enhanced_ct()]))
        assert found.decision == "convert"
        assert [one.frame for one in found.instances] == [5, 4, 3, 2, 1, 0]
        assert found.geometry.grid_shape == (6, 6, 8)

    def test_phases_are_volumes_of_their_own(self, tmp_path):
        found = grouped(tmp_path, [enhanced_ct(phases=2)])
        assert [one.split_by for one in found] == [("temporal_position",)] * 2
        assert [len(one.instances) for one in found] == [6, 6]

    @pytest.mark.parametrize(
        ("sequence", "keyword", "values", "attribute"),
        [
            ("CTReconstructionSequence", "ConvolutionKernel", ("B30", "B70"), "convolution_kernel"),
            ("CTXRayDetailsSequence", "KVP", (80, 140), "kvp"),
            (
                "CardiacSynchronizationSequence",
                "NominalPercentageOfCardiacPhase",
                (30.0, 75.0),
                "cardiac_phase",
            ),
            (
                "CardiacSynchronizationSequence",
                "NominalCardiacTriggerDelayTime",
                (100.0, 300.0),
                "trigger_time",
            ),
            (
                "RespiratorySynchronizationSequence",
                "NominalPercentageOfRespiratoryPhase",
                (0.0, 50.0),
                "respiratory_phase",
            ),
            ("FrameContentSequence", "StackID", ("1", "2"), "stack"),
            (
                "FrameContentSequence",
                "FrameAcquisitionDateTime",
                ("20200101120000", "20200101120130"),
                "acquisition_time",
            ),
            ("FrameContentSequence", "FrameAcquisitionNumber", (1, 2), "acquisition_number"),
            (
                "ContrastBolusUsageSequence",
                "ContrastBolusAgentPhase",
                ("ARTERIAL", "VENOUS"),
                "contrast_bolus_agent",
            ),
            ("PixelMeasuresSequence", "SliceThickness", (1, 5), "slice_thickness"),
        ],
    )
    def test_volumes_of_one_object_half_a_step_apart_are_parted(
        self, tmp_path, sequence, keyword, values, attribute
    ):
        one = enhanced_ct(frames=16, step_mm=1.25)
        shared = one.SharedFunctionalGroupsSequence[0]
        for number, groups in enumerate(one.PerFrameFunctionalGroupsSequence):
            item = copy.deepcopy((groups.get(sequence) or shared.get(sequence) or [Dataset()])[0])
            setattr(item, keyword, values[number % 2])
            setattr(groups, sequence, [item])
        if sequence in shared:
            delattr(shared, sequence)
        found = grouped(tmp_path, [one])
        assert [one.split_by for one in found] == [(attribute,)] * 2
        assert [one.geometry.spacing_mm for one in found] == [pytest.approx(2.5)] * 2

    def test_a_concatenation_with_a_part_missing_is_refused(self, tmp_path):
        one = enhanced_ct()
        one.ConcatenationUID, one.InConcatenationNumber, one.InConcatenationTotalNumber = "1.2.3", 1, 2
        assert only_ct(grouped(tmp_path, [one])).reasons == ("concatenation_incomplete",)

    @pytest.mark.parametrize("numbers", [(8,), (2,) * 12, (1,) * 11 + (3,)])
    def test_frames_in_the_ordinary_class_are_refused_by_their_name(self, tmp_path, numbers):
        slices = ct_series(len(numbers))
        for one, frames in zip(slices, numbers, strict=True):
            one.NumberOfFrames, one.PixelData = frames, one.PixelData * frames
        assert "multi_frame_ct_image" in only_ct(grouped(tmp_path, slices)).reasons


def test_every_code_that_grouping_can_tell_is_registered():
    import ast
    import inspect

    from ct_assets.dicom import geometry, splitting

    codes = {f"split_by_{name}" for name in splitting.SPLIT_BY}
    for module in (geometry, series):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "_" in node.value:
                codes.add(node.value)
    known = {one.code for one in reasons.all_reasons()}
    told = {"missing_slices", "gantry_tilt", "localizer_inside", "several_kernels", "contradicting_instances"}
    assert told <= codes & known
    assert {f"split_by_{name}" for name in splitting.SPLIT_BY} <= known

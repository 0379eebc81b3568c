"""Mask objects against their CT: references, geometry, tumour, each fault by name."""

import copy

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ct_assets.cohort import mask_decisions
from ct_assets.cohort.ct_prepro_audit import build
from ct_assets.dicom import index as header_index
from ct_assets.imaging.convert_tree import convert
from ct_assets.settings import Settings
from ct_assets.settings.audit import AuditSettings
from ct_assets.settings.conversion import MaskSettings
from ct_assets_tests.dicom.factory import ct_series, rtstruct, scanned, seg, uid


def audited(folder, datasets, **settings):
    """Masks of the audit by SOPInstanceUID."""
    found = build(scanned(folder, datasets), folder, AuditSettings(**settings))
    return {row["sop_instance_uid"]: row for row in found.masks.iter_rows(named=True)}


def audited_seg(folder, ct, one, **settings):
    return audited(folder, [*ct, one], **settings)[one.SOPInstanceUID]


def shift_frames(one, shift):
    for group in one.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient = list(np.array(place.ImagePositionPatient, float) + shift)


class TestASegThatFits:
    def test_meets_every_check(self, tmp_path):
        ct = ct_series()
        row = audited_seg(tmp_path, ct, seg(ct))
        checks = (
            "references_principal_series",
            "is_referenced_series_present",
            "frame_of_reference_matches",
            "orientation_matches",
            "pixel_spacing_matches",
            "pixels_coincide",
            "positions_match",
            "is_inside_volume",
            "geometry_fits",
            "is_usable",
        )
        assert {name: row[name] for name in checks} == dict.fromkeys(checks, True)
        assert (row["reasons"], row["warnings"]) == ([], [])
        assert row["referenced_series_instance_uid"] == ct[0].SeriesInstanceUID

    def test_tells_the_tumour_and_its_volume(self, tmp_path):
        ct = ct_series()
        row = audited_seg(tmp_path, ct, seg(ct))
        assert (row["tumour_segment_number"], row["tumour_segment_label"]) == (1, "GTV-1")
        assert row["tumour_voxels"] == 18
        assert row["tumour_volume_ml"] == pytest.approx(18 * 0.75 * 0.75 * 2.5 / 1000)

    def test_may_have_its_frames_in_any_order(self, tmp_path):
        ct = ct_series()
        assert audited_seg(tmp_path, ct, seg(ct[::-1]))["geometry_fits"]

    def test_may_hold_a_subset_of_the_slices_and_of_the_pixels(self, tmp_path):
        ct = ct_series()
        small = copy.deepcopy(ct[2:6])
        for one in small:
            one.Rows, one.Columns = 3, 4
            one.ImagePositionPatient = [-3 + 2 * 0.75, -2 + 0.75, float(one.ImagePositionPatient[2])]
        lit = np.zeros((4, 3, 4), bool)
        lit[1, 1, 1] = True
        row = audited_seg(tmp_path, ct, seg(small, lit=[lit]))
        assert (row["geometry_fits"], row["planes"]) == (True, 4)

    def test_may_have_its_rows_and_columns_flipped(self, tmp_path):
        ct = ct_series()
        flipped = copy.deepcopy(ct)
        for one in flipped:
            one.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
            x, y, z = (float(value) for value in one.ImagePositionPatient)
            one.ImagePositionPatient = [x + 7 * 0.75, y + 5 * 0.75, z]
        assert audited_seg(tmp_path, ct, seg(flipped))["geometry_fits"]


class TestASegThatDoesNotFit:
    def test_far_outside(self, tmp_path):
        ct = ct_series()
        one = seg(ct)
        one.FrameOfReferenceUID = uid("elsewhere")
        shift_frames(one, [0, 0, 500])
        row = audited_seg(tmp_path, ct, one)
        assert row["reasons"] == ["mask_outside_volume"]
        assert (row["geometry_fits"], row["frame_of_reference_matches"]) == (False, False)

    def test_half_a_pixel_aside(self, tmp_path):
        ct = ct_series()
        one = seg(ct)
        shift_frames(one, [0.375, 0, 0])
        row = audited_seg(tmp_path, ct, one)
        assert (row["reasons"], row["pixels_coincide"]) == (["mask_grid_differs"], False)

    def test_between_the_slices(self, tmp_path):
        ct = ct_series()
        one = seg(ct)
        shift_frames(one, [0, 0, 1.0])
        row = audited_seg(tmp_path, ct, one)
        assert (row["positions_match"], row["pixels_coincide"]) == (False, True)
        assert row["max_plane_offset_mm"] == pytest.approx(1.0)

    def test_on_a_finer_grid(self, tmp_path):
        ct = ct_series()
        finer = copy.deepcopy(ct)
        for one in finer:
            one.PixelSpacing = [0.5, 0.5]
        row = audited_seg(tmp_path, ct, seg(finer))
        assert (row["pixel_spacing_matches"], row["geometry_fits"]) == (False, False)

    def test_in_another_plane(self, tmp_path):
        ct = ct_series()
        one = seg(ct)
        shared = one.SharedFunctionalGroupsSequence[0]
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        row = audited_seg(tmp_path, ct, one)
        assert (row["orientation_matches"], row["geometry_fits"]) == (False, False)

    def test_without_positions(self, tmp_path):
        ct = ct_series()
        one = seg(ct)
        for group in one.PerFrameFunctionalGroupsSequence:
            del group.PlanePositionSequence
        assert "mask_position_missing" in audited_seg(tmp_path, ct, one)["reasons"]


class TestReferences:
    def test_to_a_series_that_is_not_there(self, tmp_path):
        ct = ct_series()
        row = audited_seg(tmp_path, ct, seg(ct_series(series_name="lost")))
        assert row["reasons"] == ["mask_references_missing_series"]
        assert row["references_principal_series"] is False
        assert row["referenced_series_instance_uid"] == uid("series", "P1", "lost")

    def test_to_another_series_than_the_principal_one(self, tmp_path):
        thin, thick = ct_series(24, 1.25, series_name="thin"), ct_series()
        one = seg(thick)
        row = audited(tmp_path, [*thin, *thick, one])[one.SOPInstanceUID]
        assert (row["references_principal_series"], row["geometry_fits"]) == (False, True)

    def test_to_another_patients_series(self, tmp_path):
        theirs = ct_series(patient="P2")
        one = seg(theirs, patient="P1")
        row = audited(tmp_path, [*ct_series(), *theirs, one])[one.SOPInstanceUID]
        assert row["reasons"] == ["mask_of_other_patient"]

    def test_to_a_refused_series(self, tmp_path):
        ct = ct_series()
        row = audited_seg(tmp_path, ct[:5] + ct[6:], seg(ct))
        assert "referenced_series_refused" in row["reasons"]
        assert row["referenced_instances_present"] == 11

    def test_of_a_structure_set_by_its_contours(self, tmp_path):
        ct = ct_series()
        one = rtstruct(ct, ("LUNGS", "GTVp", "CTVp"))
        row = audited(tmp_path, [*ct, one])[one.SOPInstanceUID]
        assert (row["kind"], row["referenced_by"], row["geometry_fits"]) == ("rtstruct", "sop_instance", True)
        assert row["tumour_segment_label"] == "GTVp"


class TestContent:
    def test_an_empty_mask(self, tmp_path):
        ct = ct_series()
        row = audited_seg(tmp_path, ct, seg(ct, lit=[np.zeros((12, 6, 8), bool)]))
        assert (row["is_empty"], row["reasons"]) == (True, ["mask_empty"])

    def test_an_empty_tumour_beside_a_full_organ(self, tmp_path):
        ct = ct_series()
        full = np.ones((12, 6, 8), bool)
        row = audited_seg(tmp_path, ct, seg(ct, ("GTV-1", "Lung"), lit=[~full, full]))
        assert row["reasons"] == ["tumour_segment_empty"]

    def test_overlapping_segments_are_told_and_ranked(self, tmp_path):
        ct = ct_series()
        row = audited_seg(tmp_path, ct, seg(ct, ("CTV-1", "GTV-1")))
        assert (row["has_overlap"], row["tumour_segment_number"], row["reasons"]) == (True, 2, [])

    def test_two_tumours_of_one_rank_are_refused_by_name(self, tmp_path):
        ct = ct_series()
        row = audited_seg(tmp_path, ct, seg(ct, ("Lesion A", "Lesion B")))
        assert (row["reasons"], row["is_tumour_ambiguous"]) == (["tumour_segment_ambiguous"], True)
        assert row["tumour_candidates"] == 2

    def test_ranks_are_a_setting(self, tmp_path):
        ct = ct_series()
        row = audited_seg(
            tmp_path, ct, seg(ct, ("Lesion A", "Lesion B")), tumour={"ranks": [["lesion b"], ["lesion"]]}
        )
        assert row["tumour_segment_label"] == "Lesion B"


class TestOneDecision:
    """Audit and conversion decide alike, whatever the mask is and whatever the settings are."""

    def both(self, folder, datasets, settings):
        index = scanned(folder / "in", datasets)
        found = build(index, folder / "in", settings.audit, settings.conversion.masks)
        lines = convert(folder / "in", folder / "out", settings, workers=1)
        status = {
            line["uid"]: line["status"] == "converted"
            for line in lines
            if line["kind"] in ("seg", "rtstruct")
        }
        return {
            row["sop_instance_uid"]: row["is_usable"] for row in found.masks.iter_rows(named=True)
        }, status

    @pytest.mark.parametrize("other_grid", ["refuse", "nearest"])
    def test_of_masks_of_every_kind(self, tmp_path, other_grid):
        ct = ct_series()
        finer = copy.deepcopy(ct)
        for one in finer:
            one.PixelSpacing = [0.375, 0.375]
        elsewhere, aside, empty, xor, across = (
            seg(ct), seg(ct), seg(ct, lit=[np.zeros((12, 6, 8), bool)]), rtstruct(ct, ("GTVp",)), rtstruct(ct, ("GTVp",))
        )  # fmt: skip
        elsewhere.FrameOfReferenceUID = uid("elsewhere")
        shift_frames(aside, [0.3, 0, 0])
        masks = [seg(ct), seg(finer), elsewhere, aside, empty, rtstruct(ct, ("GTVp",)), xor, across]
        for contour in xor.ROIContourSequence[0].ContourSequence:
            contour.ContourGeometricType = "CLOSEDPLANAR_XOR"
        for contour in across.ROIContourSequence[0].ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            contour.ContourData = [f"{value:.4f}" for value in points[:, [2, 0, 1]].ravel()]
        for number, one in enumerate(masks):
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = uid("mask", number)
            one.SeriesInstanceUID = uid("mask series", number)
        settings = Settings.model_validate({"conversion": {"masks": {"other_grid": other_grid}}})
        audited, converted = self.both(tmp_path, [*ct, *masks], settings)
        assert audited == converted
        assert len(converted) == len(masks)
        assert len(set(converted.values())) == 2

    def test_is_not_made_again_for_what_did_not_change(self, tmp_path, monkeypatch):
        ct = ct_series()
        index = scanned(tmp_path, [*ct, seg(ct)])
        first = build(index, tmp_path, AuditSettings())
        monkeypatch.setattr(mask_decisions, "load_mask", lambda *_: 1 / 0)
        again = build(index, tmp_path, AuditSettings(), before=first.decisions)
        assert again.masks.equals(first.masks)
        other = MaskSettings(outside="crop")
        changed = build(index, tmp_path, AuditSettings(), other, before=first.decisions)
        assert changed.masks["reasons"].to_list() == [["unexpected_failure"]]


def scanned_with(folder, dataset):
    """Add a file whose SOPInstanceUID another one has, and scan the folder."""
    dataset.save_as(folder / "again", enforce_file_format=True)
    return header_index.scan(folder, root=folder, workers=1)


class TestObjectsUnderOneUid:
    def test_unlike_masks_have_a_line_each_in_audit_and_conversion(self, tmp_path):
        ct = ct_series()
        one, other = seg(ct), seg(ct, ("Lung",))
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        scanned(tmp_path / "in", [*ct, one])
        index = scanned_with(tmp_path / "in", other)
        found = build(index, tmp_path / "in", AuditSettings()).masks
        assert found["reasons"].to_list() == [["contradicting_instances"]] * 2
        lines = convert(tmp_path / "in", tmp_path / "out", Settings(), workers=1)
        assert [(line["kind"], line["status"]) for line in lines] == [
            ("ct", "converted"), ("seg", "refused"), ("seg", "refused")
        ]  # fmt: skip

    def test_a_mask_that_took_the_uid_of_a_slice_costs_no_slice(self, tmp_path):
        ct = ct_series()
        one = seg(ct)
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = ct[3].SOPInstanceUID
        scanned(tmp_path / "in", ct)
        scanned_with(tmp_path / "in", one)
        lines = convert(tmp_path / "in", tmp_path / "out", Settings(), workers=1)
        assert [(line["kind"], line["status"], line["reasons"]) for line in lines] == [
            ("ct", "converted", []), ("seg", "refused", ["contradicting_instances"])
        ]  # fmt: skip
        assert lines[0]["shape"][2] == len(ct)


class TestWhereASegNamesItsImages:
    def only(self, ct, **elements):
        one = seg(ct)
        del one.ReferencedSeriesSequence
        for group in one.PerFrameFunctionalGroupsSequence:
            if "DerivationImageSequence" in group:
                del group.DerivationImageSequence
        for keyword, value in elements.items():
            setattr(one, keyword, value)
        return one

    def images(self, ct):
        items = []
        for one in ct:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
            items.append(item)
        return items

    @pytest.mark.parametrize("keyword", ["SourceImageSequence", "ReferencedImageSequence"])
    def test_at_the_top(self, tmp_path, keyword):
        ct, other = ct_series(), ct_series(series_name="other")
        one = self.only(ct, **{keyword: self.images(ct)})
        row = audited(tmp_path, [*ct, *other, one])[one.SOPInstanceUID]
        assert (row["referenced_series_instance_uid"], row["referenced_by"]) == (
            ct[0].SeriesInstanceUID, "sop_instance"
        )  # fmt: skip

    def test_among_the_instances_of_other_studies(self, tmp_path):
        ct, other = ct_series(), ct_series(series_name="other")
        series, study = Dataset(), Dataset()
        series.SeriesInstanceUID = ct[0].SeriesInstanceUID
        series.ReferencedInstanceSequence = self.images(ct)
        study.StudyInstanceUID, study.ReferencedSeriesSequence = ct[0].StudyInstanceUID, [series]
        one = self.only(ct, StudiesContainingOtherReferencedInstancesSequence=[study])
        row = audited(tmp_path, [*ct, *other, one])[one.SOPInstanceUID]
        assert row["referenced_series_instance_uid"] == ct[0].SeriesInstanceUID

    def test_a_prior_that_is_named_besides_the_sources_is_not_meant(self, tmp_path):
        ct, prior = ct_series(), ct_series(series_name="prior")
        one = self.only(
            ct, SourceImageSequence=self.images(ct[:4]), ReferencedImageSequence=self.images(prior)
        )
        row = audited(tmp_path, [*ct, *prior, one])[one.SOPInstanceUID]
        assert row["referenced_series_instance_uid"] == ct[0].SeriesInstanceUID

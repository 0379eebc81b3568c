"""The CT preprocessing audit: the JSON's shape, the tables beside it, and the cohort's own questions."""

import csv

import orjson
import polars as pl
import pytest

from ct_assets import files, reasons
from ct_assets.cohort.ct_prepro_audit import build
from ct_assets.dicom import index
from ct_assets.settings.audit import AuditSettings
from ct_assets_tests.dicom.factory import ct_series, rtstruct, scanned, seg, write


def audit_of(folder, datasets, **settings):
    return build(scanned(folder, datasets), folder, AuditSettings(**settings))


@pytest.fixture
def cohort(tmp_path):
    """Two patients: one complete, one with two series and no mask."""
    ct = ct_series()
    gapped = ct_series(patient="P2", series_name="gapped")
    del gapped[4]
    datasets = [*ct, seg(ct), rtstruct(ct), *ct_series(patient="P2"), *gapped]
    return audit_of(tmp_path / "dicom", datasets)


class TestTheJson:
    def test_has_the_shape_that_others_rely_on(self, cohort, tmp_path):
        cohort.write(tmp_path / "out")
        document = files.read_json(tmp_path / "out/ct_prepro_audit.json")
        patients = document["by_patient_id"]["patient_id"]
        assert set(patients) == {"P1", "P2"}
        assert patients["P1"]["principal_series"]["has_principal_series"] is True
        assert patients["P1"]["principal_series"]["series_instance_uid"] == ct_series()[0].SeriesInstanceUID
        assert len(patients["P1"]["files"]) == 14
        masks = [one["mask_audit"] for one in patients["P1"]["files"] if one["mask_audit"]["is_seg"]]
        assert [one["referenced_series_instance_uid"] for one in masks] == [ct_series()[0].SeriesInstanceUID]
        assert all("is_seg" in one["mask_audit"] for one in patients["P2"]["files"])

    def test_records_choice_and_runners_up(self, cohort):
        principal = cohort.document["by_patient_id"]["patient_id"]["P2"]["principal_series"]
        assert principal["why"] == "geometry_not_refused"
        (runner_up,) = principal["runners_up"]
        assert runner_up["why_not"] == "geometry_not_refused"

    def test_explains_every_code_that_it_uses(self, cohort):
        document = cohort.document
        used = {
            code
            for patient in document["by_patient_id"]["patient_id"].values()
            for one in patient["series"].values()
            for code in (*one["reasons"], *one["warnings"])
        }
        assert used
        assert used <= set(document["reason_codes"])
        assert all(one["meaning"] for one in document["reason_codes"].values())

    def test_places_every_file_in_a_series(self, cohort):
        for patient in cohort.document["by_patient_id"]["patient_id"].values():
            for one in patient["files"]:
                assert one["series_id"] in patient["series"]

    def test_tells_geometry_with_units_and_gaps_with_places(self, cohort):
        series = cohort.document["by_patient_id"]["patient_id"]["P2"]["series"]
        (gapped,) = [one for one in series.values() if one["decision"] == "refuse"]
        assert gapped["reasons"] == ["missing_slices"]
        assert gapped["gaps"] == [{"after_slice": 3, "gap_mm": 5.0, "missing_slices": 1}]
        assert gapped["slice_spacing_mm"] == 2.5

    def test_is_the_same_bytes_for_the_same_input(self, cohort, tmp_path):
        shuffled = cohort.index.sample(fraction=1, shuffle=True, seed=1)
        again = build(shuffled, tmp_path / "dicom", AuditSettings())
        assert orjson.dumps(again.document) == orjson.dumps(cohort.document)
        assert again.digest == cohort.digest


class TestTheTables:
    def test_fit_their_schemas(self, cohort, tmp_path):
        cohort.write(tmp_path / "out")
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            "ct_prepro_audit.json",
            "series.parquet",
            "masks.parquet",
            "mask_decisions.parquet",
            "patients.parquet",
        }

    def test_tell_of_a_patient_what_eligibility_asks(self, cohort):
        rows = {row["patient_id"]: row for row in cohort.patients.iter_rows(named=True)}
        assert rows["P1"]["has_exactly_one_seg"]
        assert rows["P1"]["seg_references_principal_series"]
        assert rows["P1"]["seg_geometry_fits"]
        assert rows["P1"]["seg_has_tumour"]
        assert (rows["P1"]["rtstruct_objects"], rows["P1"]["files"]) == (1, 14)
        assert not rows["P2"]["has_exactly_one_seg"]
        assert (rows["P2"]["ct_series"], rows["P2"]["ct_series_not_refused"]) == (2, 1)

    def test_two_segs_are_counted_and_neither_is_the_one(self, tmp_path):
        ct = ct_series()
        row = audit_of(tmp_path, [*ct, seg(ct), seg(ct, name="again")]).patients.row(0, named=True)
        assert (row["seg_objects"], row["has_exactly_one_seg"], row["seg_sop_instance_uid"]) == (
            2,
            False,
            None,
        )

    def test_an_empty_cohort_is_empty_tables(self, tmp_path):
        found = audit_of(tmp_path / "none", [])
        found.write(tmp_path / "out")
        assert (found.series.height, found.masks.height, found.patients.height) == (0, 0, 0)


class TestAcrossBatches:
    def test_equal_instances_count_once(self, tmp_path):
        ct = ct_series()
        write(tmp_path / "a", [*ct, seg(ct)])
        write(tmp_path / "b", [ct[0], seg(ct)])
        parts = [index.scan(tmp_path / name, root=tmp_path, workers=1) for name in "ab"]
        found = build(pl.concat(parts), tmp_path, AuditSettings())
        row = found.patients.row(0, named=True)
        assert (row["files"], row["seg_objects"], row["has_exactly_one_seg"]) == (13, 1, True)
        assert found.series.filter(kind="ct")["decision"].to_list() == ["convert"]

    def test_unequal_ones_are_refused_by_name(self, tmp_path):
        ct, other = ct_series(), ct_series()
        other[0].PixelData = bytes(len(other[0].PixelData))
        write(tmp_path / "a", ct)
        write(tmp_path / "b", other[:1])
        parts = [index.scan(tmp_path / name, root=tmp_path, workers=1) for name in "ab"]
        found = build(pl.concat(parts), tmp_path, AuditSettings())
        assert "contradicting_instances" in found.series.row(0, named=True)["reasons"]
        assert found.patients.row(0, named=True)["contradicting_instances"] == 1

    def test_a_ct_of_one_batch_and_its_seg_of_another_belong_together(self, tmp_path):
        ct = ct_series()
        write(tmp_path / "a", ct)
        write(tmp_path / "b", [seg(ct)])
        parts = [index.scan(tmp_path / name, root=tmp_path, workers=1) for name in "ab"]
        row = build(pl.concat(parts), tmp_path, AuditSettings()).patients.row(0, named=True)
        assert (row["seg_references_principal_series"], row["seg_geometry_fits"]) == (True, True)


def test_principal_rules_of_a_refusal_are_registered_codes():
    for code in ("no_geometry", "not_axial", "too_few_slices"):
        assert reasons.reason(code).meaning


@pytest.fixture(scope="module")
def found(real_data):
    root = real_data / "lung_cohort/drops"
    return build(index.scan(root, root=root, workers=1), root, AuditSettings())


@pytest.fixture(scope="module")
def expected(real_data):
    with (real_data / "lung_cohort/expected.csv").open() as opened:
        return {row["patient"]: row for row in csv.DictReader(opened)}


@pytest.mark.real
class TestTheSharedCohort:
    """Reads the drops as they are: what holds for the originals holds for the de-identified ones."""

    def test_finds_each_patients_own_fault_and_no_other(self, found, expected):
        patients = {row["patient_id"]: row for row in found.patients.iter_rows(named=True)}
        for patient, row in expected.items():
            if row["eligible"] == "yes":
                seen = patients[patient]
                assert seen["principal_decision"] == "convert", patient
                assert seen["seg_references_principal_series"], patient
                assert seen["seg_geometry_fits"], patient
                assert seen["seg_reasons"] == [], patient
        refused = {
            "slice missing in the middle": "missing_slices",
            "two slices at the same position": "duplicate_positions",
            "one SOPInstanceUID with two contents": "contradicting_instances",
            "empty UIDs": "missing_series_instance_uid",
        }
        for patient, row in expected.items():
            if row["reason"] in refused:
                assert refused[row["reason"]] in patients[patient]["principal_reasons"], patient
        by_reason = {row["reason"]: patients.get(patient) for patient, row in expected.items()}
        assert by_reason["two SEG objects"]["seg_objects"] == 2
        assert by_reason["no SEG"]["seg_objects"] == 0
        assert by_reason["no CT"]["ct_series"] == 0
        assert by_reason["slices too thick"]["principal_slice_spacing_mm"] == pytest.approx(9.81)
        assert not by_reason["SEG references another series"]["seg_references_principal_series"]
        assert by_reason["SEG geometry does not fit the CT"]["seg_geometry_fits"] is False

    def test_measures_the_tumours_volumes(self, found, expected):
        volumes = {
            row["patient_id"]: row["tumour_volume_ml"]
            for row in found.masks.filter(kind="seg").iter_rows(named=True)
        }
        for patient, row in expected.items():
            if row["eligible"] == "yes":
                # the FRACTIONAL one is cut at half, its reference is the outline: 0.2 %
                assert volumes[patient] == pytest.approx(float(row["gtv_ml"]), rel=2e-3), patient

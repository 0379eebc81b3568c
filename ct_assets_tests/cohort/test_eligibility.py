"""Eligibility: conditions are SQL; each is met or not met, with its reason, for every patient."""

import csv
from pathlib import Path

import polars as pl
import pytest

from ct_assets import reasons, tables
from ct_assets.cohort import eligibility
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.settings.cohort import EligibilitySettings
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets.tables.cohort import Eligibility
from ct_assets_tests.cohort.audit_tables import cohort_of

SHIPPED = EligibilitySettings(query=PROJECT_ROOT / "configs/eligibility.sql")
CONDITIONS = [
    "has_label_row", "has_label_of_its_own", "has_one_known_stage",
    "has_ct", "has_principal_series", "has_one_seg", "seg_references_principal_series",
    "ct_geometry_is_valid", "slices_are_thin_enough", "seg_geometry_is_valid", "mask_has_tumour", "seg_is_usable",
]  # fmt: skip

NO_PRINCIPAL = {
    "has_principal_series": False,
    "principal_series_id": None,
    "principal_series_instance_uid": None,
    "principal_decision": None,
    "principal_slices": None,
    "principal_slice_spacing_mm": None,
    "principal_slice_thickness_mm": None,
    "seg_references_principal_series": None,
}
NO_ONE_SEG = {
    "has_exactly_one_seg": False,
    "seg_sop_instance_uid": None,
    "seg_references_principal_series": None,
    "seg_geometry_fits": None,
    "seg_has_tumour": None,
}


def judged(**changes) -> dict:
    """What the shipped query says of a patient without a fault but these."""
    return eligibility.judge(cohort_of("P1", P1=changes), SHIPPED).row(0, named=True)


class TestTheShippedQuery:
    def test_finds_a_patient_without_a_fault_eligible(self):
        row = judged()
        assert row["is_eligible"]
        assert row["reasons"] == []
        assert all(row[condition] for condition in CONDITIONS)

    @pytest.mark.parametrize(
        ("changes", "unmet", "told"),
        [
            ({"label": {"rows": 0, "stage": None, "reasons": ["no_label"]}}, "has_label_row", ["no_label"]),
            (
                {"label": {"stage": None, "reasons": ["label_id_shared"]}},
                "has_label_of_its_own",
                ["label_id_shared"],
            ),
            (
                {"label": {"stage": None, "reasons": ["stage_missing"]}},
                "has_one_known_stage",
                ["stage_missing"],
            ),
            (
                {"label": {"stage": None, "reasons": ["age_unreadable", "stage_contradictory"]}},
                "has_one_known_stage",
                ["stage_contradictory"],
            ),
            (
                {
                    "patient": {
                        "ct_series": 0,
                        "ct_series_not_refused": 0,
                        **NO_PRINCIPAL,
                        "seg_reasons": ["mask_references_missing_series"],
                    }
                },
                "has_ct",
                ["no_ct"],
            ),
            (
                {
                    "patient": NO_PRINCIPAL,
                    "series": {"is_principal": False, "not_principal_because": "too_few_slices"},
                },
                "has_principal_series",
                ["no_principal_series", "too_few_slices"],
            ),
            ({"patient": {"seg_objects": 0, **NO_ONE_SEG}}, "has_one_seg", ["no_seg"]),
            ({"patient": {"seg_objects": 2, **NO_ONE_SEG}}, "has_one_seg", ["several_segs"]),
            (
                {
                    "patient": {
                        "seg_references_principal_series": False,
                        "seg_geometry_fits": None,
                        "seg_reasons": ["mask_references_missing_series"],
                    }
                },
                "seg_references_principal_series",
                ["seg_references_other_series", "mask_references_missing_series"],
            ),
            (
                {
                    "patient": {
                        "principal_decision": "refuse",
                        "principal_reasons": ["missing_slices"],
                        "seg_reasons": ["referenced_series_refused"],
                    }
                },
                "ct_geometry_is_valid",
                ["ct_geometry_refused", "missing_slices"],
            ),
            (
                {"patient": {"principal_slice_spacing_mm": 9.81, "principal_slice_thickness_mm": 3.0}},
                "slices_are_thin_enough",
                ["slices_too_thick"],
            ),
            (
                {"patient": {"principal_slice_thickness_mm": 9.81}},
                "slices_are_thin_enough",
                ["slices_too_thick"],
            ),
            (
                {"patient": {"seg_geometry_fits": False, "seg_reasons": ["mask_outside_volume"]}},
                "seg_geometry_is_valid",
                ["seg_misfit", "mask_outside_volume"],
            ),
            (
                {"patient": {"seg_has_tumour": False, "seg_reasons": ["mask_empty"]}},
                "mask_has_tumour",
                ["tumour_missing", "mask_empty"],
            ),
            (
                {"patient": {"seg_reasons": ["mask_of_other_patient"]}},
                "seg_is_usable",
                ["seg_unusable", "mask_of_other_patient"],
            ),
        ],
    )
    def test_tells_the_one_reason_of_a_patient_with_one_fault(self, changes, unmet, told):
        row = judged(**changes)
        assert not row["is_eligible"]
        assert row[unmet] is False
        assert row["reasons"] == told
        assert all(reasons.reason(code) for code in told)

    def test_corrected_geometry_and_an_absent_thickness_are_no_fault(self):
        assert judged(patient={"principal_decision": "correct"})["is_eligible"]
        assert judged(patient={"principal_slice_thickness_mm": None})["is_eligible"]

    def test_judges_patients_of_whom_nothing_was_released(self):
        inputs = cohort_of("P1")
        inputs["patients"] = inputs["patients"].clear()
        row = eligibility.judge(inputs, SHIPPED).row(0, named=True)
        assert row["reasons"] == ["no_ct", "no_seg"]

    def test_judges_patients_whom_the_labels_do_not_know(self):
        inputs = cohort_of("P1", P1={"label": None})
        assert eligibility.judge(inputs, SHIPPED).row(0, named=True)["reasons"] == ["no_label"]

    def test_gives_every_patient_a_row_in_a_fixed_order(self):
        forward = eligibility.judge(cohort_of("P1", "P2", "P3"), SHIPPED)
        backward = eligibility.judge(
            {name: table.reverse() for name, table in cohort_of("P1", "P2", "P3").items()}, SHIPPED
        )
        assert forward["patient_id"].to_list() == ["P1", "P2", "P3"]
        assert forward.equals(backward)

    def test_of_nobody_is_an_empty_table(self, tmp_path):
        empty = {name: table.clear() for name, table in cohort_of("P1").items()}
        table = eligibility.judge(empty, SHIPPED)
        assert table.height == 0
        eligibility.write(table, Layout(tmp_path))
        assert eligibility.conditions_of(table) == CONDITIONS


class TestWhatIsWritten:
    def test_parquet_and_both_lists(self, tmp_path):
        layout = Layout(tmp_path)
        changes = {"P2": {"patient": {"seg_geometry_fits": False, "seg_reasons": ["mask_outside_volume"]}}}
        table = eligibility.judge(cohort_of("P1", "P2", **changes), SHIPPED)
        eligibility.write(table, layout)
        written = pl.read_parquet(layout.eligibility)
        assert all(written.schema[condition] == pl.Boolean for condition in CONDITIONS)
        assert tables.read_table(layout.eligibility, Eligibility)["is_eligible"].to_list() == [True, False]
        with layout.excluded.open() as opened:
            assert list(csv.reader(opened)) == [
                ["patient_id", "reasons"],
                ["P2", "seg_misfit;mask_outside_volume"],
            ]
        with layout.cohort_list.open() as opened:
            (row,) = csv.DictReader(opened)
        assert (row["patient_id"], row["stage"], row["principal_slices"]) == ("P1", "II", "40")

    def test_the_same_tables_give_the_same_bytes(self, tmp_path):
        for name in ("one", "two"):
            eligibility.write(eligibility.judge(cohort_of("P1", "P2"), SHIPPED), Layout(tmp_path / name))
        one, two = (Layout(tmp_path / name) for name in ("one", "two"))
        for path in ("eligibility", "cohort_list", "excluded"):
            assert getattr(one, path).read_bytes() == getattr(two, path).read_bytes()


GOOD = "SELECT patient_id, files > 1 AS has_files, 'too_few_files' AS has_files__reason FROM patients"


class TestAQueryOfSomebodyElse:
    @pytest.fixture
    def judge(self, tmp_path):
        def run(sql: str, **changes) -> pl.DataFrame:
            path: Path = tmp_path / "own.sql"
            path.write_text(sql)
            return eligibility.judge(cohort_of("P1", "P2", **changes), EligibilitySettings(query=path))

        return run

    def test_brings_its_own_conditions_and_codes(self, judge):
        table = judge(GOOD, P2={"patient": {"files": 1}})
        assert table["has_files"].to_list() == [True, False]
        assert table["reasons"].to_list() == [[], ["too_few_files"]]

    def test_sees_kept_columns_and_all_tables(self, judge):
        table = judge(
            """SELECT patient_id, count(*) > 0 AS c, 'x' AS c__reason, max(m.tumour_segment_number) AS segment
               FROM patients JOIN labels USING (patient_id) JOIN series USING (patient_id)
               JOIN masks m USING (patient_id) WHERE (SELECT count(*) FROM label_report) = 0 GROUP BY ALL"""
        )
        assert table["segment"].to_list() == [1, 1]

    def test_an_unknown_condition_is_not_met(self, judge):
        table = judge(GOOD.replace("files > 1", "CASE WHEN patient_id = 'P1' THEN TRUE END"))
        assert table["is_eligible"].to_list() == [True, False]

    def test_may_tell_several_codes(self, judge):
        table = judge(
            GOOD.replace("files > 1", "FALSE").replace("'too_few_files'", "['first', 'second', 'first']")
        )
        assert table["reasons"].to_list() == [["first", "second"]] * 2

    @pytest.mark.parametrize(
        ("sql", "says"),
        [
            (
                "SELECT patient_id,\n  no_such_column > 1 AS c\nFROM patients",
                r"own\.sql: line 2 .*no_such_column",
            ),
            ("SELECT patient_id\nFROM\n  nowhere", r"line 3 .*nowhere.*The tables are label_report, labels"),
            ("-- who\n-- may\n\nSELECT patient_id\nFROM\n  nowhere", r"line 6 \(nowhere\)"),
            ("-- who\nSELECT patient_id\n\nFRM patients", r"line 4 .*syntax error"),
            ("SELECT 1; SELECT 2", "one SELECT"),
            ("DROP TABLE patients", "one SELECT"),
            ("", "one SELECT"),
            ("COPY patients TO 'out.csv'", "one SELECT"),
            ("SELECT * FROM read_csv('/etc/passwd')", "own.sql"),
            ("SELECT files, patient_id FROM patients", "first column"),
            ("SELECT patient_id FROM patients", "no BOOLEAN column"),
            ("SELECT patient_id, TRUE AS c FROM patients", "c__reason beside it"),
            (
                "SELECT patient_id, TRUE AS c, 'x' AS c__reason, 'x' AS d__reason FROM patients",
                "d__reason belongs to no",
            ),
            ("SELECT patient_id, TRUE AS c, 1 AS c__reason FROM patients", "must be VARCHAR"),
            ("SELECT patient_id, TRUE AS c, 'x' AS c__reason, [1] AS fact FROM patients", "a fact is text"),
            (
                "SELECT patient_id, TRUE AS is_eligible, 'x' AS is_eligible__reason FROM patients",
                "another name",
            ),
            ("SELECT patient_id, TRUE AS c, TRUE AS c FROM patients", "two columns have one name"),
            (GOOD + " WHERE patient_id = 'P1'", "1 of 2 patients have no row"),
            (GOOD + " UNION ALL " + GOOD, "2 rows tell a patient again"),
            (GOOD + " UNION ALL SELECT 'P9', TRUE, 'x'", "in no table"),
            (GOOD + " UNION ALL SELECT NULL, TRUE, 'x'", "has no patient"),
            (
                GOOD.replace("files > 1", "FALSE").replace("'too_few_files'", "NULL"),
                "excluded by has_files without a reason",
            ),
            (GOOD.replace("files > 1", "FALSE").replace("'too_few_files'", "'Too few'"), "lower_snake_case"),
        ],
    )
    def test_that_breaks_the_contract_is_refused_with_line_and_reason(self, judge, sql, says):
        with pytest.raises(UsageError, match=says) as caught:
            judge(sql)
        assert "own.sql" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_that_is_not_there_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            eligibility.judge(cohort_of("P1"), EligibilitySettings(query=tmp_path / "none.sql"))

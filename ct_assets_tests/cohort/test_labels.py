"""The clinic's table: every row is used or reported, nothing is guessed, nothing undeclared is kept."""

import stat
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from ct_assets.cohort import labels
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.identity.pseudonyms import pseudonym
from ct_assets.layout import Layout
from ct_assets.settings.cohort import KeptColumn, LabelSettings

HEADER = "PatientID,Age,Sex,Site,Overall Stage,Remarks"


@pytest.fixture
def key(secret_hex) -> SecretKey:
    return SecretKey.from_hex(secret_hex)


@pytest.fixture
def clinic(tmp_path, key):
    """Build labels from rows of a table, for patients given as ID or (ID, issuer)."""

    def build(
        rows: list[str], patients: list, *, header: str = HEADER, content: bytes | None = None, **settings
    ):
        path = tmp_path / "raw_manifest.csv"
        path.write_bytes(content if content is not None else "\n".join([header, *rows, ""]).encode())
        pairs = [one if isinstance(one, tuple) else (one, "KIS") for one in patients]
        maps = pl.DataFrame(
            [
                {
                    "old_patient_id": patient,
                    "issuer": issuer,
                    "new_patient_id": pseudonym(key, patient, issuer),
                    "shift_days": -40,
                }
                for patient, issuer in pairs
            ],
            schema={
                "old_patient_id": pl.String,
                "issuer": pl.String,
                "new_patient_id": pl.String,
                "shift_days": pl.Int32,
            },
        )
        return labels.build(LabelSettings(csv=path, **settings), key, maps)

    return build


def only(table: pl.DataFrame) -> dict:
    return table.row(0, named=True) if table.height == 1 else pytest.fail(f"{table.height} rows")


def outcomes(report: pl.DataFrame) -> list[tuple[str, list[str]]]:
    return [(row["disposition"], row["reasons"]) for row in report.iter_rows(named=True)]


class TestStages:
    @pytest.mark.parametrize(
        ("written", "stage"),
        [
            ("II", "II"),
            (" IIIb ", "IIIb"),
            ("iiia", "IIIa"),
            ("IIIA", "IIIa"),
            ("Stage IIIa", "IIIa"),
            ("stage  3B", "IIIb"),
            ("1", "I"),
            ("IA2", "I"),
        ],
    )
    def test_are_read_by_declared_spellings(self, clinic, written, stage):
        table, report = clinic([f"A1,60,M,X,{written},"], ["A1"])
        assert only(table)["stage"] == stage
        assert only(table)["reasons"] == []
        assert outcomes(report) == [("used", [])]

    @pytest.mark.parametrize("written", ["", "NA", "n/a", "-", " na "])
    def test_not_told_is_missing(self, clinic, written):
        table, report = clinic([f"A1,60,M,X,{written},"], ["A1"])
        assert only(table)["stage"] is None
        assert outcomes(report) == [("unused", ["stage_missing"])]

    @pytest.mark.parametrize("written", ["III", "IV", "IIIc", "II-III", "2b or 3a", "0", "tumour"])
    def test_of_no_declared_spelling_are_never_guessed(self, clinic, written):
        table, report = clinic([f"A1,60,M,X,{written},"], ["A1"])
        assert only(table)["stage"] is None
        assert outcomes(report) == [("unused", ["stage_unknown"])]

    def test_map_to_the_classes_of_the_settings(self, clinic):
        table, _ = clinic(
            ["A1,60,M,X,iiia,", "A2,60,M,X,IIIb,", "A3,60,M,X,III,"],
            ["A1", "A2", "A3"],
            stages=("I", "II", "III"),
            spellings={"III": ("IIIa", "IIIb")},
        )
        assert table["stage"].to_list() == ["III"] * 3

    def test_bear_edition_and_version(self, clinic):
        table, _ = clinic(["A1,60,M,X,I,"], ["A1"], tnm_edition="7", version="2024-03")
        assert (only(table)["tnm_edition"], only(table)["label_version"]) == ("7", "2024-03")

    def test_a_spelling_of_two_classes_is_refused(self):
        with pytest.raises(ValidationError, match="means both"):
            LabelSettings(stages=("I", "II"), spellings={"I": ("early",), "II": ("Early",)})


class TestSeveralRowsOfOnePatient:
    def test_that_say_the_same_are_one(self, clinic):
        table, report = clinic(["A1,60,M,X,II,", "A1,60,M,X,II,"], ["A1"])
        assert only(table)["stage"] == "II"
        assert outcomes(report) == [("used", []), ("repeated", ["repeated_row"])]

    def test_that_differ_in_spelling_only_are_one(self, clinic):
        _, report = clinic(["A1,60,M,X,II,", "a1 ,60Y,male,x,ii,other remark"], ["A1"])
        assert outcomes(report) == [("used", []), ("repeated", ["repeated_row"])]

    def test_with_two_stages_contradict(self, clinic):
        table, report = clinic(["A1,60,M,X,II,", "A1,60,M,X,IIIb,", "A1,60,M,X,II,"], ["A1"])
        assert only(table)["stage"] is None
        assert only(table)["reasons"] == ["stage_contradictory"]
        assert {reasons[0] for _, reasons in outcomes(report)} == {"stage_contradictory", "repeated_row"}
        assert "used" not in {disposition for disposition, _ in outcomes(report)}

    def test_a_missing_stage_contradicts_nothing(self, clinic):
        table, _ = clinic(["A1,60,M,X,NA,", "A1,60,M,X,II,"], ["A1"])
        assert (only(table)["stage"], only(table)["reasons"]) == ("II", [])

    def test_an_unreadable_stage_contradicts_a_readable_one(self, clinic):
        table, _ = clinic(["A1,60,M,X,III,", "A1,60,M,X,II,"], ["A1"])
        assert only(table)["stage"] is None

    def test_with_two_ages_keep_neither_and_the_stage(self, clinic):
        table, report = clinic(["A1,60,M,X,II,", "A1,61,M,X,II,"], ["A1"])
        assert (only(table)["stage"], only(table)["age_years"]) == ("II", None)
        assert outcomes(report) == [("used", ["value_contradictory"])] * 2


class TestWhomARowSpeaksOf:
    def test_patients_meet_their_images_under_one_pseudonym(self, clinic, key):
        table, _ = clinic(["bsp-0071 ,60,M,X,I,"], [("BSP-0071", "KIS")])
        assert only(table)["patient_id"] == pseudonym(key, "BSP-0071", "KIS")

    def test_leading_zeros_are_part_of_an_id(self, clinic):
        table, report = clinic(["731946,60,M,X,I,"], ["00731946"])
        assert only(table)["stage"] is None
        assert outcomes(report) == [("unused", ["label_without_images"])]

    def test_an_id_of_two_issuers_labels_nobody(self, clinic):
        table, report = clinic(["A1,60,M,X,I,"], [("A1", "KIS"), ("A1", "EPR")])
        assert table["stage"].to_list() == [None, None]
        assert table["reasons"].to_list() == [["label_id_shared"]] * 2
        assert outcomes(report) == [("unused", ["label_id_shared"])]

    def test_spellings_of_one_id_are_one_patient(self, clinic):
        table, _ = clinic(["A1,60,M,X,I,"], [("A1", "KIS"), ("a1 ", "KIS")])
        assert only(table)["stage"] == "I"

    def test_patients_without_a_row_are_there_too(self, clinic):
        table, _ = clinic([], ["A1"])
        assert (only(table)["reasons"], only(table)["rows"]) == (["no_label"], 0)

    def test_without_a_table_nobody_is_labelled(self, clinic, key):
        maps = pl.DataFrame(
            {
                "old_patient_id": ["A1"],
                "issuer": ["K"],
                "new_patient_id": [pseudonym(key, "A1", "K")],
                "shift_days": [1],
            }
        )
        table, report = labels.build(LabelSettings(), key, maps)
        assert only(table)["reasons"] == ["no_label"]
        assert report.is_empty()

    def test_maps_of_another_key_are_refused(self, key, tmp_path):
        maps = pl.DataFrame(
            {"old_patient_id": ["A1"], "issuer": ["K"], "new_patient_id": ["P0"], "shift_days": [1]}
        )
        with pytest.raises(UsageError, match="key in force"):
            labels.build(LabelSettings(), key, maps)


class TestValues:
    @pytest.mark.parametrize(
        ("written", "years"),
        [
            ("68", 68),
            (" 68 ", 68),
            ("068Y", 68),
            ("68.9", 68),
            ("68 years", 68),
            ("0", 0),
            ("89", 89),
            ("93", 89),
        ],
    )
    def test_ages_are_completed_years_and_the_oldest_are_not_revealed(self, clinic, written, years):
        table, _ = clinic([f"A1,{written},M,X,I,"], ["A1"])
        assert only(table)["age_years"] == years

    @pytest.mark.parametrize("written", ["about 60", "6 months", "011M", "-3", "121", "19640312"])
    def test_other_ages_are_null_and_reported(self, clinic, written):
        table, report = clinic([f"A1,{written},M,X,I,"], ["A1"])
        assert only(table)["age_years"] is None
        assert outcomes(report) == [("used", ["age_unreadable"])]

    @pytest.mark.parametrize(
        ("written", "sex"), [("m", "M"), ("Female", "F"), (" F", "F"), ("other", "O"), ("na", None)]
    )
    def test_sexes_are_those_of_dicom(self, clinic, written, sex):
        table, report = clinic([f"A1,60,{written},X,I,"], ["A1"])
        assert only(table)["sex"] == sex
        assert outcomes(report) == [("used", [])]

    def test_an_unknown_sex_is_null_and_reported(self, clinic):
        _, report = clinic(["A1,60,w/m,X,I,"], ["A1"])
        assert outcomes(report) == [("used", ["sex_unknown"])]

    def test_sites_are_keyed_codes(self, clinic):
        rows = ["A1,60,M,Klinikum Nord,I,", "A2,60,M,klinikum nord ,I,", "A3,60,M,Süd,I,"]
        table, _ = clinic(rows, ["A1", "A2", "A3"])
        codes = table["site"].to_list()
        assert len(set(codes)) == 2
        assert not any("nord" in code.lower() for code in codes)
        named, _ = clinic(rows, ["A1", "A2", "A3"], site_names="as_is")
        assert "Süd" in named["site"].to_list()

    def test_free_text_is_never_kept(self, clinic, tmp_path, key):
        remark = "letter to Mr Fennimarsh"
        table, report = clinic([f"A1,60,M,X,I,{remark}"], ["A1"])
        layout = Layout(tmp_path)
        labels.write(table, report, layout, LabelSettings())
        assert b"Fennimarsh" not in layout.labels.read_bytes() + layout.label_report.read_bytes()
        assert "Remarks" not in table.columns

    def test_declared_columns_are_kept_as_declared(self, clinic, tmp_path):
        keep = {
            "histology": KeptColumn(column="Histology", values={"adeno": ("adenocarcinoma",)}),
            "packs": KeptColumn(column="Packs", kind="whole_number", minimum=0, maximum=200),
        }
        rows = ["A1,I, Adenocarcinoma ,30", "A2,I,seen by Dr Who,30.5", "A3,I,na,900"]
        table, report = clinic(
            rows, ["A1", "A2", "A3"], header="PatientID,Overall Stage,histology,PACKS", keep=keep
        )
        assert sorted(table.select("histology", "packs").rows(), key=str) == [
            ("adeno", 30),
            (None, None),
            (None, None),
        ]
        assert [reasons for _, reasons in outcomes(report)] == [
            [],
            ["value_undeclared"],
            ["value_undeclared"],
        ]
        layout = Layout(tmp_path)
        labels.write(table, report, layout, LabelSettings(keep=keep))
        assert pl.read_parquet(layout.labels).equals(table.select(pl.read_parquet(layout.labels).columns))

    def test_a_column_cannot_take_the_name_of_another(self):
        with pytest.raises(ValidationError, match="always have"):
            LabelSettings(keep={"stage": KeptColumn(column="T", values={"1": ()})})


class TestTheFile:
    def test_byte_order_mark_and_line_ends_of_windows_do_no_harm(self, clinic):
        table, report = clinic(
            [],
            ["A1", "A2"],
            content=f"\ufeff{HEADER}\r\nA1,60,M,X,I,\r\n\r\n,,,,,\r\nA2,60,M,X,II,\r\n".encode(),
        )
        assert sorted(table["stage"]) == ["I", "II"]
        assert outcomes(report) == [
            ("used", []),
            ("unused", ["blank_row"]),
            ("unused", ["blank_row"]),
            ("used", []),
        ]
        assert report["line"].to_list() == [2, 3, 4, 5]

    def test_rows_of_the_wrong_length_are_reported_not_shifted(self, clinic):
        table, report = clinic(["A1,60,M,X,I", "A2,60,M,X,I,r,II", "A3,60,M,X,I,,,"], ["A1", "A2", "A3"])
        assert outcomes(report) == [
            ("unused", ["row_malformed"]),
            ("unused", ["row_malformed"]),
            ("used", []),
        ]
        assert table["stage"].drop_nulls().len() == 1

    def test_cells_may_hold_line_ends_and_delimiters(self, clinic):
        _, report = clinic(['A1,60,M,X,I,"two\nlines, one cell"', "A2,60,M,X,I,"], ["A1", "A2"])
        assert report["row"].to_list() == [1, 2]
        assert report["line"].to_list() == [3, 4]

    def test_a_row_without_an_id_is_reported(self, clinic):
        _, report = clinic([" ,60,M,X,I,"], ["A1"])
        assert outcomes(report) == [("unused", ["label_without_patient_id"])]

    def test_headers_are_found_whatever_their_case_and_order(self, clinic):
        table, _ = clinic(["I,A1"], ["A1"], header=" overall  STAGE ,patientid")
        assert only(table)["stage"] == "I"
        assert only(table)["age_years"] is None

    @pytest.mark.parametrize(
        ("content", "settings", "says"),
        [
            (b"", {}, "is empty"),
            (b"PatientID;Overall Stage\nA1;I\n", {}, "labels.delimiter"),
            (b"PatientID,Stadium\nA1,I\n", {}, "'Overall Stage' is there 0 times"),
            (b"PatientID,Overall Stage,Overall stage\nA1,I,II\n", {}, "is there 2 times"),
            ("PatientID,Overall Stage,Ort\nA1,I,Köln\n".encode("cp1252"), {}, "line 2: is not UTF-8"),
            (b'PatientID,Overall Stage\nA1,"I\n', {}, "not readable as CSV"),
        ],
    )
    def test_that_is_no_such_table_is_refused_with_the_mend(self, clinic, content, settings, says):
        with pytest.raises(UsageError, match=says) as caught:
            clinic([], ["A1"], content=content, **settings)
        assert "raw_manifest.csv" in str(caught.value)
        assert "A1" not in str(caught.value)

    def test_that_is_not_there_is_refused(self, key):
        with pytest.raises(UsageError, match=r"table\.csv: no such file"):
            labels.build(LabelSettings(csv=Path("/nowhere/table.csv")), key, pl.DataFrame())

    @pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
    def test_other_encodings_and_delimiters_are_settings(self, clinic, encoding):
        content = "PatientID;Overall Stage;Ort\nÄ1;II;Köln\n".encode(encoding)
        table, _ = clinic([], ["Ä1"], content=content, encoding=encoding, delimiter=";")
        assert only(table)["stage"] == "II"

    def test_order_of_the_rows_changes_no_label(self, clinic):
        rows = ["A1,60,M,X,I,", "A2,na,F,Y,II,", "A2,50,F,Y,II,", "A3,1,M,X,IIIa,"]
        forward, _ = clinic(rows, ["A1", "A2", "A3"])
        backward, _ = clinic(rows[::-1], ["A3", "A2", "A1"])
        assert forward.equals(backward)


def test_the_report_is_for_its_owner_only_and_tells_no_pseudonym(clinic, tmp_path):
    table, report = clinic(["A1,60,M,X,I,"], ["A1"])
    layout = Layout(tmp_path)
    labels.write(table, report, layout, LabelSettings())
    assert stat.S_IMODE(layout.label_report.stat().st_mode) == 0o600
    assert table["patient_id"][0].encode() not in layout.label_report.read_bytes()

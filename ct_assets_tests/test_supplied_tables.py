"""Tables that a person supplies: what is one column, one line, one name, for every reader of them."""

import pytest

from ct_assets.cohort import clinic_table
from ct_assets.deid.elements import clinic
from ct_assets.errors import UsageError
from ct_assets.learning.volumes.cases import read_cases
from ct_assets.settings.cohort import LabelSettings
from ct_assets.systems.brain import dataset as brain_dataset
from ct_assets.systems.neuro.labels import read_labels
from ct_assets.systems.neuro.modes import read_modes
from ct_assets.tables import supplied

COMPOSED, DECOMPOSED = "M\u00fcller", "Mu\u0308ller"


@pytest.fixture
def table(tmp_path):
    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


class TestHeader:
    @pytest.mark.parametrize(
        "header", ["fold,fold", "fold,Fold", " fold,fold", "fold,\u200bfold", "FOLD,fold "]
    )
    def test_a_used_column_that_is_there_twice_is_refused_by_name(self, table, header):
        with pytest.raises(UsageError, match=r"column 'fold' is there 2 times \(columns 1, 2\)"):
            supplied.read(table(f"{header}\n0,1\n")).place("fold")

    def test_other_columns_may_have_any_name(self, table):
        read = supplied.read(table("ID,,,Note,Note,Label\na,1,2,3,4,5\n"))
        assert read.rows[0].cells[read.place("Label")] == "5"

    def test_an_absent_column_has_no_place(self, table):
        assert supplied.read(table("a,b\n1,2\n")).place("c") is None

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_the_header_tells_the_delimiter(self, table, delimiter):
        assert supplied.read(table(f"a{delimiter}b\n1{delimiter}2\n")).header == ("a", "b")

    def test_an_empty_file_is_no_table(self, table):
        with pytest.raises(UsageError, match="is empty"):
            supplied.read(table("\n \n"))


class TestLines:
    def test_blank_lines_and_quoted_line_ends_count(self, table):
        read = supplied.read(table('a,b\n\n1,"x\ny"\n2,z\n'))
        assert [(row.line, row.is_blank) for row in read.rows] == [(2, True), (4, False), (5, False)]

    def test_carriage_returns_count_as_lines(self, table):
        assert [row.line for row in supplied.read(table("a,b\r\n1,2\r\n3,4\r\n")).rows] == [2, 3]

    def test_empty_cells_beyond_the_header_are_what_spreadsheets_leave(self, table):
        assert supplied.read(table("a,b\n1,2,,\n")).rows[0].cells == ("1", "2")

    def test_a_row_that_is_too_long_is_named_by_its_line(self, table):
        read = supplied.read(table("a,b\n1,2\n1,2,3\n"))
        with pytest.raises(UsageError, match="line 3: 3 cells, the header has 2"):
            read.check_row(read.rows[1])

    def test_an_open_quote_is_named_by_its_line(self, table):
        with pytest.raises(UsageError, match="line 3: not readable as CSV"):
            supplied.read(table('a,b\n1,2\n1,"2\n'))


class TestEncoding:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_a_byte_order_mark_decides(self, table, encoding):
        read = supplied.read(table(f"a,b\n{COMPOSED},2\n".encode(encoding)))
        assert (read.header[0], read.rows[0].cells[0]) == ("a", COMPOSED)

    def test_windows_letters_are_named_by_line_with_the_way_out(self, table):
        with pytest.raises(UsageError, match=r"line 2: is not UTF-8; save it as CSV in UTF-8"):
            supplied.read(table(f"a,b\n{COMPOSED},2\n".encode("cp1252")))


class TestNames:
    @pytest.mark.parametrize(
        "spelling",
        [
            DECOMPOSED,
            f"{COMPOSED}\u200b",
            f"\ufeff{COMPOSED}",
            f"M\u00ad{COMPOSED[1:]}",
            f" {COMPOSED}\u00a0",
        ],
    )
    def test_spellings_that_look_alike_are_one_name(self, spelling):
        assert supplied.cleaned(spelling) == COMPOSED

    def test_names_that_look_different_stay_different(self):
        assert supplied.cleaned("P1") != supplied.cleaned("p1")
        assert supplied.comparable("P  1") == "p 1"


class TestReaders:
    """Each reader of a supplied table follows the same rules."""

    def test_cases(self, table):
        rows = f"a,{COMPOSED},x.nii,,,A\n\nb,{DECOMPOSED},y.nii,,II,A\n"
        read, problems = read_cases(table(f"case_id,patient_id,image,label,stage,site\n{rows}"))
        assert read["patient_id"].unique().to_list() == [COMPOSED]
        assert read["row"].to_list() == [2, 4]
        assert read["stage"].to_list() == ["II", "II"]  # a stage told in one row is the patient's
        assert problems == []

    @pytest.mark.parametrize("extra", ["Stage", " stage", "case_id", "IMAGE"])
    def test_cases_with_a_repeated_column(self, table, extra):
        with pytest.raises(UsageError, match="2 times"):
            read_cases(table(f"case_id,patient_id,image,label,stage,{extra}\na,p,x,y,I,II\n"))

    def test_brain_labels_are_read_by_place(self, table):
        read, _ = brain_dataset.read_labels(table("ID,,,Label,x\na.DCM,1,1,0,1\nb.dcm,0,0,1,0\n"))
        assert read == {"a": 0, "b": 1}

    def test_brain_labels_name_the_line_of_the_file(self, table):
        with pytest.raises(UsageError, match="line 4"):
            brain_dataset.read_labels(table("ID,Label\na,1\n\nb,2\n"))

    def test_neuro_labels_and_modes(self, table):
        with pytest.raises(UsageError, match="line 4"):
            read_labels(table("study_id,bleed\ns0,1\n\ns1,x\n"))
        with pytest.raises(UsageError, match="twice"):
            read_labels(table("study_id,bleed,Bleed\ns0,1,0\n"))
        assert read_modes(table("mode,study_id,\nct,s0,\n")) == {"s0": "ct"}

    def test_the_clinics_table(self, table):
        settings = LabelSettings()
        with pytest.raises(UsageError, match="'Site' is there 2 times"):
            clinic_table.read(table("PatientID,Overall Stage,Site,site\np,I,A,B\n"), settings)
        records = clinic_table.read(table("PatientID,Overall Stage\np,I,x\n\nq,II\n"), settings)
        assert [(one.line, one.fault) for one in records] == [
            (2, "row_malformed"),
            (3, "blank_row"),
            (4, None),
        ]

    def test_identifying_values_of_two_columns_of_one_name_are_all_known(self, table):
        found = clinic.values_of(table("PatientID,Name,Name\np1,Adler^Ida,Specht^Ida\n"))
        assert {("name", "Adler^Ida", "p1", ""), ("name", "Specht^Ida", "p1", "")} <= found


def test_two_files_of_one_id_are_refused(tmp_path):
    (tmp_path / "CTs").mkdir()
    for name in ("a.dcm", "a.DCM", "b.dcm"):
        (tmp_path / "CTs" / name).write_bytes(b"x")
    (tmp_path / "labels1.csv").write_text("ID,Label\na,0\nb,1\n")
    with pytest.raises(UsageError, match=r"a\.DCM and a\.dcm are two files of one ID"):
        brain_dataset.validate_dataset_structure(tmp_path)


def test_a_file_keeps_the_name_that_it_has_on_the_disk(tmp_path):
    (tmp_path / "CTs").mkdir()
    for name in ("a.DCM", "b.dcm"):
        (tmp_path / "CTs" / name).write_bytes(b"x")
    (tmp_path / "labels1.csv").write_text("ID,Label\na,0\nb,1\n")
    assert brain_dataset.validate_dataset_structure(tmp_path).names == {"a": "a.DCM", "b": "b.dcm"}

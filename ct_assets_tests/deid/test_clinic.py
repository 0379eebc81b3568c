"""What the clinic's own table gives away: numbers, names in remarks, birth dates."""

import pytest

from ct_assets.deid.elements.clinic import values_of
from ct_assets.errors import UsageError


def told(tmp_path, content: str, encoding: str = "utf-8") -> set[tuple[str, str, str]]:
    path = tmp_path / "labels.csv"
    path.write_bytes(content.encode(encoding))
    return {(kind, value, patient) for kind, value, patient, _ in values_of(path)}


def test_numbers_names_and_birth_dates_are_known_by_their_columns(tmp_path) -> None:
    found = told(
        tmp_path,
        "PatientID,Surname,DateOfBirth,Phone,Stage\nQX44,Quenneville,1961-04-17,555-0106,II\n",
    )
    assert found == {
        ("id", "QX44", "QX44"),
        ("name", "Quenneville", "QX44"),
        ("birth_date", "1961-04-17", "QX44"),
        ("id", "555-0106", "QX44"),
    }


def test_a_name_with_a_comma_is_read_as_dicom_writes_names(tmp_path) -> None:
    assert ("name", "Quenneville^ Ottoline", "7") in told(tmp_path, 'id,Name\n7,"Quenneville, Ottoline"\n')


def test_remarks_give_their_capitalised_words_and_long_numbers_but_no_harmless_words(tmp_path) -> None:
    found = told(tmp_path, 'PatientID,Remarks\n7,"Letter to Fennimarsh, tel (555) 555-0106, thorax"\n')
    names = {value for kind, value, _ in found if kind == "name"}
    assert "Fennimarsh" in names
    assert "thorax" not in names
    assert any("555-0106" in value for kind, value, _ in found if kind == "id" and value != "7")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_any_usual_delimiter_bom_and_line_end(tmp_path, delimiter) -> None:
    lines = (("PatientID", "Stage"), ("0071", "I"))
    content = "\ufeff" + "".join(delimiter.join(line) + "\r\n" for line in lines)
    assert told(tmp_path, content) == {("id", "0071", "0071")}


def test_german_columns_and_another_encoding(tmp_path) -> None:
    found = told(tmp_path, "Patient_ID;Geburtsdatum;Bemerkung\n9;01.02.1950;Frau Müller\n", "latin-1")
    assert ("birth_date", "01.02.1950", "9") in found
    assert ("id", "9", "9") in found


def test_a_table_of_labels_alone_gives_the_numbers_alone(tmp_path) -> None:
    assert told(tmp_path, "PatientID,stage,site\nA1,IIIa,north\n") == {("id", "A1", "A1")}


def test_rows_that_are_too_short_or_too_long_are_no_failure(tmp_path) -> None:
    assert told(tmp_path, "PatientID,Stage\nA1\nA2,I,more,still more\n") == {
        ("id", "A1", "A1"),
        ("id", "A2", "A2"),
    }


def test_a_table_that_cannot_be_read_is_told_by_its_name(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv: the clinic's table cannot be read"):
        values_of(tmp_path / "nowhere.csv")

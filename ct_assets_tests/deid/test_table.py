import csv
import importlib.util
import json
import runpy
from pathlib import Path

import pytest

from ct_assets.deid.elements import table

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_ps315_table.py"


@pytest.fixture(scope="module")
def bundled():
    return table.load()


@pytest.mark.real
class TestTheBundledTableAgainstItsSources:
    def test_has_every_row_of_the_profile_with_its_action(self, bundled, real_data):
        rows = json.loads((real_data / "ps315/confidentiality_profile_attributes.json").read_text())
        ours = bundled.content["attributes"]
        theirs = {row["id"].lower(): row["basicProfile"] for row in rows if row["id"][0] != "g"}
        assert {tag: ours[tag][0] for tag in theirs} == theirs

    def test_has_every_option_of_every_row(self, bundled, real_data):
        columns = runpy.run_path(str(SCRIPT))["OPTION_COLUMNS"]
        ours = bundled.content["attributes"]
        for row in json.loads((real_data / "ps315/confidentiality_profile_attributes.json").read_text()):
            options = {name: row[column] for column, name in columns.items() if row.get(column)}
            if row["id"][0] != "g":
                assert (ours[row["id"].lower()] + [{}])[1] == options, row["name"]

    def test_has_every_safe_private_element(self, bundled, real_data):
        with (real_data / "ps315/safe_private_attributes.csv").open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        assert len(bundled.content["safe_private"]) == len(rows) == 130
        for row in rows:
            place = (int(row["group"], 16), int(row["element_in_block"], 16))
            assert (
                bundled.safe_private[(table.fold_creator(row["private_creator"].strip(' "')), *place)]
                == row["vr"]
            )


@pytest.mark.skipif(
    importlib.util.find_spec("dicomanonymizer") is None, reason="dicom-anonymizer is not here"
)
def test_the_newer_editions_actions_are_the_same():
    from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c

    newer = runpy.run_path(str(SCRIPT))["newer_edition"](Path(dicomfields_2026c.__file__))
    ours = table.load().content["attributes"]
    assert {tag: ours[tag][0] for tag in newer} == newer


class TestAttributeTypes:
    """Types read in PS3.3 by hand: patient and study modules, SEG, RT structure set."""

    @pytest.mark.parametrize(
        ("sop_class", "path", "tag", "expected"),
        [
            ("1.2.840.10008.5.1.4.1.1.2", "", 0x00080050, 2),  # AccessionNumber
            ("1.2.840.10008.5.1.4.1.1.2", "", 0x00081030, 3),  # StudyDescription
            ("1.2.840.10008.5.1.4.1.1.481.3", "", 0x300E0008, 2),  # ReviewerName of an RTSTRUCT
            ("1.2.840.10008.5.1.4.1.1.66.4", "", 0x00080023, 1),  # ContentDate of a SEG
            ("1.2.840.10008.5.1.4.1.1.481.3", "", 0x30060008, 2),  # StructureSetDate
            ("1.2.3.4", "", 0x00080050, 3),
        ],
    )
    def test_come_from_the_iod(self, bundled, sop_class, path, tag, expected):
        assert bundled.types_of(sop_class).of(path, tag) == expected


def test_a_tampered_table_is_refused(monkeypatch, tmp_path):
    package = tmp_path / "package"
    (package / "data").mkdir(parents=True)
    (package / "data/ps315.json").write_bytes(b"{}")
    (package / "data/ps315.sha256").write_text("0" * 64)
    monkeypatch.setattr(table.resources, "files", lambda _: package)
    table.load.cache_clear()
    try:
        with pytest.raises(ValueError, match="not the file"):
            table.load()
    finally:
        table.load.cache_clear()


def test_creators_are_compared_without_padding_and_case():
    assert table.fold_creator(" GEMS_ACQU_01 \0") == table.fold_creator("gems_acqu_01")

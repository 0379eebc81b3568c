"""The rule of every text attribute: the file is what the script makes, and values obey it."""

import importlib.util
from pathlib import Path

import pytest

from ct_assets_tests.deid.made import ct, deid, sequence

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/make_text_rules.py"


def script():
    spec = importlib.util.spec_from_file_location("make_text_rules", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_file_and_page_are_what_the_script_makes():
    made = script()
    assert made.CSV.read_text("utf-8") == made.rows_as_csv()
    assert made.PAGE.read_text("utf-8") == made.page()


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("RadiationMachineName", "LINAC_NORD_2", None), ("DeviceID", "KlinikumNord CT 2", None),
        ("AcquisitionProtocolName", "Thorax Krambauer 14.03.2019", "Thorax"),
        ("SoftwareVersions", "syngo 14.03.2019", "syngo"), ("SoftwareVersions", "VB20A", "VB20A"),
        ("Manufacturer", "Orbweaver", "Orbweaver"),
    ],
)  # fmt: skip
def test_text_that_the_table_does_not_name(keyword, value, kept):
    assert deid(ct(**{keyword: value})).get(keyword) in (
        kept,
        "" if kept is None else kept,
        "ANONYMIZED" if kept is None else kept,
    )


def test_codes_of_standard_terminologies_stay_and_local_ones_lose_what_identifies():
    standard = {"CodeValue": "30291003", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Chin"}
    local = {
        "CodeValue": "CT7",
        "CodingSchemeDesignator": "99NORD",
        "CodeMeaning": "CT Thorax (Dr. Krambauer, 14.03.2019)",
    }
    made = deid(ct(ProcedureCodeSequence=sequence(**standard)))
    assert made.ProcedureCodeSequence[0].CodeMeaning == "Chin"
    made = deid(ct(ProcedureCodeSequence=sequence(**local)))
    assert "Krambauer" not in made.ProcedureCodeSequence[0].CodeMeaning
    assert "2019" not in made.ProcedureCodeSequence[0].CodeMeaning

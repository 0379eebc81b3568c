"""The store against the audit: an altered, a missing and an added file are each found."""

import json

import pytest
from blake3 import blake3

from ct_assets.deid.proof.verify import Fault, verify_store
from ct_assets.layout import Layout


@pytest.fixture
def layout(tmp_path):
    """A store of two released files whose audit is written by hand."""
    layout = Layout(tmp_path)
    lines = []
    for number in (1, 2):
        content = f"released {number}".encode()
        path = layout.deid_batch("b1") / f"P/1.2/1.2.3/1.2.3.{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        lines.append(
            {
                "disposition": "released",
                "new_patient_id": "P",
                "new_study_instance_uid": "1.2",
                "new_series_instance_uid": "1.2.3",
                "new_sop_instance_uid": f"1.2.3.{number}",
                "released_blake3": blake3(content).hexdigest(),
            }
        )
    lines.append({"disposition": "quarantined"})
    audit = layout.deid_paths("b1").audit
    audit.parent.mkdir(parents=True)
    audit.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return layout


def test_an_untouched_store_is_as_the_audit_says(layout):
    verified = verify_store(layout)
    assert (verified.files, verified.faults) == (2, ())


def test_altered_missing_and_added_files_are_named_by_their_new_identifiers(layout):
    series = layout.deid_batch("b1") / "P/1.2/1.2.3"
    (series / "1.2.3.1.dcm").write_bytes(b"released 1, altered")
    (series / "1.2.3.2.dcm").unlink()
    (series / "9.9.dcm").write_bytes(b"put here by somebody")
    assert verify_store(layout, workers=2).faults == (
        Fault("b1", "P/1.2/1.2.3/1.2.3.1.dcm", "altered"),
        Fault("b1", "P/1.2/1.2.3/1.2.3.2.dcm", "missing"),
        Fault("b1", "P/1.2/1.2.3/9.9.dcm", "not in the audit"),
    )

"""Whether a delivered file is of somebody who withdrew consent.

Belongs here: reading a file as far as its patient and study. Does not: who has withdrawn (`identity.withdrawn`).
"""

import io
from pathlib import Path

from ct_assets.deid.batch import dicomfile
from ct_assets.deid.batch.gather import Gathered, facts_of
from ct_assets.identity.withdrawn import Withdrawn


def holds_file(withdrawn: Withdrawn, path: Path) -> bool:
    """Tell whether a file of a delivery is of somebody withdrawn; a medium's directory may name several."""
    if not withdrawn:
        return False
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return holds_content(withdrawn, content)


def holds_content(withdrawn: Withdrawn, content: bytes) -> bool:
    """Do as `holds_file` with the bytes of a file."""
    if not withdrawn:
        return False
    gathered = Gathered()
    with dicomfile.silence():
        facts_of("", content, gathered)
    facts = gathered.files[0]
    if facts.code == "dicomdir":
        return any(withdrawn.holds(patient_id) for patient_id in _named_in_directory(content))
    return withdrawn.holds(facts.patient_id, facts.issuer, facts.study)


def _named_in_directory(content: bytes) -> set[str]:
    """Return the PatientIDs that the records of a DICOMDIR name."""
    import pydicom

    try:
        directory = pydicom.dcmread(io.BytesIO(content), force=True)
        records = directory.get("DirectoryRecordSequence", None) or ()
        return {str(record.PatientID) for record in records if "PatientID" in record}
    except Exception:
        return set()

"""The command `audit` on a plain folder: files, timings, exit codes."""

import subprocess
import sys

import polars as pl
import pytest

from ct_assets import files
from ct_assets.cohort.audit_tree import audit_tree
from ct_assets.errors import UsageError
from ct_assets.settings import Settings
from ct_assets_tests.dicom.factory import ct_series, seg, write


def audit(*arguments):
    return subprocess.run(
        [sys.executable, "-c", "from ct_assets.cli import main; main()", "audit", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_writes_both_audits_and_pictures_of_refused_series(tmp_path):
    ct, gapped = ct_series(), ct_series(patient="P2")
    del gapped[4]
    (write(tmp_path / "dicom", [*ct, seg(ct), *gapped]) / "notes.txt").write_text("not DICOM")
    done = audit(tmp_path / "dicom", tmp_path / "out", "--workers", 1)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert pl.read_parquet(out / "audits/metadata/metadata_audit.parquet").height == 25
    patients = files.read_json(out / "audits/ct_prepro/ct_prepro_audit.json")["by_patient_id"]["patient_id"]
    assert set(patients) == {"P1", "P2"}
    assert len(list((out / "reports/series").glob("*.png"))) == 1
    steps = files.read_json(out / "timings.json")
    assert [(step["step"], step["items"]) for step in steps] == [("headers", 25), ("ct_prepro", 3)]


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_that_is_not_there_or_empty_is_bad_usage(tmp_path, exists):
    if exists:
        (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match=r"no such folder|no file in it"):
        audit_tree(tmp_path / "in", tmp_path / "out", Settings(), workers=1)
    assert not (tmp_path / "out").exists()

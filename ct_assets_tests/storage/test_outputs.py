"""Records of what an asset wrote: missing and changed files are named, an untouched platform costs no reading."""

import os
import shutil

from ct_assets import files
from ct_assets.storage.outputs import OutputRecords


def records_of(root):
    for name in "ab":
        files.write_bytes(root / f"nifti/{name}.nii.gz", name.encode())
    records = OutputRecords(root, root / ".dagster/outputs")
    records.write("nifti_cohort", None, ("nifti/*",))
    return records


def test_what_is_as_it_was_written_does_not_differ(tmp_path):
    assert records_of(tmp_path).difference("nifti_cohort", None) is None


def test_a_deleted_file_is_named(tmp_path):
    records = records_of(tmp_path)
    (tmp_path / "nifti/b.nii.gz").unlink()
    assert records.difference("nifti_cohort", None).missing == ("nifti/b.nii.gz",)
    assert "1 missing (nifti/b.nii.gz)" in next(records.differences()).line()


def test_a_changed_file_of_the_same_size_is_named(tmp_path):
    records = records_of(tmp_path)
    path = tmp_path / "nifti/a.nii.gz"
    path.write_bytes(b"x")
    os.utime(path, ns=(1, 1))
    assert records.difference("nifti_cohort", None).changed == ("nifti/a.nii.gz",)


def test_a_copied_platform_is_read_once_and_then_trusted(tmp_path, monkeypatch):
    records_of(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second", copy_function=shutil.copyfile)
    records = OutputRecords(tmp_path / "second", tmp_path / "second/.dagster/outputs")
    assert records.difference("nifti_cohort", None) is None
    monkeypatch.setattr(files, "sha256_file", lambda path: "read again")
    assert records.difference("nifti_cohort", None) is None


def test_a_torn_record_is_no_record(tmp_path):
    records = records_of(tmp_path)
    (tmp_path / ".dagster/outputs/nifti_cohort/all.json").write_bytes(b"")
    assert records.difference("nifti_cohort", None) is None
    assert not list(records.differences())


def test_after_a_wanted_change_the_record_is_of_what_is_there(tmp_path):
    records = records_of(tmp_path)
    (tmp_path / "nifti/b.nii.gz").unlink()
    (tmp_path / "nifti/a.nii.gz").write_bytes(b"without a person's rows")
    records.renew()
    assert records.difference("nifti_cohort", None) is None
    assert "b.nii.gz" not in (tmp_path / ".dagster/outputs/nifti_cohort/all.json").read_text()

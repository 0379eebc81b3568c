"""The same instance twice: one is released, the other has its reason."""

import polars as pl
from pydicom.uid import ImplicitVRLittleEndian

from ct_assets.dicom import index
from ct_assets_tests.deid.made import as_bytes, ct, save
from ct_assets_tests.deid.runs import run


def reasons_of(made) -> list[list[str]]:
    table = pl.read_parquet(made.paths.files).sort("path")
    return [sorted(row) for row in table["reasons"].to_list()]


def test_equal_instances_in_other_encodings_are_one(tmp_path):
    save(ct(), tmp_path / "in/a")
    save(ct(), tmp_path / "in/b", ImplicitVRLittleEndian)
    (tmp_path / "in/c").write_bytes(b"II*\0".ljust(128, b"\0") + as_bytes(ct())[128:])
    save(ct(), tmp_path / "in/d")
    made = run(tmp_path / "in", tmp_path / "out")
    assert reasons_of(made) == [[], ["equal_instance"], ["equal_instance"], ["exact_duplicate"]]


def test_other_pixels_under_one_uid_stay_a_conflict_whatever_else_is_equal(tmp_path):
    save(ct(), tmp_path / "in/a")
    save(ct(), tmp_path / "in/b", ImplicitVRLittleEndian)
    other = ct(PixelData=bytes(128))
    other["PixelData"].VR = "OW"
    save(other, tmp_path / "in/c")
    made = run(tmp_path / "in", tmp_path / "out")
    assert reasons_of(made) == [["conflicting_duplicate"], ["equal_instance"], ["conflicting_duplicate"]]


def test_across_batches_an_instance_is_one_in_whatever_transfer_syntax(tmp_path):
    save(ct(), tmp_path / "one/a.dcm")
    save(ct(), tmp_path / "two/a.dcm", ImplicitVRLittleEndian)
    found = index.scan(tmp_path, root=tmp_path, workers=1)
    assert found["content_sha256"].n_unique() == 1
    assert found["content_sha256"].null_count() == 0
    other = ct(KVP="100")
    save(other, tmp_path / "two/a.dcm", ImplicitVRLittleEndian)
    assert index.scan(tmp_path, root=tmp_path, workers=1)["content_sha256"].n_unique() == 2

"""The metadata audit of a tree and of batches."""

import pytest

from ct_assets.cohort import metadata_audit
from ct_assets.dicom import index
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets_tests.dicom.factory import ct_series, seg, write


def test_writing_again_reads_nothing_and_gives_the_same_bytes(tmp_path, monkeypatch):
    ct = ct_series()
    folder = write(tmp_path / "dicom", [*ct, seg(ct)])
    table = tmp_path / "out/metadata_audit.parquet"
    metadata_audit.write(folder, table, root=folder, workers=1)
    first = table.read_bytes()
    monkeypatch.setattr(index, "read_file", lambda path: pytest.fail("was read again"))
    metadata_audit.write(folder, table, root=folder, workers=1)
    assert table.read_bytes() == first


def test_a_table_of_an_older_form_is_made_anew(tmp_path):
    folder = write(tmp_path / "dicom", ct_series(2))
    table = tmp_path / "metadata_audit.parquet"
    table.write_bytes(b"no parquet")
    assert metadata_audit.write(folder, table, root=folder, workers=1).height == 2


def test_no_folder_is_told_in_a_line(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        metadata_audit.write(tmp_path / "none", tmp_path / "table.parquet", root=tmp_path, workers=1)


def test_batches_are_read_as_one_cohort_with_repeated_instances_told(tmp_path):
    layout = Layout(tmp_path)
    ct = ct_series()
    write(layout.deid_batch("one"), ct)
    write(layout.deid_batch("two"), ct[:1])
    for batch in ("one", "two"):
        metadata_audit.write_batch(layout, batch, workers=1)
    found = metadata_audit.read_cohort(layout)
    assert found.height == 13
    assert found["path"].str.split("/").list.first().unique().sort().to_list() == ["one", "two"]
    assert found["content_sha256"].drop_nulls().len() == 2


def test_a_batch_without_released_instances_is_an_empty_table(tmp_path):
    layout = Layout(tmp_path)
    assert metadata_audit.write_batch(layout, "none", workers=1).height == 0
    assert metadata_audit.read_cohort(layout).height == 0


def test_the_table_is_as_old_as_its_scan(tmp_path):
    folder = write(tmp_path / "dicom", ct_series(2))
    table = tmp_path / "metadata_audit.parquet"
    metadata_audit.write(folder, table, root=folder, workers=1)
    newest = max(max(path.stat().st_mtime, path.stat().st_ctime) for path in folder.iterdir())
    assert newest <= table.stat().st_mtime

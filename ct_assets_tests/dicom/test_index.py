"""The header index: a row a file, whatever the file is; nothing read twice that did not change."""

import os
import time
from pathlib import Path

import polars as pl
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from ct_assets import tables
from ct_assets.dicom import index
from ct_assets.tables.audits import MetadataAudit
from ct_assets_tests.dicom.factory import ct_series, ct_slice, enhanced_ct, rtstruct, scanned, seg, write


def test_fits_its_schema_for_every_kind_of_object(tmp_path):
    ct = ct_series()
    found = scanned(tmp_path / "in", [*ct, seg(ct), rtstruct(ct), enhanced_ct()])
    tables.write_table(tmp_path / "index.parquet", found, MetadataAudit)
    assert found["is_dicom"].all()
    assert found["problems"].list.len().sum() == 0


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_says_the_same_in_every_transfer_syntax(tmp_path, syntax):
    one = ct_slice(1, (1.5, 2, 3), PixelPaddingValue=63536, InstitutionName="Klinik Süd")
    one.SpecificCharacterSet = "ISO_IR 100"
    one["PixelData"].VR = "OW"
    plain, other = tmp_path / "plain", tmp_path / "other"
    write(plain, [one])
    other.mkdir()
    one.file_meta.TransferSyntaxUID = syntax
    one.preamble = bytes(128)
    pydicom.dcmwrite(other / "one.dcm", one)
    apart = ["path", "file_size_bytes", "transfer_syntax_uid", "pixel_data_bytes"]
    rows = [index.scan(folder, root=folder, workers=1).drop(apart).to_dicts() for folder in (plain, other)]
    assert rows[0] == rows[1]
    assert rows[0][0]["institution_name"] == "Klinik Süd"


def test_what_is_no_dicom_is_a_row_with_a_code(tmp_path):
    write(tmp_path, ct_series(2))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").touch()
    (tmp_path / "broken").write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\xff\x00")
    found = index.scan(tmp_path, root=tmp_path, workers=1)
    problems = dict(found.filter(~pl.col("is_dicom")).select("path", "problems").iter_rows())
    assert problems == {
        "notes.txt": ["no_dicom_file"],
        "empty": ["no_dicom_file"],
        "broken": ["unreadable_header"],
    }
    assert found["is_dicom"].sum() == 2


def test_paths_are_relative_to_the_root_and_sorted(tmp_path):
    write(tmp_path / "batch" / "b", ct_series(2))
    write(tmp_path / "batch" / "a", ct_series(2, series_name="other"))
    found = index.scan(tmp_path / "batch", root=tmp_path, workers=1)["path"].to_list()
    assert found == sorted(found)
    assert {path.rpartition("/")[0] for path in found} == {"batch/a", "batch/b"}


def test_does_not_depend_on_the_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "FEW_FILES", 0)
    monkeypatch.setattr(index, "FILES_PER_TASK", 5)
    write(tmp_path, [*ct_series(18), seg(ct_series(18))])
    one, two = (index.scan(tmp_path, root=tmp_path, workers=workers) for workers in (1, 2))
    assert one.equals(two)


class TestWhatDidNotChange:
    @pytest.fixture
    def reads(self, monkeypatch):
        seen = []
        read_file = index.read_file
        monkeypatch.setattr(
            index,
            "read_file",
            lambda path, **options: seen.append(Path(path).name) or read_file(path, **options),
        )
        return seen

    def test_is_not_read_again(self, tmp_path, reads):
        first = scanned(tmp_path, ct_series())
        reads.clear()
        again = index.scan(tmp_path, root=tmp_path, workers=1, previous=first, previous_ns=time.time_ns())
        assert (again.equals(first), reads) == (True, [])

    def test_is_told_from_what_did(self, tmp_path, reads):
        slices = ct_series()
        first = scanned(tmp_path, slices)
        before = time.time_ns()
        time.sleep(0.02)
        slices[3].SliceThickness = 9.5
        write(tmp_path, slices[3:4])
        (changed,) = {path.name for path in tmp_path.iterdir() if path.stat().st_mtime_ns > before}
        next(path for path in tmp_path.iterdir() if path.name != changed).unlink()
        reads.clear()
        again = index.scan(tmp_path, root=tmp_path, workers=1, previous=first, previous_ns=before)
        assert reads == [changed]
        assert again.height == 11
        assert again.filter(path=changed)["slice_thickness_mm"].item() == 9.5

    def test_is_not_decided_by_a_time_that_was_set_back(self, tmp_path, reads):
        slices = ct_series(2)
        first = scanned(tmp_path, slices)
        before = time.time_ns()
        time.sleep(0.02)
        path = next(tmp_path.iterdir())
        path.write_bytes(path.read_bytes())
        os.utime(path, (1, 1))
        reads.clear()
        index.scan(tmp_path, root=tmp_path, workers=1, previous=first, previous_ns=before)
        assert reads == [path.name]


class TestDigests:
    def test_stand_only_where_an_identity_or_a_place_occurs_again(self, tmp_path):
        slices = ct_series(4)
        same_place = ct_slice(9, slices[0].ImagePositionPatient)
        write(tmp_path / "a", [*slices, same_place])
        write(tmp_path / "b", slices[1:2])
        found = index.scan(tmp_path, root=tmp_path, workers=1)
        assert found["content_sha256"].drop_nulls().len() == 2
        assert found["content_sha256"].drop_nulls().n_unique() == 1
        assert found["pixel_sha256"].drop_nulls().len() == 4

    def test_joining_batches_finds_what_each_alone_cannot(self, tmp_path):
        slices = ct_series(3)
        write(tmp_path / "a", slices)
        write(tmp_path / "b", slices[:1])
        parts = [index.scan(tmp_path / name, root=tmp_path, workers=1) for name in "ab"]
        assert pl.concat(parts)["content_sha256"].null_count() == 4
        assert index.with_content_digests(pl.concat(parts), tmp_path)["content_sha256"].null_count() == 2


class TestSegmentations:
    def test_voxels_are_counted_and_boxed_for_each_segment(self, tmp_path):
        ct = ct_series()
        row = scanned(tmp_path, [seg(ct, ("GTV-1", "CTV-1"))]).row(0, named=True)
        # 3 slices x 2 rows x 3 columns; centres of the outer voxels, from origin and spacing by hand
        assert row["segment_voxels"] == [18, 18]
        assert row["segment_boxes_mm"][:6] == [-0.75, -0.5, 105.0, 0.75, 0.25, 110.0]
        assert row["has_overlap"] is True

    def test_an_empty_segment_is_known(self, tmp_path):
        import numpy as np

        ct = ct_series()
        row = scanned(tmp_path, [seg(ct, lit=[np.zeros((12, 6, 8), bool)])]).row(0, named=True)
        assert row["segment_voxels"] == [0]

    def test_fractional_counts_from_half_of_the_maximum(self, tmp_path):
        import numpy as np

        ct = ct_series(3)
        one = seg(ct)
        one.SegmentationType, one.MaximumFractionalValue = "FRACTIONAL", 200
        one.BitsAllocated = one.BitsStored = 8
        one.HighBit = 7
        pixels = np.zeros((3, 6, 8), np.uint8)
        pixels[1, 2, 3:6] = (99, 100, 200)
        one.PixelData = pixels.tobytes()
        assert scanned(tmp_path, [one])["segment_voxels"].to_list() == [[2]]

    def test_label_maps_count_by_value(self, tmp_path):
        import numpy as np

        from ct_assets.dicom.uids import LABEL_MAP_SEGMENTATION

        ct = ct_series(3)
        one = seg(ct, ("GTV-1", "Lung"))
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = LABEL_MAP_SEGMENTATION
        one.SegmentationType = "LABELMAP"
        one.BitsAllocated = one.BitsStored = 8
        one.HighBit, one.NumberOfFrames = 7, 3
        one.PerFrameFunctionalGroupsSequence = one.PerFrameFunctionalGroupsSequence[:3]
        pixels = np.zeros((3, 6, 8), np.uint8)
        pixels[0, :2], pixels[1, 0] = 2, 1
        one.PixelData = pixels.tobytes()
        row = scanned(tmp_path, [one]).row(0, named=True)
        assert (row["segmentation_type"], row["segment_voxels"]) == ("LABELMAP", [8, 16])

    def test_pixels_that_end_early_are_told(self, tmp_path):
        one = seg(ct_series())
        one.PixelData = one.PixelData[:10]
        row = scanned(tmp_path, [one]).row(0, named=True)
        assert "unreadable_mask_pixels" in row["problems"]
        assert row["segment_voxels"] is None


def test_structures_tell_rois_contours_and_references(tmp_path):
    ct = ct_series()
    row = scanned(tmp_path, [rtstruct(ct, ("GTVp", "Lung"))]).row(0, named=True)
    assert row["segment_labels"] == ["GTVp", "Lung"]
    assert row["segment_contours"] == [3, 3]
    assert row["segment_boxes_mm"][:6] == [-2, -1, 105, 0, 1, 110]
    assert set(row["referenced_sop_instance_uids"]) == {one.SOPInstanceUID for one in ct[2:5]}
    assert row["referenced_frame_of_reference_uids"] == [ct[0].FrameOfReferenceUID]

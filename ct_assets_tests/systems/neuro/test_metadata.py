"""Metadata: every study and every image is listed, good or refused."""

import json
import multiprocessing

import numpy as np
import pytest

from ct_assets.errors import UsageError
from ct_assets.neuro import DatasetMetadata
from ct_assets.reasons import reason
from ct_assets.systems.neuro.metadata import record
from ct_assets_tests.systems.neuro.factories import box_head, dicom_series, nifti_file


@pytest.fixture
def data_dir(tmp_path):
    raw = tmp_path / "raw"
    nifti_file(raw / "a" / "T1.nii.gz", box_head(air=0))
    nifti_file(raw / "a" / "T2.nii", box_head(air=0))
    dicom_series(raw / "b" / "ct_scan")
    return tmp_path


class TestFromDirectory:
    def test_studies_with_their_mode_and_images(self, data_dir):
        metadata = DatasetMetadata.from_directory(data_dir, {"a": "mri", "b": "CT"})
        assert metadata.get_studies_by_mode("mri") == ["a"]
        assert metadata.get_studies_by_mode("ct") == ["b"]
        assert metadata.get_study("a")["images"] == {
            "T1": {"filename": "T1.nii.gz", "processed": False},
            "T2": {"filename": "T2.nii", "processed": False},
        }
        assert metadata.get_study("b")["images"] == {"ct_scan": {"filename": "ct_scan", "processed": False}}
        assert metadata.invalid_studies == {}

    @pytest.mark.parametrize("mapping", [None, "ct", ["a"]])
    def test_a_mode_mapping_is_demanded(self, data_dir, mapping):
        with pytest.raises(UsageError, match="mode_mapping"):
            DatasetMetadata.from_directory(data_dir, mapping)
        with pytest.raises(TypeError):
            DatasetMetadata.from_directory(data_dir)

    def test_a_folder_without_raw_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="raw"):
            DatasetMetadata.from_directory(tmp_path, {})

    def test_no_study_is_lost(self, data_dir):
        (data_dir / "raw" / "empty").mkdir()
        nifti_file(data_dir / "raw" / "nobody" / "x.nii.gz", box_head())
        nifti_file(data_dir / "raw" / "pet" / "x.nii.gz", box_head())
        mapping = {"a": "mri", "b": "ct", "empty": "ct", "pet": "pet", "gone": "ct"}
        metadata = DatasetMetadata.from_directory(data_dir, mapping)
        assert {name: info["reasons"] for name, info in metadata.invalid_studies.items()} == {
            "empty": ["study_without_images"],
            "gone": ["study_without_folder"],
            "nobody": ["mode_unmapped"],
            "pet": ["mode_unknown"],
        }
        assert set(metadata.get_all_studies()) == {"a", "b"}

    def test_no_file_of_a_study_is_lost(self, data_dir):
        folder = data_dir / "raw" / "a"
        nifti_file(folder / "time.nii.gz", np.zeros((8, 8, 8, 4), dtype=np.int16))
        (folder / "broken.nii.gz").write_bytes(b"broken")
        (folder / "notes.txt").write_text("words")
        (folder / "broken.dcm").write_bytes(b"broken")
        (folder / ".DS_Store").write_bytes(b"hidden")
        nifti_file(folder / "T1_mask.nii.gz", box_head(air=0))
        nifti_file(folder / "T1.nii", box_head(air=0))
        metadata = DatasetMetadata.from_directory(data_dir, {"a": "mri", "b": "ct"})
        refused = {one["filename"]: one["reasons"] for one in metadata.get_study("a")["refused_images"]}
        assert refused == {
            "T1.nii.gz": ["name_taken"],
            "T1_mask.nii.gz": ["reserved_name"],
            "broken.dcm": ["unreadable_image"],
            "broken.nii.gz": ["unreadable_image"],
            "notes.txt": ["unsupported_format"],
            "time.nii.gz": ["not_three_dimensional"],
        }
        assert all(reason(code).mend for codes in refused.values() for code in codes)

    def test_nifti_files_in_folders_below_the_study_are_found(self, data_dir):
        nifti_file(data_dir / "raw" / "a" / "anat" / "flair.nii.gz", box_head(air=0))
        metadata = DatasetMetadata.from_directory(data_dir, {"a": "mri"})
        assert metadata.get_study("a")["images"]["anat_flair"]["filename"] == "anat/flair.nii.gz"

    def test_dicom_of_the_other_modality_is_a_mismatch(self, data_dir):
        metadata = DatasetMetadata.from_directory(data_dir, {"b": "mri"})
        assert metadata.invalid_studies["b"]["refused_images"] == [
            {"filename": "ct_scan", "reasons": ["mode_mismatch"]}
        ]


class TestSeries:
    def test_several_series_of_one_folder_are_several_images(self, tmp_path):
        for end in "567":
            dicom_series(tmp_path / "raw" / "s" / "scan", series_uid=f"1.2.3.4.{end}")
        images = DatasetMetadata.from_directory(tmp_path, {"s": "ct"}).get_study("s")["images"]
        assert len(images) == 3
        assert all(
            info["filename"] == "scan" and name == f"scan-{info['series']}" for name, info in images.items()
        )

    def test_loose_slices_of_one_series_are_one_image(self, tmp_path):
        dicom_series(tmp_path / "raw" / "s")
        images = DatasetMetadata.from_directory(tmp_path, {"s": "ct"}).get_study("s")["images"]
        assert [info["filename"] for info in images.values()] == ["."]

    def test_names_do_not_change_when_a_series_is_added(self, tmp_path):
        for end in "56":
            dicom_series(tmp_path / "raw" / "s" / "scan", series_uid=f"1.2.3.4.{end}")
        before = set(DatasetMetadata.from_directory(tmp_path, {"s": "ct"}).get_study("s")["images"])
        dicom_series(tmp_path / "raw" / "s" / "scan", series_uid="1.2.3.4.4")
        assert before < set(DatasetMetadata.from_directory(tmp_path, {"s": "ct"}).get_study("s")["images"])

    def test_no_uid_stands_in_the_metadata(self, tmp_path):
        for end in "56":
            dicom_series(tmp_path / "raw" / "s" / "scan", series_uid=f"1.2.3.4.{end}")
        assert "1.2.3.4" not in json.dumps(DatasetMetadata.from_directory(tmp_path, {"s": "ct"}).to_dict())


class TestFile:
    def test_what_is_saved_is_read_again(self, data_dir):
        metadata = DatasetMetadata.from_directory(data_dir, {"a": "mri"}, dataset_name="heads")
        metadata.save(data_dir / "metadata.json")
        content = json.loads((data_dir / "metadata.json").read_text())
        assert content["dataset_name"] == "heads"
        assert content["num_studies"] == 1
        assert {"version", "created", "studies"} <= set(content)
        assert DatasetMetadata.from_file(data_dir / "metadata.json").to_dict() == metadata.to_dict()

    def test_studies_may_be_added_by_hand(self):
        metadata = DatasetMetadata()
        metadata.add_study("s", "mri", {"T1": {"filename": "T1.nii.gz"}})
        assert metadata.get_study("s")["images"]["T1"] == {"filename": "T1.nii.gz", "processed": False}
        assert metadata.get_study("t") is None
        assert len(metadata) == 1

    @pytest.mark.parametrize(
        ("name", "mode", "images"),
        [
            ("s", "pet", {"a": {"filename": "a.nii"}}),
            ("../s", "ct", {"a": {"filename": "a.nii"}}),
            ("s", "ct", {"a/b": {"filename": "a.nii"}}),
            ("s", "ct", {"a": {}}),
        ],
    )
    def test_what_cannot_be_is_refused(self, name, mode, images):
        with pytest.raises(ValueError, match=r"mode|name"):
            DatasetMetadata().add_study(name, mode, images)

    @pytest.mark.parametrize(
        "content", ["", "[]", "{}", '{"dataset_name": 1, "version": 1, "created": 1, "studies": 3}']
    )
    def test_another_file_is_refused_by_name(self, tmp_path, content):
        (tmp_path / "metadata.json").write_text(content)
        with pytest.raises(UsageError, match=r"metadata\.json"):
            DatasetMetadata.from_file(tmp_path / "metadata.json")

    def test_several_processes_record_at_once_and_nothing_is_lost(self, tmp_path):
        path = tmp_path / "metadata.json"
        metadata = DatasetMetadata()
        metadata.add_study("s", "ct", {f"i{n}": {"filename": f"{n}.nii"} for n in range(20)})
        metadata.save(path)
        context = multiprocessing.get_context("fork")
        processes = [
            context.Process(target=record, args=(path, [("s", f"i{n}", {"processed": True})]))
            for n in range(20)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        images = DatasetMetadata.from_file(path).get_study("s")["images"]
        assert all(entry["processed"] for entry in images.values())

    def test_outcomes_are_recorded_beside_what_others_recorded(self, data_dir):
        path = data_dir / "metadata.json"
        DatasetMetadata.from_directory(data_dir, {"a": "mri"}).save(path)
        record(path, [("a", "T1", {"processed": True, "reasons": [], "warnings": ["sheared_grid"]})])
        record(
            path,
            [
                ("a", "T2", {"processed": False, "reasons": ["unreadable_image"], "warnings": []}),
                ("z", "T1", {}),
            ],
        )
        images = DatasetMetadata.from_file(path).get_study("a")["images"]
        assert images["T1"] == {"filename": "T1.nii.gz", "processed": True, "warnings": ["sheared_grid"]}
        assert images["T2"] == {"filename": "T2.nii", "processed": False, "reasons": ["unreadable_image"]}

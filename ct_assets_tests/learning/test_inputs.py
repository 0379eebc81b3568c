"""What `predict` finds: the file that is named, every image of a folder, a name of its own for each."""

import json

import numpy as np
import pytest

from ct_assets.errors import UsageError
from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.models import inputs


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    return root


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.parent / f"plain{'.nii.gz' if path.name.lower().endswith('gz') else '.nii'}"
    nifti.write(plain, Volume(np.zeros((3, 4, 5), np.int16), Grid((3, 4, 5), np.eye(4))))
    plain.rename(path)


def names(found):
    return [one.name for one in found.nifti]


def find(path, folder):
    return inputs.find(path, 1, folder.parent / "out")


class TestNames:
    def test_two_files_of_one_stem_keep_their_suffixes(self, folder):
        for name in ("a.nii", "a.nii.gz", "b.nii"):
            image(folder / name)
        assert names(find(folder, folder)) == ["a.nii", "a.nii.gz", "b"]

    def test_letters_that_differ_in_case_alone_are_two_names(self, folder):
        for name in ("a.nii", "A.NII.GZ"):
            image(folder / name)
        assert sorted(names(find(folder, folder))) == ["A.NII.GZ", "a.nii"]

    def test_subfolders_are_walked_and_keep_their_place(self, folder):
        for name in ("p1/scan.nii.gz", "p2/scan.nii.gz", "scan.nii"):
            image(folder / name)
        assert names(find(folder, folder)) == ["p1/scan", "p2/scan", "scan"]

    def test_a_name_that_is_taken_gets_a_number(self, folder):
        for name in ("a.nii", "a.nii.gz", "a.nii.nii"):
            image(folder / name)
        assert len({name.casefold() for name in names(find(folder, folder))}) == 3


class TestWhatIsFound:
    def test_a_file_that_is_named_is_the_only_one(self, folder):
        image(folder / "SCAN.NII.GZ")
        image(folder / "other.nii")
        assert names(find(folder / "SCAN.NII.GZ", folder)) == ["SCAN"]

    @pytest.mark.parametrize("name", ["scan.mha", "scan.nrrd", "scan"])
    def test_a_named_file_of_another_format_is_refused_by_name(self, folder, name):
        (folder / name).write_bytes(b"NRRD0004")
        with pytest.raises(UsageError, match=rf"{name}: is neither NIfTI nor DICOM"):
            find(folder / name, folder)

    def test_in_a_folder_it_is_a_line(self, folder):
        image(folder / "a.nii")
        (folder / "scan.mha").write_bytes(b"x")
        (folder / "notes.txt").write_text("x")
        (folder / ".hidden.nii").write_bytes(b"x")
        found = find(folder, folder)
        assert (names(found), found.refused) == (["a"], (("scan.mha", "image_format_unknown"),))

    def test_what_an_earlier_run_wrote_inside_of_the_input_is_no_input(self, folder):
        image(folder / "a.nii")
        image(folder / "out/a/mask.nii.gz")
        assert names(inputs.find(folder, 1, folder / "out")) == ["a"]

    def test_nothing_to_predict_is_refused(self, folder):
        (folder / "notes.txt").write_text("x")
        with pytest.raises(UsageError, match="neither a NIfTI image nor a DICOM image"):
            find(folder, folder)


class TestRecord:
    def test_a_line_is_on_the_disk_before_the_next_input(self, tmp_path):
        with inputs.Record(tmp_path) as record:
            record.add({"series": "b"})
            assert json.loads((tmp_path / inputs.RECORD).read_text()) == {"series": "b"}

    def test_lines_are_sorted_in_the_end(self, tmp_path):
        with inputs.Record(tmp_path) as record:
            record.add({"series": "b"})
            record.add({"series": "a"})
        told = (tmp_path / inputs.RECORD).read_text().splitlines()
        assert [json.loads(line)["series"] for line in told] == ["a", "b"]

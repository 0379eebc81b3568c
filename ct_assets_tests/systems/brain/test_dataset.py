"""The folder and its label table: what fails a run, what is only told."""

import pytest

from ct_assets.errors import UsageError
from ct_assets.systems.brain.dataset import validate_dataset_structure


@pytest.fixture
def root(tmp_path):
    for name in ("ID_a", "ID_b", "ID_c"):
        (tmp_path / "CTs").mkdir(exist_ok=True)
        (tmp_path / f"CTs/{name}.dcm").write_bytes(b"x")
    write(tmp_path, "ID_a,0", "ID_b,1", "ID_c,0")
    return tmp_path


def write(root, *rows, header="ID,Label", name="labels1.csv"):
    (root / name).write_text("\n".join([header, *rows]) + "\n")


def codes(root, **options):
    return {one.code: one.count for one in validate_dataset_structure(root, **options).warnings}


def refusal(root, **options):
    with pytest.raises(UsageError) as error:
        validate_dataset_structure(root, **options)
    return str(error.value)


class TestWhatFails:
    def test_no_data_folder(self, tmp_path):
        assert "no such data folder" in refusal(tmp_path / "absent")

    def test_no_ct_folder(self, root):
        assert "no such folder of DICOM files" in refusal(root, ct_dir_name="absent")

    def test_no_dicom_file(self, root):
        (root / "empty").mkdir()
        assert "no file that ends in .dcm" in refusal(root, ct_dir_name="empty")

    def test_no_label_table(self, root):
        assert "no such label table" in refusal(root, labels_filename="absent.csv")

    @pytest.mark.parametrize(("header", "wanted"), [("ID,labels", "Label"), ("ids,Label", "ID")])
    def test_a_missing_column_names_those_that_are_there(self, root, header, wanted):
        write(root, "ID_a,0", header=header)
        assert f"no column {wanted}; its columns are {header.replace(',', ', ')}" in refusal(root)

    def test_a_label_without_its_file(self, root):
        write(root, "ID_a,0", "ID_b,1", "ID_z,0")
        assert "1 IDs have no file in CTs: ID_z" in refusal(root)

    @pytest.mark.parametrize("label", ["2", "yes", "", "0.5", "nan", "-1"])
    def test_a_label_that_is_neither_0_nor_1_with_its_line(self, root, label):
        write(root, "ID_a,0", f"ID_b,{label}", "ID_c,0")
        assert "line 3: Label must be 0 or 1" in refusal(root)

    def test_an_empty_id(self, root):
        write(root, "ID_a,0", ",1")
        assert "line 3: ID is empty" in refusal(root)

    def test_an_id_that_leaves_the_folder(self, root):
        write(root, "ID_a,0", "../ID_b,1")
        assert "no file name" in refusal(root)

    def test_one_id_with_two_labels(self, root):
        write(root, "ID_a,0", "ID_a,1", "ID_b,1")
        assert "1 IDs have two labels: ID_a" in refusal(root)

    def test_a_class_that_does_not_occur(self, root):
        write(root, "ID_a,0", "ID_b,0")
        assert "no row with Label 1" in refusal(root)


class TestWhatIsTold:
    def test_a_clean_folder_tells_nothing(self, root):
        structure = validate_dataset_structure(root)
        assert structure.labels == {"ID_a": 0, "ID_b": 1, "ID_c": 0}
        assert not structure.warnings

    def test_a_file_without_a_row(self, root):
        (root / "CTs/ID_z.dcm").write_bytes(b"x")
        assert codes(root) == {"image_without_label": 1}

    @pytest.mark.parametrize("name", ["ID_a (1)", "ID_a - Copy", "ID_a copy 2", "ID_a - Copy (3)"])
    def test_a_copy_by_its_name(self, root, name):
        (root / f"CTs/{name}.dcm").write_bytes(b"x")
        assert codes(root) == {"copy_like_name": 1}

    def test_a_row_that_is_there_twice_counts_once(self, root):
        write(root, "ID_a,0", "ID_a,0", "ID_b,1")
        assert codes(root)["label_repeated"] == 1
        assert validate_dataset_structure(root).labels == {"ID_a": 0, "ID_b": 1}

    def test_class_counts_and_imbalance(self, root):
        told = validate_dataset_structure(root).json()
        assert told["class_counts"] == {"0": 2, "1": 1}
        assert told["imbalance_ratio"] == 2
        assert told["positive_share"] == pytest.approx(1 / 3)

    def test_tables_of_other_programs(self, root):
        (root / "labels1.csv").write_bytes("\ufeffID,Label\r\nID_a.dcm,0.0\r\nID_b , 1\r\n".encode())
        assert validate_dataset_structure(root).labels == {"ID_a": 0, "ID_b": 1}


class TestExpectedCount:
    def test_by_default_nothing_is_counted(self, root):
        assert validate_dataset_structure(root).dicom_files == 3

    def test_the_right_number_passes(self, root):
        assert validate_dataset_structure(root, expected_num_dicoms=3).dicom_files == 3

    def test_another_number_fails(self, root):
        assert "3 DICOM files, expected_num_dicoms says 5123" in refusal(root, expected_num_dicoms=5123)

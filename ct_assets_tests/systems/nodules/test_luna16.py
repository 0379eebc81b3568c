"""LUNA16's files: which rows are used, and the reason of every other."""

import numpy as np
import pytest

from ct_assets.errors import UsageError
from ct_assets.reasons import reason
from ct_assets.systems.nodules import luna16

HEADER = "seriesuid,coordX,coordY,coordZ,"


def write(path, last, *rows):
    path.write_text("\n".join([HEADER + last, *rows]) + "\n")
    return path


def reasons(found):
    assert all(reason(row.reason) for row in found.left_out)
    return {(row.file, row.line): row.reason for row in found.left_out}


def test_every_row_is_used_or_has_its_reason(tmp_path):
    annotations = write(
        tmp_path / "a.csv",
        "diameter_mm",
        "1.2.1,1,2,3,5",
        "1.2.1,1,2,3,5",
        "1.36E+58,0,0,0,5",
        "1.2.1,nan,0,0,5",
        "1.2.1,1,2,9,-1",
        "1.2.1,1,2,9,0",
        "1.2.1,1,2",
        "1.2.1,1,2,9,4,7",
        "1.2.9,1,2,9,4",
        "1.2.2,-1e1,2.5,9,1_0",
        "1.2.2,-1e1,2.5,9,10",
    )
    found = luna16.read(annotations, series=["1.2.1", "1.2.2", "1.2.3"])
    assert found.findings.series_uid == ["1.2.1", "1.2.2"]
    assert found.findings.line == [2, 12]
    assert np.array_equal(found.findings.centre_mm, [[1, 2, 3], [-10, 2.5, 9]])
    assert [code.removeprefix("luna_") for code in reasons(found).values()] == [
        "row_repeated",
        "series_no_uid",
        "no_number",
        "diameter_not_positive",
        "diameter_not_positive",
        "row_shifted",
        "row_shifted",
        "series_not_listed",
        "no_number",
    ]


def test_candidates_are_hard_negatives_only_and_never_lie_on_a_finding(tmp_path):
    annotations = write(tmp_path / "a.csv", "diameter_mm", "1.2.1,0,0,0,10")
    excluded = write(tmp_path / "e.csv", "diameter_mm", "1.2.1,100,0,0,-1")
    candidates = write(
        tmp_path / "c.csv",
        "class",
        "1.2.1,0,0,0,1",
        "1.2.1,4.9,0,0,0",
        "1.2.1,5,0,0,0",
        "1.2.1,104.9,0,0,0",
        "1.2.2,0,0,0,0",
        "1.2.2,0,0,1,2",
    )
    found = luna16.read(annotations, excluded, candidates)
    assert len(found.findings) == len(found.excluded) == 1
    assert found.hard_negatives.line == [4, 6]
    assert reasons(found) == {
        ("c.csv", 2): "luna_candidate_is_finding",
        ("c.csv", 3): "luna_candidate_on_finding",
        ("c.csv", 5): "luna_candidate_on_finding",
        ("c.csv", 7): "luna_class_unknown",
    }


def test_annotations_of_another_data_set_are_refused_in_one_line(tmp_path):
    annotations = write(tmp_path / "a.csv", "diameter_mm", "1.2.1,0,0,0,10")
    with pytest.raises(UsageError, match="no row of it"):
        luna16.read(annotations, series=["1.3.1"])
    with pytest.raises(UsageError, match="no column diameter_mm"):
        luna16.read(write(tmp_path / "c.csv", "class", "1.2.1,0,0,0,0"))


class TestSubsets:
    def test_of_a_folder(self, tmp_path):
        for name in (
            "subset0/1.2.1.mhd",
            "subset0/1.2.1.raw",
            "subset9/1.2.2.mhd",
            "subset9/x.mhd",
            "other/1.2.5.mhd",
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        found = luna16.subsets_of_folder(tmp_path)
        assert found.of_series == {"1.2.1": 0, "1.2.2": 9}
        assert reasons(found) == {("subset9/x.mhd", None): "luna_series_no_uid"}
        with pytest.raises(UsageError, match="subset0"):
            luna16.subsets_of_folder(tmp_path / "other")

    def test_a_series_and_a_patient_in_two_subsets_are_named(self, tmp_path):
        path = tmp_path / "s.csv"
        path.write_text(
            "seriesuid,subset\n1.2.1,0\n1.2.1,1\n1.2.2,subset2\n1.2.3,3\n1.2.4,10\n1.2.5,3\n1.2.2,2\n"
        )
        patients = {"1.2.2": "P1", "1.2.3": "P1", "1.2.5": "P2"}
        found = luna16.subsets_of_file(path, patient_of=patients)
        assert found.of_series == {"1.2.2": 2, "1.2.3": 3, "1.2.5": 3}
        assert found.split_patients == {"P1": (2, 3)}
        assert reasons(found) == {
            ("s.csv", 2): "luna_series_in_two_subsets",
            ("s.csv", 3): "luna_series_in_two_subsets",
            ("s.csv", 6): "luna_subset_unknown",
        }

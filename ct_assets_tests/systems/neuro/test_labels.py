"""Labels of studies: CSV, JSON, mappings, and what is refused."""

import pytest

from ct_assets.errors import UsageError
from ct_assets.systems.neuro.labels import read_labels


class TestCsv:
    @pytest.mark.parametrize(
        ("text", "task", "classes", "label"),
        [
            ("study_id,bleed\na,1\nb,0\n", "binary", 2, 1),
            ("study_id,grade\na,3\nb,0\n", "multiclass", 4, 3),
            ("study_id,x,y,z\na,1,0,1\nb,0,0,0\n", "multilabel", 3, (1, 0, 1)),
            ("﻿study_id,bleed\r\n a , 1.0 \r\n\r\n", "binary", 2, 1),
        ],
    )
    def test_the_task_follows_from_columns_and_values(self, tmp_path, text, task, classes, label):
        (tmp_path / "labels.csv").write_text(text, encoding="utf-8", newline="")
        labels = read_labels(tmp_path / "labels.csv")
        assert (labels.task, labels.classes, labels.of_study["a"]) == (task, classes, label)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "is empty"),
            ("patient,bleed\na,1\n", "study_id"),
            ("study_id\na\n", "label column"),
            ("study_id,bleed\na,yes\n", "line 2.*'yes'"),
            ("study_id,bleed\na,\n", "line 2"),
            ("study_id,bleed\na,-1\n", "-1"),
            ("study_id,bleed\na,0.5\n", "0.5"),
            ("study_id,x,y\na,1,2\n", "0 or 1"),
            ("study_id,bleed\na,1,0\n", "3 cells"),
            ("study_id,bleed\na,1\na,0\n", "another label"),
        ],
    )
    def test_a_wrong_table_is_refused_with_row_and_value(self, tmp_path, text, told):
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(UsageError, match=told):
            read_labels(tmp_path / "labels.csv")

    def test_a_row_repeated_exactly_does_no_harm(self, tmp_path):
        (tmp_path / "labels.csv").write_text("study_id,bleed\na,1\na,1\n")
        assert read_labels(tmp_path / "labels.csv").of_study == {"a": 1}


class TestJsonAndMappings:
    def test_json_of_study_to_class(self, tmp_path):
        (tmp_path / "labels.json").write_text('{"a": 0, "b": 2}')
        labels = read_labels(tmp_path / "labels.json")
        assert (labels.task, labels.classes, labels.of_study) == ("multiclass", 3, {"a": 0, "b": 2})

    @pytest.mark.parametrize(
        "text", ["[1]", "{", '{"a": "high"}', '{"a": 1, "b": [1, 0]}', '{"a": [1], "b": [1, 0]}']
    )
    def test_other_json_is_refused(self, tmp_path, text):
        (tmp_path / "labels.json").write_text(text)
        with pytest.raises(UsageError):
            read_labels(tmp_path / "labels.json")

    def test_a_mapping_of_several_labels(self):
        assert read_labels({"a": [1, 0], "b": [0, 1]}).task == "multilabel"

    @pytest.mark.parametrize("name", ["none.csv", "labels.xlsx"])
    def test_a_missing_file_or_another_format_is_refused(self, tmp_path, name):
        (tmp_path / "labels.xlsx").write_bytes(b"")
        with pytest.raises(UsageError, match=name):
            read_labels(tmp_path / name)

"""Folds that a person made: taken over as they are, refused where they leak."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from ct_assets.cohort import splits_given
from ct_assets.errors import UsageError
from ct_assets.settings.folds import SplitSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CASES = pl.DataFrame(
    {
        "case_id": ["a1", "a2", "b1", "c1", "d1"],
        "patient_id": ["A", "A", "B", "C", "D"],
        "stage": ["I", "I", "II", "I", "II"],
    }
)


def given_csv(folder: Path, *rows: str, head: str = "patient_id,split,fold") -> Path:
    path = folder / "folds.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def given_json(folder: Path, *folds: tuple[list[str], list[str]]) -> Path:
    path = folder / "splits_final.json"
    path.write_text(json.dumps([{"train": train, "val": val} for train, val in folds]))
    return path


def places(path: Path, ledger: pl.DataFrame | None = None) -> dict[str, tuple[str, int | None]]:
    made = splits_given.from_file(path, CASES, SplitSettings(), NOW, ledger)
    return {row["patient_id"]: (row["split"], row["fold"]) for row in made.iter_rows(named=True)}


def test_a_csv_by_patient_is_taken_over(tmp_path):
    path = given_csv(tmp_path, "A,train,0", "B,train,1", "C,train,0", "D,test,")
    assert places(path) == {"A": ("train", 0), "B": ("train", 1), "C": ("train", 0), "D": ("test", None)}


def test_nnunet_folds_are_taken_over_and_who_is_not_named_is_the_test_set(tmp_path):
    path = given_json(tmp_path, (["a1", "a2"], ["b1", "c1"]), (["b1", "c1"], ["a1", "a2"]))
    assert places(path) == {"A": ("train", 1), "B": ("train", 0), "C": ("train", 0), "D": ("test", None)}


def test_cases_of_one_patient_in_train_and_val_are_a_leak(tmp_path):
    path = given_json(tmp_path, (["a1", "c1"], ["a2", "b1"]), (["a2", "b1"], ["a1", "c1"]))
    with pytest.raises(UsageError, match="A train and are validated"):
        places(path)


def test_a_patient_in_two_folds_of_a_csv_is_a_leak(tmp_path):
    path = given_csv(tmp_path, "a1,0", "a2,1", "b1,0", "c1,1", "d1,0", head="case_id,fold")
    with pytest.raises(UsageError, match="A: a patient in two parts"):
        places(path)


def test_a_case_validated_twice_is_refused(tmp_path):
    path = given_json(tmp_path, (["c1"], ["b1"]), (["c1"], ["b1"]))
    with pytest.raises(UsageError, match="validated in two folds"):
        places(path)


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (["A,train,0", "B,train,1", "C,train,0"], "no row for D"),
        (["A,train,0", "B,train,1", "C,train,0", "D,train,1", "E,test,"], "E: not among the cases"),
        (["A,train,0", "B,train,2", "C,train,0", "D,test,"], "numbered 0, 1"),
        (["A,train,0", "B,train,x", "C,train,0", "D,test,"], "fold is 'x'"),
        (["A,train,0", "B,val,1", "C,train,0", "D,test,"], "split is 'val'"),
    ],
)
def test_a_faulty_table_is_refused_by_name(tmp_path, rows, what):
    with pytest.raises(UsageError, match=what):
        places(given_csv(tmp_path, *rows))


def test_given_folds_may_not_move_anybody_of_an_existing_ledger(tmp_path):
    first = given_csv(tmp_path, "A,train,0", "B,train,1", "C,train,0", "D,test,")
    ledger = splits_given.from_file(first, CASES, SplitSettings(), NOW)
    other = given_csv(tmp_path, "A,train,1", "B,train,0", "C,train,0", "D,test,")
    with pytest.raises(UsageError, match="nobody ever moves"):
        places(other, ledger)
    assert splits_given.from_file(
        given_csv(tmp_path, "A,train,0", "B,train,1", "C,train,0", "D,test,"),
        CASES,
        SplitSettings(),
        NOW,
        ledger,
    ).equals(ledger)

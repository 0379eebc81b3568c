"""The record of the ledger: growth and tombstones are in order, any other change is named, the chain mended or not."""

import polars as pl
import pytest

from ct_assets.cohort import splits, splits_checks, splits_record
from ct_assets.settings.folds import SplitSettings
from ct_assets_tests.cohort.test_splits import made, people


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "record.json"
    splits_record.write(path, made(people(30)))
    return path


def codes(record, ledger):
    return [one.code for one in splits_record.faults(record, ledger)]


def test_a_ledger_that_grew_is_sound(record):
    ledger = made(people(30))
    assert codes(record, splits.extend(ledger, people(40), SplitSettings(), ledger["added_at"][0])) == []


def test_a_tombstone_in_its_place_is_sound_and_its_first_content_is_forgotten(record):
    ledger = made(people(30))
    after = splits.withdraw(ledger, ledger["patient_id"][3], "tomb")
    assert codes(record, after) == []
    splits_record.write(record, after)
    assert codes(record, ledger) == ["ledger_rewritten"]


def test_a_moved_patient_is_found_although_the_chain_was_made_anew(record):
    ledger = made(people(30))
    row = ledger.filter(pl.col("fold").is_not_null())["row"][0]
    other = pl.when(pl.col("row") == row).then((pl.col("fold") + 1) % 5).otherwise("fold")
    moved = splits.chained(ledger.with_columns(fold=other))
    assert splits_checks.broken_rows(moved) == []
    assert [one.subject for one in splits_record.faults(record, moved)] == [f"row {row}"]


def test_a_ledger_cut_short_with_its_chain_whole_is_found(record):
    assert codes(record, made(people(30))[:-2]) == ["ledger_rewritten"] * 2


def test_another_ledger_in_its_place_is_found(record):
    assert set(codes(record, made(people(30), salt="other"))) == {"ledger_rewritten"}


def test_a_ledger_that_is_gone_is_not_begun_again_in_silence(record):
    assert "is gone, 30 patients" in splits_record.faults(record, None)[0].sentence


def test_before_the_first_ledger_there_is_nothing_to_hold(tmp_path):
    assert splits_record.faults(tmp_path / "none.json", None) == []


def test_the_record_names_nobody(record):
    text = record.read_text()
    assert not any(patient in text for patient in made(people(30))["patient_id"])

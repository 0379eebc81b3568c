"""Both real drops through the graph, in every order in which they may come and be run."""

import csv
from itertools import permutations
from pathlib import Path

import polars as pl
import pytest

from ct_assets_tests.defs import platforms

pytestmark = [pytest.mark.slow, pytest.mark.real]

LOCALIZER_INSIDE = "localizer inside the series"
"""Excluded, or eligible with the localizer left out by name: both are right."""
ARRIVAL = {"audits/intake/deliveries.jsonl"}
"""The record of deliveries is one of arrival."""


@pytest.fixture(scope="module")
def delivered(real_data) -> Path:
    return real_data / "lung_cohort"


@pytest.fixture(scope="module")
def drops(delivered) -> list[Path]:
    return sorted((delivered / "drops").iterdir())


def fresh(folder: Path, delivered: Path):
    platforms.write_settings(folder, delivered / "raw_manifest.csv", shipped="local")
    return platforms.settings_of(folder)


@pytest.fixture(scope="module")
def runs_at_once(tmp_path_factory, delivered, drops):
    """The platforms that took all drops before their one run, by order of arrival."""
    made = []
    for order in permutations(drops):
        settings = fresh(tmp_path_factory.mktemp("at_once"), delivered)
        for drop in order:
            platforms.take(settings, drop)
        platforms.run(settings)
        made.append(settings)
    return made


@pytest.fixture(scope="module")
def runs_after_each(tmp_path_factory, delivered, drops):
    """Platforms that ran after each drop, by order of arrival, and who was eligible after the first run."""
    made = []
    for order in permutations(drops):
        settings = fresh(tmp_path_factory.mktemp("after_each"), delivered)
        early = None
        for drop in order:
            platforms.take(settings, drop)
            platforms.run(settings)
            early = early or judged(settings)
        made.append((settings, order, early))
    return made


def judged(settings) -> dict[str, bool]:
    """Return who is eligible, by raw patient ID."""
    table = dict(pl.read_parquet(settings.layout.eligibility).select("patient_id", "is_eligible").iter_rows())
    return {raw: table[pseudonym] for (raw, _), pseudonym in platforms.pseudonyms(settings).items()}


def answers(delivered: Path) -> list[dict[str, str]]:
    with (delivered / "expected.csv").open(encoding="utf-8", newline="") as opened:
        return [row for row in csv.DictReader(opened) if row["reason"] != LOCALIZER_INSIDE]


def content_by_patient(settings) -> dict[str, tuple[str, str]]:
    table = pl.read_parquet(settings.layout.nifti_digests)
    return {
        row["patient_id"]: (row["image_sha256"], row["label_sha256"]) for row in table.iter_rows(named=True)
    }


def test_batches_before_one_run_give_the_same_bytes_in_either_order(runs_at_once):
    first, second = (platforms.digests(settings.data_root) for settings in runs_at_once)
    assert {path for path in first | second if first.get(path) != second.get(path)} <= ARRIVAL
    assert len(first) > 100


def test_every_patient_is_judged_as_the_answer_key_says(runs_at_once, delivered):
    found = judged(runs_at_once[0])
    for row in answers(delivered):
        assert found.get(row["patient"], False) == (row["eligible"] == "yes"), row


def test_after_the_first_week_alone_its_own_state_holds(runs_after_each, drops, delivered):
    (early,) = [early for _, order, early in runs_after_each if order[0] == drops[0]]
    for row in answers(delivered):
        assert early.get(row["patient"], False) == (row["after_week1"] == "yes"), row


def test_a_run_after_each_batch_gives_the_same_judgement_images_and_masks(runs_at_once, runs_after_each):
    expected = pl.read_parquet(runs_at_once[0].layout.eligibility)
    for settings, _, _ in runs_after_each:
        assert pl.read_parquet(settings.layout.eligibility).equals(expected)
        assert content_by_patient(settings) == content_by_patient(runs_at_once[0])

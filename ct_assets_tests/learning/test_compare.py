"""Two experiments on the same patients: paired, refused by name, no verdict from few."""

import numpy as np
import pytest

from ct_assets import files, tables
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.learning.evaluation.compare import compare
from ct_assets.reports import comparison
from ct_assets.tables.learning import SegmentationScores

CASES = 20


def write_scores(layout, experiment, dice):
    base = dict.fromkeys(SegmentationScores.column_names(), 0) | {
        "nsd": 0.5,
        "lesion_f1": 0.5,
        "is_missed": False,
    }
    rows = [
        base | {"model": "model", "case_id": f"case_{n:04}", "patient_id": f"P{n}", "fold": "0", "stage": "I",
                "site": "a", "scanner": "s", "dice": float(value)}
        for n, value in enumerate(dice)
    ]  # fmt: skip
    path = layout.experiment(experiment) / "segmentation_scores.parquet"
    tables.write_table(path, tables.frame(rows, SegmentationScores), SegmentationScores)


@pytest.fixture
def layout(tmp_path):
    """Experiment `wide` is better than `narrow` by 0.1 in every case, give or take 0.01; cases differ much more."""
    layout, rng = Layout(tmp_path), np.random.default_rng(3)
    narrow = rng.uniform(0.1, 0.8, CASES)
    write_scores(layout, "narrow", narrow)
    write_scores(layout, "wide", narrow + 0.1 + rng.normal(0, 0.01, CASES))
    return layout


def test_a_small_difference_in_every_case_is_seen_since_it_is_paired(layout):
    found = compare(layout, "wide", "narrow", confidence=0.95)
    dice = found["metrics"]["dice"]
    assert dice["difference"] == pytest.approx(0.1, abs=0.01)
    assert 0.09 < dice["low"] < dice["high"] < 0.11
    assert (dice["cases_better"], dice["cases_equal"]) == (CASES, 0)
    assert found["verdict"].startswith("Dice: wide is better than narrow by +0.1")
    assert (
        compare(layout, "narrow", "wide", confidence=0.95)["metrics"]["dice"]["difference"]
        == -dice["difference"]
    )


def test_only_cases_that_both_predicted_count(layout):
    write_scores(layout, "short", [0.5] * 12)
    found = compare(layout, "wide", "short", confidence=0.95)
    assert (found["cases"], found["only_first"], found["only_second"]) == (12, CASES - 12, 0)


def test_few_patients_give_no_verdict(layout):
    write_scores(layout, "few", [0.5, 0.6, 0.7])
    assert "too few" in compare(layout, "wide", "few", confidence=0.95)["verdict"]


@pytest.mark.parametrize(("first", "second", "message"), [
    ("wide", "other", "no cross-validation report yet.*narrow, wide"),
    ("wide", "wide", "another one"),
    ("wide", "../x", "letters, digits"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused_by_name(layout, first, second, message):
    with pytest.raises(UsageError, match=message):
        compare(layout, first, second, confidence=0.95)


def test_the_page_shows_the_verdict_and_no_patient(layout):
    content = compare(layout, "wide", "narrow", confidence=0.95)
    page = comparison.write(content, layout)
    assert content["verdict"] in page.read_text()
    assert files.read_json(page.with_suffix(".json")) == content
    assert "P1" not in page.read_text() + page.with_suffix(".json").read_text()

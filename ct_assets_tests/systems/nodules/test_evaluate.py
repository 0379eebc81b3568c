"""The report of a detector: figures worked out by hand, and one CPM however it is computed."""

import json

import numpy as np
import pytest

from ct_assets.systems.nodules import evaluate, froc, mark_calibration, marks
from ct_assets.systems.nodules.marks import Evaluated, Mark, Truth


def invented(seed=0, scans=40, skill=2.0):
    """Findings and marks by chance; the higher the skill the higher the scores of hits."""
    rng = np.random.default_rng([seed])
    names = [f"1.2.{number}" for number in range(scans)]
    truths, made = [], []
    for name in names:
        for _ in range(rng.integers(0, 4)):
            centre = rng.uniform(-100, 100, 3)
            is_excluded = bool(rng.random() < 0.2)
            diameter = float(rng.uniform(3, 25))
            kind = str(rng.choice(["solid", "ground_glass"]))
            truths.append(Truth(name, tuple(centre), diameter, kind, int(rng.integers(1, 11)), is_excluded))
            if rng.random() < 0.85:
                at = centre + rng.normal(0, 1, 3)
                score = 1 / (1 + np.exp(-rng.normal(skill)))
                made.append(
                    Mark(name, tuple(at), float(score), diameter + float(rng.normal()), float(rng.random()))
                )
        for _ in range(rng.integers(0, 12)):
            made.append(Mark(name, tuple(rng.uniform(-100, 100, 3)), float(1 / (1 + np.exp(-rng.normal())))))
    return Evaluated(names, truths, made)


def test_the_cpm_of_the_report_is_that_of_the_froc_command_on_the_exported_files(tmp_path):
    data = invented()
    report = evaluate.evaluate(data, samples=20)
    paths = marks.export(data, tmp_path)
    again = froc.evaluate(paths["annotations"], paths["excluded"], paths["series"], paths["marks"])
    assert report["cpm"] == pytest.approx(again["cpm"], abs=1e-9)
    assert report["sensitivity_at"] == pytest.approx(again["sensitivity_at"], abs=1e-9)
    assert report["found"] == again["counts"]["hits"]
    assert report["missed"] == again["counts"]["missed"]


def test_figures_by_hand():
    truths = [
        Truth("a", (0, 0, 0), 10.0, "solid", 8),
        Truth("a", (50, 0, 0), 6.0, "solid", 2),
        Truth("b", (0, 0, 0), 20.0, "ground_glass", 5),
        Truth("b", (90, 0, 0), -1.0, is_excluded=True),
        Truth("b", (70, 0, 0), 8.0),
    ]
    made = [
        Mark("a", (3, 0, 0), 0.9, 11.0, 0.9),
        Mark("a", (1, 0, 0), 0.5, 99.0, 0.1),
        Mark("a", (50, 1, 0), 0.8, 5.0, 0.1),
        Mark("b", (0, 0, 5), 0.7, 22.0, 0.5),
        Mark("b", (91, 0, 0), 0.99),
    ]
    report = evaluate.evaluate(Evaluated(["a", "b", "c"], truths, made), samples=10)
    assert (report["found"], report["missed"]) == (3, 1)
    assert report["cpm"] == pytest.approx(0.75)
    assert report["centre_error_mm"]["value"] == pytest.approx((3 + 1 + 5) / 3)
    # errors 1, -1, 2; true sizes 10, 6, 20 around 12: 4 + 36 + 64
    assert report["size"] == pytest.approx(
        {"findings": 3, "mae_mm": 4 / 3, "bias_mm": 2 / 3, "r_squared": 1 - 6 / 104}
    )
    assert report["triage"] == pytest.approx(
        {"findings": 3, "spearman": 1.0, "weighted_kappa": 1.0, "auc": 1.0}
    )
    assert report["by_type"]["solid"]["cpm"] == 1.0
    assert report["by_type"]["unknown"]["found"] == 0
    # Exactly 8 mm and exactly 20 mm belong to the stratum above.
    assert {name: part["findings"] for name, part in report["by_size"].items()} == {
        "below 4 mm": 0, "4 to 8 mm": 1, "8 to 12 mm": 2, "12 to 20 mm": 0, "from 20 mm": 1, "unknown": 0,
    }  # fmt: skip
    assert report["by_size"]["below 4 mm"]["cpm"] is None
    assert "missed 1" in evaluate.text(report)
    json.dumps(report, allow_nan=False)


def test_without_marks_nothing_is_made_up():
    report = evaluate.evaluate(Evaluated(["a"], [Truth("a", (0, 0, 0), 5.0)], []), folds={"a": 0}, samples=10)
    assert report["cpm"] == 0
    assert report["size"]["mae_mm"] is report["triage"]["auc"] is report["centre_error_mm"]["value"] is None
    assert report["masks"]["dice"]["value"] is None
    evaluate.text(report)
    json.dumps(report, allow_nan=False)


def test_a_better_detector_is_found_better_and_the_same_one_is_not():
    good, bad = invented(skill=3.0), invented(skill=-1.0)
    bad = Evaluated(good.scans, good.truths, [m for m in bad.marks if m.diameter_mm is None] + [
        Mark(m.scan, m.centre_mm, m.score / 4) for m in good.marks if m.diameter_mm is not None
    ])  # fmt: skip
    found = evaluate.compare(good, bad, samples=200)["difference"]
    assert found["low"] > 0
    assert evaluate.compare(bad, good, samples=200)["difference"]["high"] < 0
    same = evaluate.compare(good, good, samples=50)["difference"]
    assert same["value"] == 0
    with pytest.raises(ValueError, match="same scans"):
        evaluate.compare(good, Evaluated(good.scans[1:], [], []))


def test_overlap():
    first, second = np.zeros((2, 6), dtype=bool)
    assert evaluate.overlap(first, second) == (1.0, 1.0)
    first[:4] = True
    assert evaluate.overlap(first, second) == (0.0, 0.0)
    second[2:6] = True
    assert evaluate.overlap(first, second) == (pytest.approx(0.5), pytest.approx(2 / 6))


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_scores_are_calibrated_on_the_other_folds(kind):
    rng = np.random.default_rng(4)
    truth = rng.uniform(0.02, 0.98, 3000)
    is_hit = rng.random(3000) < truth
    # Too sure of itself: its log odds are three times too large.
    scores = 1 / (1 + np.exp(-3 * np.log(truth / (1 - truth))))
    scans = [f"{number % 60}" for number in range(3000)]
    folds = [number % 60 % 5 for number in range(3000)]
    after = mark_calibration.out_of_fold(scores, is_hit, scans, folds, kind=kind)
    assert mark_calibration.quality(scores, is_hit)["ece"] > 0.1
    assert mark_calibration.quality(after, is_hit)["ece"] < 0.03
    if kind == "temperature":
        assert mark_calibration.fit(scores, is_hit, scans, kind=kind).temperature == pytest.approx(3, rel=0.1)
    # The held-out fold's own labels change nothing for it.
    flipped = np.where(np.array(folds) == 2, ~is_hit, is_hit)
    again = mark_calibration.out_of_fold(scores, flipped, scans, folds, kind=kind)
    assert np.array_equal(after[np.array(folds) == 2], again[np.array(folds) == 2])


def test_few_scans_calibrate_nothing():
    few = mark_calibration.fit(np.array([0.2, 0.8]), np.array([False, True]), ["a", "b"], kind="isotonic")
    assert few.kind == "none"
    assert few.apply(np.array([0.3])) == 0.3
    with pytest.raises(ValueError, match="between 0 and 1"):
        mark_calibration.fit(np.array([1.2]), np.array([True]), ["a"], kind="temperature")

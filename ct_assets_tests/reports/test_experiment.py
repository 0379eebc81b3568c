"""The page of an experiment: one file, the same numbers as its JSON, forced readings marked."""

import re

import numpy as np
import polars as pl
import pytest

from ct_assets import files, tables
from ct_assets.layout import Layout
from ct_assets.reports import experiment, figures
from ct_assets.tables.learning import SegmentationScores

FIGURE = {"value": 0.71234, "low": 0.60012, "high": 0.80056, "patients": 9, "undefined_share": 0.0}


def content(**changes):
    pooled = dict.fromkeys(experiment.SEGMENTATION_COLUMNS, FIGURE)
    return {
        "kind": "cross_validation",
        "experiment": "lung",
        "patients": 9,
        "cases": 9,
        "folds": [],
        "confidence": 0.95,
        "bootstrap_samples": 500,
        "nsd_tolerance_mm": 2.0,
        "verdicts": ["dice: the model does NOT beat threshold_in_lung: difference 0.010 (interval none)."],
        "segmentation": {"model": {"pooled": pooled, "folds": {}, "strata": {}}},
        "stage": {},
        "calibration": {"kind": "none", "operating_points": []},
        "case_scores": [],
        "models": ["0" * 64],
        "config_digest": "1" * 64,
        "manifest_digest": "2" * 64,
        **changes,
    }


def written(folder, **changes):
    none = tables.frame([], SegmentationScores)
    return experiment.write(content(**changes), pl.DataFrame(), none, Layout(folder), none, folder=folder)


def test_the_numbers_of_the_page_are_those_of_the_json_beside_it(tmp_path):
    page = written(tmp_path).read_text()
    twin = files.read_json(tmp_path / experiment.JSON_NAME)
    figure = twin["segmentation"]["model"]["pooled"]["dice"]
    shown = re.findall(r"(\d\.\d{3}) \((\d\.\d{3}) to (\d\.\d{3})\)", page)
    assert len(shown) >= len(experiment.SEGMENTATION_COLUMNS)
    for value, low, high in shown:
        for text, number in ((value, "value"), (low, "low"), (high, "high")):
            assert float(text) == pytest.approx(figure[number], abs=5e-4)


def test_it_is_one_file(tmp_path):
    page = written(tmp_path).read_text()
    assert "<script" not in page
    assert not re.search(r'src="(?!data:)', page)
    assert not re.search(r'href="(https?:|/)', page)  # other pages of the platform, from where it lies


def test_it_opens_with_the_result_in_one_sentence(tmp_path):
    page = written(tmp_path).read_text()
    sentence = page[page.index('class="result">') :].split(">", 1)[1].split("</p>")[0]
    assert sentence.startswith("Out of fold, the model reaches Dice 0.712 (0.600 to 0.801) on 9 patients")
    assert page.index('class="result"') < page.index("<table")


def test_a_failure_leads_to_its_case_and_the_viewer(tmp_path):
    row = {"case_id": "case_0007", "patient_id": "P", "fold": "1", "stage": "I", "dice": 0.2, "reference_ml": 1.0,
           "predicted_ml": 0.1, "is_missed": False}  # fmt: skip
    page = written(tmp_path, case_scores=[row]).read_text()
    assert 'href="../../cases/case_0007.html"' in page
    assert 'href="../../../viewer/cases/case_0007"' in page


def test_a_model_that_beats_nothing_is_told_so_in_red(tmp_path):
    assert 'class="verdict not">dice: the model does NOT beat' in written(tmp_path).read_text()


def test_a_forced_reading_stands_on_top(tmp_path):
    assert "This reading was forced" not in written(tmp_path, is_forced=False).read_text()
    assert "This reading was forced" in written(tmp_path, is_forced=True).read_text()


def test_what_is_not_defined_is_a_dash():
    assert experiment.figure_text({"value": None, "low": None, "high": None}) == "–"
    assert experiment.figure_text(FIGURE | {"low": None}) == "0.712"


def test_the_same_figures_give_the_same_picture():
    rows = {"0": [{"epoch": 1, "train_loss": 0.5, "learning_rate": 0.1, "val_dice": 0.4}]}
    assert figures.curves(rows) == figures.curves(rows)


def test_an_overlay_says_what_its_title_says():
    image, mask = np.zeros((4, 6, 6), np.int16), np.zeros((4, 6, 6), np.uint8)
    mask[1:3, 2:4, 2:4] = 1
    drawn = {
        title: figures.overlay(image, {"predicted": mask}, (1, 1, 1), title=title)
        for title in ("1 ml", "2 ml")
    }
    assert drawn["1 ml"] != drawn["2 ml"]

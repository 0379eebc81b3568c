"""Evaluation of predicted crops: what a model that knows the answer, and one that knows nothing, are told."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ct_assets.cli import app
from ct_assets.systems.longitudinal import evaluation, networks, page, patch_store, training
from ct_assets_tests.systems.longitudinal.test_generative import TINY


class Fixed(networks.VelocityField):
    """Nothing moves: the prediction is the earlier exam."""

    def forward(self, x, t, condition, days):
        return torch.zeros_like(x)


@pytest.fixture
def evaluated(cohort, monkeypatch):
    def run(predict):
        digest = patch_store.read(cohort.patches).digest
        model = training.FlowModel(Fixed(), TINY, (100.0, 700.0), "sha", digest)
        monkeypatch.setattr(training.FlowModel, "predict", lambda _, crops, days=None: predict(crops, days))
        monkeypatch.setattr(training, "open_flow", lambda _: model)
        return evaluation.run(cohort.patches, cohort.root / "models/flow")

    return run


def test_a_model_that_knows_the_later_exam_has_no_error_and_one_that_copies_is_the_baseline(evaluated):
    perfect = evaluated(lambda crops, _: crops.later.astype(np.float32))
    assert perfect.report["strata"]["all"]["model"]["mae_mm3"]["value"] == pytest.approx(0, abs=1e-6)
    assert perfect.report["images"]["mean_dice"] == pytest.approx(1)
    copied = evaluated(lambda crops, _: crops.earlier.astype(np.float32))
    stratum = copied.report["strata"]["all"]
    assert stratum["model"]["mae_mm3"]["value"] == pytest.approx(
        stratum["baselines"]["copy_input"]["mae_mm3"]["value"]
    )
    assert copied.report["images"]["mean_outside_change_hu"] == 0


def test_a_model_without_a_nodule_counts_as_volume_0_with_a_reason(evaluated):
    nothing = evaluated(lambda crops, _: np.full(crops.later.shape, -860.0, np.float32))
    rows = nothing.rows
    assert nothing.report["not_found"] == len(rows) > 0
    assert {row["predicted"] for row in rows} == {0.0}
    assert all("prediction_without_nodule" in row["reasons"] for row in rows)
    truth = np.mean([row["volume_b"] for row in rows])
    assert nothing.report["strata"]["all"]["model"]["mae_mm3"]["value"] == pytest.approx(truth)


def test_an_interval_beyond_the_training_is_marked(evaluated):
    rows = evaluated(lambda crops, _: crops.earlier.astype(np.float32)).rows
    for row in rows:
        assert ("interval_beyond_training" in row["reasons"]) == (not 100 <= row["delta_days"] <= 700)


def test_a_model_that_gives_back_training_crops_is_seen():
    rng = np.random.default_rng(0)
    learned, real = rng.normal(-500, 200, (8, 4, 4, 4)), rng.normal(-500, 200, (5, 4, 4, 4))
    assert evaluation.memorisation(learned[:5], real, learned)["ratio"] == pytest.approx(0, abs=1e-6)
    assert evaluation.memorisation(real, real, learned)["ratio"] == pytest.approx(1)


def test_a_prediction_that_ignores_the_interval_loses_nothing_without_it(evaluated):
    blind = evaluated(lambda crops, _: crops.later.astype(np.float32))
    withheld = blind.report["interval_withheld"]
    if withheld["pairs"]:
        assert withheld["predicted_shuffled_interval_lost_share"]["value"] == pytest.approx(0, abs=1e-6)


def test_the_command_writes_tables_and_a_page_that_names_losses(cohort, tmp_path):
    training.train_flow(cohort.patches, tmp_path / "models/flow", TINY)
    result = CliRunner().invoke(
        app, ["longitudinal", "evaluate", str(tmp_path / "models/flow"), "--patches", str(cohort.patches)]
    )
    assert result.exit_code == 0, result.output
    folder = tmp_path / "reports/flow"
    assert "not shown to beat" in (folder / page.PAGE_NAME).read_text()
    assert json.loads((folder / "report.json").read_text())["experiment"] == "flow"
    assert patch_store.pl.read_parquet(folder / "predictions.parquet").height == len(
        patch_store.read(cohort.patches, "test").rows
    )


def test_losses_are_said_in_plain_words():
    stratum = {
        "pairs": 3,
        "baselines": {"copy_input": {"pairs": 3}, "linear": {"pairs": 0}},
        "verdicts": {"copy_input": {"verdict": "loses"}, "linear": {"verdict": "undecided"}},
    }
    report = {"strata": {"growth: stable": stratum}}
    assert page.losses(report) == ["growth: stable: the model LOSES to copy_input."]
    assert page.summary(report) == ["growth: stable (3 pairs): the model LOSES to copy_input."]

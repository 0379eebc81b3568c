"""What a training refuses before it begins, by name."""

import polars as pl
import pytest
from filelock import FileLock

from ct_assets.errors import UsageError
from ct_assets.learning.experiment import manifest_digest
from ct_assets.learning.training import checkpoints, control
from ct_assets.learning.training.control import TrainingPaused
from ct_assets.learning.training.lung_task import examples_of
from ct_assets.learning.training.train import train_fold
from ct_assets_tests.learning import tiny

CONFIG = tiny.config(stages=[{"epochs": 1}], steps_per_epoch=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("train"), patients=6, tests=0)


def test_a_plan_of_other_training_patients_is_stale(cohort):
    data = cohort.examples("0").data
    fewer = data.volumes.filter(pl.col("patient_id") != "patient-5")
    with pytest.raises(UsageError, match=r"stale_plan: fold 0.*3 training patients.*2"):
        examples_of("0", data.plan, fewer, data.store_dir, data.stages)


def test_a_plan_of_another_fold_is_stale(cohort):
    data = cohort.examples("0").data
    with pytest.raises(UsageError, match=r"stale_plan.*of fold 0, not of fold 1"):
        examples_of("1", data.plan, data.volumes, data.store_dir, data.stages)


@pytest.fixture(scope="module")
def begun(cohort):
    """An experiment that has one trained fold."""
    return train_fold(**cohort.arguments(CONFIG, experiment="begun"))


@pytest.mark.usefixtures("begun")
class TestAnExperimentIsOneThing:
    def test_a_changed_manifest_is_refused(self, cohort):
        changed = cohort.manifest.with_columns(stage=pl.lit("III"))
        with pytest.raises(UsageError, match="manifest_changed: experiment begun"):
            cohort.begin(CONFIG, "begun", manifest=changed)

    def test_rows_in_another_order_and_clock_times_are_no_change(self, cohort):
        shuffled = cohort.manifest.sample(fraction=1.0, shuffle=True, seed=1)
        timed = shuffled.with_columns(made_at=pl.lit("2026-01-01"))
        assert manifest_digest(timed) == manifest_digest(cohort.manifest)

    def test_another_configuration_is_refused(self, cohort):
        other = CONFIG.model_copy(update={"seed": 5})
        with pytest.raises(UsageError, match=r"experiment_mismatch.*training configuration"):
            train_fold(**cohort.arguments(other, "1", "begun"))

    def test_another_vocabulary_is_refused(self, cohort):
        with pytest.raises(UsageError, match=r"experiment_mismatch.*vocabulary"):
            cohort.begin(CONFIG, "begun", classes=["I", "II"])

    def test_what_does_not_change_the_model_is_no_mismatch(self, cohort):
        evaluation = CONFIG.evaluation.model_copy(update={"nsd_tolerance_mm": 1.0})
        train_fold(**cohort.arguments(CONFIG.model_copy(update={"evaluation": evaluation}), "0", "begun"))


class TestRequestsFromOutside:
    def test_a_request_of_an_earlier_run_does_not_pause_a_new_one(self, cohort):
        control.request(cohort.layout.fold_model("fresh", "0"), "pause")
        assert train_fold(**cohort.arguments(CONFIG, experiment="fresh")).status == "finished"

    def test_a_request_file_pauses_and_is_answered_once(self, cohort, monkeypatch):
        folder = cohort.layout.fold_model("asked", "0")
        longer = CONFIG.model_copy(update={"steps_per_epoch": 4})
        monkeypatch.setattr(control, "clear", _clear_then(lambda: control.request(folder, "pause")))
        with pytest.raises(TrainingPaused, match="asked, fold 0"):
            train_fold(**cohort.arguments(longer, experiment="asked"))
        monkeypatch.undo()
        control.clear(folder)
        assert train_fold(**cohort.arguments(longer, experiment="asked")).status == "finished"


def _clear_then(action):
    """Clear a request as usual, and do something right after: a person asks while the training starts."""
    clear = control.clear

    def cleared(model_dir):
        clear(model_dir)
        action()

    return cleared


def test_patients_without_mask_or_stage_take_part(cohort, tmp_path):
    part = tiny.make(tmp_path / "partial", patients=6, tests=0)
    manifest = part.manifest.with_columns(
        label=pl.when(pl.col("case_id") == "case_0004").then(None).otherwise(pl.col("label")),
        stage=pl.when(pl.col("case_id") == "case_0003").then(None).otherwise(pl.col("stage")),
    )
    tiny.make_fold(part.layout, manifest, "0")
    lacking = tiny.TinyCohort(part.layout, manifest)
    result = train_fold(**lacking.arguments(CONFIG))
    assert 0 <= result.metrics["dice"] <= 1


@pytest.mark.slow
def test_two_processes_train_one_model_together(cohort):
    """Data parallel, as on several GPUs: every rank its own batches, one set of weights, validation shared."""
    stages = [{"name": "head", "epochs": 1, "freeze": ["network.backbone.*"]}, {"epochs": 1}]
    config = tiny.config(devices=2, stages=stages, steps_per_epoch=2)
    result = train_fold(**cohort.arguments(config, experiment="parallel"))
    assert result.status == "finished"
    assert 0 <= result.metrics["dice"] <= 1
    assert len(checkpoints.load(result.last)["random"]) == 2


def test_a_fold_that_another_process_trains_is_refused_by_name(cohort):
    arguments = cohort.arguments(CONFIG, experiment="held")
    folder = cohort.layout.fold_model("held", "0")
    folder.mkdir(parents=True)
    with (
        FileLock(str(folder / ".training.lock")),
        pytest.raises(UsageError, match=r"training_under_way: held, fold 0.*--pause"),
    ):
        train_fold(**arguments)
    assert train_fold(**arguments).status == "finished"

"""Resuming is exact: on the CPU an interrupted training ends with the bits of an uninterrupted one."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ct_assets import files
from ct_assets.learning.training import checkpoints, control, state
from ct_assets.learning.training.control import TrainingPaused
from ct_assets.learning.training.train import train_fold
from ct_assets.learning.training.trainer import CURVES_NAME
from ct_assets_tests.learning import tiny

CONFIG = tiny.config(
    stages=[{"name": "head", "epochs": 1, "freeze": ["network.backbone.*"]}, {"name": "all", "epochs": 3}],
    stage_head={"hidden": 4, "dropout": 0.3},
    ema_decay=0.9,
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def uninterrupted(cohort):
    """The same training in an experiment of its own, straight through."""
    return train_fold(**cohort.arguments(CONFIG, experiment="straight"))


def same_end(result, uninterrupted):
    """Tell whether weights, optimizer state and curves are the same to the bit."""
    assert result.digest == uninterrupted.digest
    for folder_file in (CURVES_NAME, checkpoints.WEIGHTS_NAME):
        mine = (result.last.parent / folder_file).read_bytes()
        assert mine == (uninterrupted.last.parent / folder_file).read_bytes(), folder_file
    ours, theirs = (checkpoints.load(r.last) for r in (result, uninterrupted))
    for key in ("position", "module", "average", "optimizers", "random"):
        assert flat(ours[key]) == flat(theirs[key]), key
    return True


def flat(value):
    """Return nested containers with tensors as bytes, comparable with `==`."""
    if hasattr(value, "numpy"):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: flat(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [flat(inner) for inner in value]
    return value


def pause_after(monkeypatch, steps):
    """Let a pause be asked for after so many looks (one a step)."""
    looks = []

    def pending(self):
        looks.append(1)
        return "pause" if len(looks) == steps else None

    monkeypatch.setattr(control.Control, "pending", pending)


@pytest.mark.parametrize("steps", [2, 3, 5, 8])
def test_a_pause_at_any_step_changes_nothing(cohort, uninterrupted, monkeypatch, steps):
    """Three steps an epoch: in the first epoch, at its end, at the change of stages, late."""
    experiment = f"paused-{steps}"
    with monkeypatch.context() as patch:
        pause_after(patch, steps)
        with pytest.raises(TrainingPaused, match="launch it again"):
            train_fold(**cohort.arguments(CONFIG, experiment=experiment))
    folder = cohort.layout.fold_model(experiment, "0")
    assert state.read(folder).phase == "paused"
    assert state.read(folder).step == steps
    assert same_end(train_fold(**cohort.arguments(CONFIG, experiment=experiment)), uninterrupted)


def test_loader_processes_change_nothing(cohort, uninterrupted):
    sampling = CONFIG.sampling.model_copy(update={"workers": 2})
    result = train_fold(
        **cohort.arguments(CONFIG.model_copy(update={"sampling": sampling}), experiment="workers")
    )
    assert result.digest == uninterrupted.digest


def test_a_finished_training_is_not_trained_again(cohort, uninterrupted):
    before = uninterrupted.last.stat().st_mtime_ns
    again = train_fold(**cohort.arguments(CONFIG, experiment="straight"))
    assert again.digest == uninterrupted.digest
    assert uninterrupted.last.stat().st_mtime_ns == before


def test_a_stop_ends_the_training_with_what_it_has(cohort, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(control.Control, "pending", lambda self: "stop")
        result = train_fold(**cohort.arguments(CONFIG, experiment="stopped"))
    assert (result.status, result.epochs) == ("stopped", 1)
    assert result.weights.exists()
    assert state.read(result.last.parent).phase == "stopped"
    assert train_fold(**cohort.arguments(CONFIG, experiment="stopped")).status == "stopped"


SCRIPT = """
import sys, time
from pathlib import Path
import polars as pl
from ct_assets.learning.training import lung_task
from ct_assets.learning.training.train import train_fold
from ct_assets_tests.learning import tiny
from ct_assets_tests.learning.test_resume import CONFIG
from ct_assets.layout import Layout

slow = lung_task.LungBatches.__getitem__
def slowly(self, position):
    time.sleep(0.15)
    return slow(self, position)
lung_task.LungBatches.__getitem__ = slowly
root = Path(sys.argv[1])
cohort = tiny.TinyCohort(Layout(root), pl.read_parquet(root / "manifest.parquet"))
train_fold(**cohort.arguments(CONFIG, experiment=sys.argv[2]))
"""


def killed(cohort, experiment: str, number: int, after_step: int) -> tuple[int, str]:
    """Train in a process of its own, kill it once it has passed a step; return its exit status and last words."""
    cohort.manifest.write_parquet(cohort.layout.root / "manifest.parquet")
    root = Path(__file__).resolve().parents[2]
    said = cohort.layout.root / f"{experiment}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), str(cohort.layout.root), experiment],
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
    folder = cohort.layout.fold_model(experiment, "0")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        found = state.read(folder)
        if found is not None and found.step >= after_step:
            process.send_signal(number)
            break
        time.sleep(0.02)
    return process.wait(timeout=120), said.read_text()[-2000:]


@pytest.mark.slow
def test_a_training_killed_outright_ends_with_the_same_bits(cohort, uninterrupted):
    status, said = killed(cohort, "killed", signal.SIGKILL, after_step=4)
    assert status == -signal.SIGKILL, said
    folder = cohort.layout.fold_model("killed", "0")
    assert not (folder / checkpoints.WEIGHTS_NAME).exists()
    assert same_end(train_fold(**cohort.arguments(CONFIG, experiment="killed")), uninterrupted)


@pytest.mark.slow
def test_a_terminated_training_saves_first_and_ends_with_the_same_bits(cohort, uninterrupted):
    status, said = killed(cohort, "terminated", signal.SIGTERM, after_step=4)
    assert status == -signal.SIGTERM, said
    folder = cohort.layout.fold_model("terminated", "0")
    found = state.read(folder)
    assert found.phase == "paused"
    saved = checkpoints.load(folder / checkpoints.LAST_NAME)
    assert saved["position"]["step"] == found.step >= 4  # at the very step, not at the epoch before
    assert same_end(train_fold(**cohort.arguments(CONFIG, experiment="terminated")), uninterrupted)


def test_a_checkpoint_of_another_training_is_refused_by_what_differs(cohort, uninterrupted):
    folder = cohort.layout.fold_model("straight", "0")
    other = cohort.layout.fold_model("other", "0")
    other.mkdir(parents=True)
    content = checkpoints.load(folder / checkpoints.LAST_NAME)
    content["identity"]["plan_digest"] = "another"
    content.pop("format")
    checkpoints.save(other / checkpoints.LAST_NAME, content)
    with pytest.raises(Exception, match="plan_digest"):
        train_fold(**cohort.arguments(CONFIG, experiment="other"))


def test_the_record_names_what_was_trained_on_what(cohort, uninterrupted):
    record = files.read_json(uninterrupted.last.parent / "training.json")
    assert record["identity"]["config_digest"] == CONFIG.digest
    assert record["cases"] == {"train": 6, "validation": 3}
    assert {"torch", "monai", "lightning", "ct_assets"} <= set(record["environment"])

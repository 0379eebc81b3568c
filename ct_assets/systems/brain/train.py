"""One training in two stages: the head alone, then everything or the upper parts, each to its best epoch.

Belongs here: how a configuration becomes the two trainings of the shared loop, and what is kept of them.
What is frozen in a stage is in eval mode too (`learning.training.optimizers.train_mode`), so the running statistics of
its BatchNorm stay those of the weights.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import polars as pl
import torch
from filelock import FileLock
from lightning.fabric import Fabric
from torch import nn

from ct_assets import files, progress
from ct_assets.learning.training import checkpoints, control, state, tracking
from ct_assets.learning.training.trainer import CURVES_NAME, Trainer, seed_everything
from ct_assets.settings.brain import LAYERS, BrainConfig
from ct_assets.settings.training import OptimizerSettings, TrainingStage
from ct_assets.systems.brain import network as networks
from ct_assets.systems.brain.images import Prepared
from ct_assets.systems.brain.task import BalancedBatches, BrainModule, BrainTask

HEAD, FINE_TUNING = "head", "finetune"
RESULT_NAME = "result.json"
PATIENTS_NAME = "patients.json"
WEIGHTS_NAME = checkpoints.WEIGHTS_NAME
HEAD_PARTS = ("fc",)
FEW_SLICES = 1500
"""Fewer are loaded in this process: starting loader processes for each stage of each fold would take longer."""


@dataclass(frozen=True)
class Tracked:
    """Where a training is told; without it nobody is told."""

    uri: str
    experiment: str
    run: str
    experiment_dir: Path


@dataclass(frozen=True)
class Outcome:
    """What a training left."""

    weights: Path
    weights_sha256: str
    stage: str
    """The stage whose best epoch was kept."""
    metric: float | None
    """Its AUPRC on the validation slices; null where they do not define it."""
    history: list[dict[str, Any]]
    """A row an epoch of both stages."""
    run_id: str | None = None


@dataclass(frozen=True)
class _Validation:
    """When a stage is validated and ends."""

    patience: int
    every_epochs: int = 1
    monitor: str = "auprc"
    keep_best: int = 1
    early_stopping: str | None = "auprc"
    min_delta: float = 0.0


@dataclass(frozen=True)
class _Loading:
    workers: int


@dataclass(frozen=True)
class StageConfig:
    """One stage as the shared loop takes it (`learning.training.task.LoopConfig`)."""

    seed: int
    optimizer: OptimizerSettings
    stages: tuple[TrainingStage, ...]
    validation: _Validation
    sampling: _Loading
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    steps_per_epoch: int | None = None
    ema_decay: float | None = None

    @property
    def epochs(self) -> int:
        """Epochs of the stage."""
        return sum(stage.epochs for stage in self.stages)


def stage_configs(config: BrainConfig, *, seed: int, workers: int, cuda: bool) -> dict[str, StageConfig]:
    """Return the stages of a configuration, in order.

    A patience of p lets p epochs without a better value pass and ends the stage with the next one, p + 1 in
    all; the shared loop counts to the last of them.
    """
    stages = {
        HEAD: (config.epochs_head, config.lr_head, config.weight_decay_head, config.patience_head, HEAD_PARTS),
        FINE_TUNING: (
            config.epochs_ft, config.lr_ft, config.weight_decay_ft, config.patience_ft, config.ft_trainable_attrs
        ),
    }  # fmt: skip
    return {
        name: StageConfig(
            seed=seed,
            optimizer=OptimizerSettings(
                kind=config.optimizer,
                learning_rate=rate,
                weight_decay=decay,
                momentum=config.momentum,
                nesterov=config.nesterov,
                schedule="cosine" if config.use_cosine_schedule else "constant",
                warmup_share=0.0,
                final_share=0.0,
                clip_norm=config.grad_clip,
            ),
            stages=(
                TrainingStage(
                    name=name,
                    epochs=epochs,
                    freeze=networks.frozen_patterns(trained, LAYERS, "network."),
                ),
            ),
            validation=_Validation(patience=patience + 1),
            sampling=_Loading(workers),
            precision="16-mixed" if config.amp and cuda else "32-true",
        )
        for name, (epochs, rate, decay, patience, trained) in stages.items()
        if epochs
    }


def train(
    config: BrainConfig,
    prepared: Prepared,
    training: pl.DataFrame,
    validation: pl.DataFrame,
    folder: Path,
    *,
    seed: int,
    batch_size: int,
    workers: int = 0,
    tracked: Tracked | None = None,
    threads: int | None = None,
) -> Outcome:
    """Train on some slices, end early by others, and keep the best epoch of all.

    `training` and `validation` have `id` and `label`. A training that is complete returns its result at
    once; one that was killed goes on where it was.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    identity = identity_of(config, prepared, training, validation, seed=seed, batch_size=batch_size)
    done = _finished(folder, identity)
    if done is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder / ".training.lock")):
        return _train(config, prepared, training, validation, folder, identity, batch_size, workers, tracked)


def _train(
    config: BrainConfig,
    prepared: Prepared,
    training: pl.DataFrame,
    validation: pl.DataFrame,
    folder: Path,
    identity: dict[str, str],
    batch_size: int,
    workers: int,
    tracked: Tracked | None,
) -> Outcome:
    seed = int(identity["seed"])
    tracker = tracking.Tracker()
    if tracked is not None:
        name = tracking.RunName(tracked.experiment, tracked.run, tracked.experiment_dir)
        tracker = tracking.RunTracker(tracked.uri, name, folder)
    status = "FAILED"
    try:
        _tell(tracker, config, identity, training, validation)
        seed_run(seed)
        network, weights = networks.build(config)
        if weights is not None:
            files.write_json(folder / "pretrained.json", vars(weights))
            tracker.tags({"pretrained_sha256": weights.sha256})
        _record_patients(folder, training, validation)
        cuda = torch.cuda.is_available()
        loaders = workers if training.height >= FEW_SLICES else 0
        best: tuple[float, str] | None = None
        for stage, stage_config in stage_configs(config, seed=seed, workers=loaders, cuda=cuda).items():
            # A killed training's second stage begins where its first one ended, as if it had gone on.
            fitted = _fit(stage, stage_config, config, network, prepared, training, validation, folder, identity,
                          batch_size, tracker)  # fmt: skip
            network.load_state_dict(checkpoints.load_weights(folder / stage / WEIGHTS_NAME)[0])
            value = fitted.get("auprc", float("nan"))
            if best is None or not np.isfinite(best[0]) or value >= best[0]:
                best = (value, stage)
        assert best is not None
        outcome = _conclude(folder, best, identity, tracker)
        status = "FINISHED"
    finally:
        tracker.finish(status)
    return Outcome(**{**vars(outcome), "run_id": tracker.run_id})


def _fit(
    stage: str,
    stage_config: StageConfig,
    config: BrainConfig,
    network: nn.Module,
    prepared: Prepared,
    training: pl.DataFrame,
    validation: pl.DataFrame,
    folder: Path,
    identity: dict[str, str],
    batch_size: int,
    tracker: tracking.Tracker,
) -> dict[str, float]:
    """Train one stage and return the metrics of its best epoch, whose weights lie in its folder then."""
    model_dir = folder / stage
    model_dir.mkdir(parents=True, exist_ok=True)
    batches = BalancedBatches(
        prepared,
        training["id"].to_list(),
        training["label"].to_list(),
        config,
        batch_size=batch_size,
        seed=stage_config.seed + (stage == FINE_TUNING),
    )
    task = BrainTask(
        BrainModule(network, config),
        batches,
        prepared,
        (validation["id"].to_list(), validation["label"].to_list()),
    )
    fabric = Fabric(accelerator="auto", devices=1, precision=stage_config.precision)
    heard = control.Control(model_dir)
    with heard.listening():
        trainer = Trainer(
            task,
            stage_config,
            model_dir=model_dir,
            identity={**identity, "stage": stage},
            fabric=fabric,
            control=heard,
            state=state.StateWriter(model_dir),
            tracker=tracker,
        )
        fitted = trainer.fit()
    if fitted.status == "paused":
        raise control.TrainingPaused(f"{folder.name}: paused in stage {stage}; launch it again to go on")
    return fitted.metrics


def identity_of(
    config: BrainConfig,
    prepared: Prepared,
    training: pl.DataFrame,
    validation: pl.DataFrame,
    *,
    seed: int,
    batch_size: int,
) -> dict[str, str]:
    """Return the digests that tell two trainings apart; checkpoints carry them."""
    return {
        "config_digest": config.digest,
        "prepared": prepared.path.stem,
        "training_digest": files.digest_of(training.select("id", "label").sort("id").rows()),
        "validation_digest": files.digest_of(validation.select("id", "label").sort("id").rows()),
        "seed": str(seed),
        "batch_size": str(batch_size),
    }


def seed_run(seed: int) -> None:
    """Seed every generator and ask CUDA for repeatable kernels; two runs on a CPU give equal figures.

    PYTHONHASHSEED reaches the processes that are started from here on; nothing in this one depends on it.
    """
    os.environ["PYTHONHASHSEED"] = str(seed)
    seed_everything(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def generators() -> tuple[float, float, float]:
    """Return a draw of each generator that libraries share, to prove that they are seeded."""
    return random.random(), float(np.random.random()), float(torch.rand(()))


def load(config: BrainConfig, weights: Path) -> nn.Module:
    """Return the network with trained weights, in eval mode, on what is at hand."""
    network, _ = networks.build(config.model_copy(update={"pretrained": None, "pretrained_sha256": None}))
    network.load_state_dict(checkpoints.load_weights(weights)[0])
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _conclude(
    folder: Path, best: tuple[float, str], identity: dict[str, str], tracker: tracking.Tracker
) -> Outcome:
    value, stage = best
    tensors, metadata = checkpoints.load_weights(folder / stage / WEIGHTS_NAME)
    sha256 = checkpoints.save_weights(folder / WEIGHTS_NAME, tensors, metadata)
    metric = float(value) if np.isfinite(value) else None
    history = [
        row
        for name in (HEAD, FINE_TUNING)
        if (folder / name / CURVES_NAME).exists()
        for row in files.read_jsonl(folder / name / CURVES_NAME)
    ]
    files.write_jsonl(folder / CURVES_NAME, history)
    content = {"identity": identity, "weights_sha256": sha256, "stage": stage, "metric": metric}
    files.write_json(folder / RESULT_NAME, {**content, "history": history})
    tracker.metrics({} if metric is None else {"best_auprc": metric}, step=len(history))
    tracker.tags({"weights_sha256": sha256, "best_stage": stage})
    tracker.artifact(folder / RESULT_NAME)
    for name in (HEAD, FINE_TUNING):
        for path in (folder / name).glob("*.ckpt"):
            path.unlink()
    return Outcome(folder / WEIGHTS_NAME, sha256, stage, metric, history)


def _record_patients(folder: Path, training: pl.DataFrame, validation: pl.DataFrame) -> None:
    """Write who was in the training, by group (the patient's pseudonym), logged to no tracking server."""
    if "group_id" in training.columns:
        patients = {"train": training, "validation": validation}
        files.write_json(
            folder / PATIENTS_NAME, {role: sorted(set(part["group_id"])) for role, part in patients.items()}
        )


def _finished(folder: Path, identity: dict[str, str]) -> Outcome | None:
    path, weights = folder / RESULT_NAME, folder / WEIGHTS_NAME
    if not path.exists() or not weights.exists():
        return None
    content = files.read_json(path)
    if content["identity"] != identity or files.sha256_file(weights) != content["weights_sha256"]:
        return None
    progress.say(f"{folder.name}: is trained already")
    return Outcome(
        weights, content["weights_sha256"], content["stage"], content["metric"], content["history"]
    )


def _tell(
    tracker: tracking.Tracker,
    config: BrainConfig,
    identity: dict[str, str],
    training: pl.DataFrame,
    validation: pl.DataFrame,
) -> None:
    tracker.params(config.model_dump(mode="json", exclude={"pretrained"}))
    tracker.params({"training_slices": training.height, "validation_slices": validation.height})
    tracker.tags({**identity, "system": "brain", "version.torch": str(torch.__version__),
                  "version.lightning": str(lightning.__version__)})  # fmt: skip
    tracker.dataset("training", identity["training_digest"], "brain/features.parquet", "training")
    tracker.dataset("validation", identity["validation_digest"], "brain/features.parquet", "validation")


def folds_of(table: pl.DataFrame) -> Sequence[int]:
    """Return the folds that a table of slices names, in order."""
    return sorted(table["fold"].drop_nulls().unique().to_list())

"""One training of slices: the head alone, then everything or the upper parts, each from the best epoch so far.

Belongs here: how a configuration becomes a training of the shared path (`learning.training.train`): its two phases, its
examples, its task. What is frozen in a phase is in eval mode too (`learning.training.optimizers.train_mode`), so the
running statistics of its BatchNorm stay those of the weights.
"""

import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from ct_assets import files
from ct_assets.learning.system import FINAL, Examples, Source, Trainable
from ct_assets.learning.training import checkpoints
from ct_assets.learning.training import train as shared
from ct_assets.learning.training.task import Task
from ct_assets.learning.training.train import Job, TrainingResult
from ct_assets.learning.training.trainer import CURVES_NAME, seed_everything
from ct_assets.settings.brain import LAYERS, BrainConfig
from ct_assets.settings.training import (
    ExperimentConfig,
    LoadingSettings,
    MonitorSettings,
    OptimizerSettings,
    TrainingStage,
)
from ct_assets.systems.brain import network as networks
from ct_assets.systems.brain.images import Prepared
from ct_assets.systems.brain.task import BalancedBatches, BrainModule, BrainTask

SYSTEM = "brain"
HEAD, FINE_TUNING = "head", "finetune"
MONITOR = "auprc"
WEIGHTS_NAME = checkpoints.WEIGHTS_NAME
HEAD_PARTS = ("fc",)
CLASSES = ("0", "1")
FEW_SLICES = 1500
"""Fewer are loaded in this process: starting loader processes for each fold would take longer."""


class SliceTrainingConfig(ExperimentConfig):
    """One training of slices, as the shared path takes it."""

    slices: BrainConfig
    batch_size: int

    @property
    def digest(self) -> str:
        """Identifies what is trained: wherever the weights' file lies, however batches are loaded."""
        return files.digest_of([self.slices.digest, self.seed, self.batch_size])


@dataclass(frozen=True)
class Tracked:
    """The tracking server's experiment and run of a training."""

    uri: str
    experiment: str
    run: str
    experiment_dir: Path


class BrainTraining(Trainable[SliceTrainingConfig]):
    """Brain CT classification as it is trained."""

    name = SYSTEM
    manifest_path = "brain/features.parquet"

    def task(self, examples: Examples, config: SliceTrainingConfig, classes: tuple[str, ...]) -> BrainTask:  # noqa: ARG002
        """Return the network on balanced batches of the training slices; `examples.data` are the prepared slices."""
        seed_run(config.seed)
        network, weights = networks.build(config.slices)
        (training, validation), prepared = (
            (examples.of(role).table for role in ("train", "validation")),
            examples.data,
        )
        batches = BalancedBatches(
            prepared,
            training["example_id"].to_list(),
            training["target"].to_list(),
            config.slices,
            batch_size=config.batch_size,
            seed=config.seed,
        )
        validated = validation["example_id"].to_list(), validation["target"].to_list()
        return BrainTask(BrainModule(network, config.slices), batches, prepared, validated, weights)

    def load_pretrained(
        self,
        task: Task,
        examples: Examples,  # noqa: ARG002
        config: SliceTrainingConfig,  # noqa: ARG002
    ) -> networks.Weights | None:
        """Return which published weights the network was built with."""
        return task.pretrained if isinstance(task, BrainTask) else None


def training_config(
    config: BrainConfig,
    *,
    seed: int,
    batch_size: int,
    workers: int = 0,
    threads: int | None = None,
    cuda: bool | None = None,
) -> SliceTrainingConfig:
    """Return a configuration as the shared path takes it, with a phase for each stage that has epochs.

    A patience of p lets p epochs without a better value pass and ends the phase with the next one, p + 1 in
    all; the shared loop counts to the last of them.
    """
    stages = {
        HEAD: (config.epochs_head, config.lr_head, config.weight_decay_head, config.patience_head, HEAD_PARTS),
        FINE_TUNING: (
            config.epochs_ft, config.lr_ft, config.weight_decay_ft, config.patience_ft, config.ft_trainable_attrs
        ),
    }  # fmt: skip
    phases = tuple(
        TrainingStage(
            name=name,
            epochs=epochs,
            freeze=networks.frozen_patterns(trained, LAYERS, "network."),
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
            patience=patience + 1,
            restart_from_best=name == FINE_TUNING,
        )
        for name, (epochs, rate, decay, patience, trained) in stages.items()
        if epochs
    )
    with_cuda = torch.cuda.is_available() if cuda is None else cuda
    return SliceTrainingConfig(
        slices=config,
        batch_size=batch_size,
        seed=seed,
        stages=phases,
        validation=MonitorSettings(monitor=MONITOR),
        sampling=LoadingSettings(workers=workers),
        precision="16-mixed" if config.amp and with_cuda else "32-true",
        threads=threads,
        system_metrics=False,
    )


def train(
    config: BrainConfig,
    prepared: Prepared,
    training: pl.DataFrame,
    validation: pl.DataFrame,
    folder: Path,
    *,
    seed: int,
    batch_size: int,
    fold: str = FINAL,
    workers: int = 0,
    tracked: Tracked | None = None,
    threads: int | None = None,
) -> TrainingResult:
    """Train on some slices, end each phase early by others, and keep the best epoch of all.

    `training` and `validation` have `id`, `group_id` and `label`. A training that is complete returns its result at
    once; one that was paused or killed goes on where it was. Raises as `learning.training.train.train`.
    """
    examples = examples_of(training, validation, prepared)
    complete = training_config(
        config,
        seed=seed,
        batch_size=batch_size,
        workers=workers if training.height >= FEW_SLICES else 0,
        threads=threads,
    )
    job = Job(
        system=BrainTraining(),
        config=complete,
        experiment=tracked.experiment if tracked else SYSTEM,
        fold=fold,
        examples=examples,
        classes=CLASSES,
        folder=folder,
        identity=BrainTraining().identity(examples, complete, CLASSES),
        manifest_digest=examples.digest,
        experiment_dir=tracked.experiment_dir if tracked else folder.parent,
        tracking_uri=tracked.uri if tracked else None,
        run_name=tracked.run if tracked else "",
    )
    result = shared.train(job)
    for path in folder.glob("*.ckpt"):
        path.unlink()  # 130 MB each, of every fold of every candidate; the weights of the best epoch stay
    return result


def examples_of(training: pl.DataFrame, validation: pl.DataFrame, prepared: Prepared) -> Examples:
    """Return slices as the shared path takes them."""
    columns = {"example_id": "id", "patient_id": "group_id", "target": "label"}
    table = pl.concat(
        [
            part.select(**{name: pl.col(column) for name, column in columns.items()}, role=pl.lit(role))
            for role, part in (("train", training), ("validation", validation))
        ]
    )
    source = Source("prepared", prepared.path.stem, "brain/prepared")
    return Examples(table, (source,), prepared)


def metric_of(result: TrainingResult) -> float | None:
    """Return the AUPRC of the best epoch on the validation slices; None where they do not define it."""
    value = result.metrics.get(MONITOR)
    return value if value is not None and math.isfinite(value) else None


def history_of(folder: Path) -> list[dict[str, Any]]:
    """Return a row an epoch of all phases."""
    return files.read_jsonl(folder / CURVES_NAME)


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


def folds_of(table: pl.DataFrame) -> Sequence[int]:
    """Return the folds that a table of slices names, in order."""
    return sorted(table["fold"].drop_nulls().unique().to_list())

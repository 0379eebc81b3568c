"""The training loop: stages, exact resume, checkpoints, validation, pause and stop; it knows no system.

Belongs here: the order in which things happen. What is trained is a `learning.training.task.Task`; arithmetic,
devices, gradient scaling and data parallelism are Lightning Fabric's. Everything random is a function of
the position in the training or of generators that a checkpoint holds, so that a training that was killed
ends on the CPU with the same bits as one that was not.
"""

import math
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.learning.training import checkpoints, optimizers, schedules
from ct_assets.learning.training.checkpoints import RandomState
from ct_assets.learning.training.control import Control, Request
from ct_assets.learning.training.state import StateWriter
from ct_assets.learning.training.task import Batch, LoopConfig, Task
from ct_assets.learning.training.tracking import Tracker
from ct_assets.settings.training import LOWER_IS_BETTER, TrainingStage

CURVES_NAME = "metrics.jsonl"


class TrainingDivergedError(Exception):
    """The loss is no finite number."""


@dataclass(frozen=True)
class FitResult:
    """How a fit ended."""

    status: Literal["finished", "stopped", "paused"]
    epochs: int
    """Epochs done."""
    best_epoch: int
    """The epoch (counted from 1) whose weights are kept as the best."""
    metrics: dict[str, float]
    """Validation metrics of the best epoch."""
    weights_sha256: str


@dataclass
class Position:
    """How far the training is; with the random states all that a resume needs besides weights."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs wholly done, validation included."""
    stage_index: int = 0
    loss_sums: dict[str, Tensor] = field(default_factory=dict)
    """Sums over the steps of the unfinished epoch; tensors, so that a resumed sum has the same bits."""
    curves: list[dict[str, Any]] = field(default_factory=list)
    """A row an epoch, as in `metrics.jsonl`."""
    best: list[dict[str, float]] = field(default_factory=list)
    """Epochs kept: epoch and monitored value, best first."""
    best_metrics: dict[str, float] = field(default_factory=dict)
    last_metrics: dict[str, float] = field(default_factory=dict)
    stopping_best: float | None = None
    stopping_waited: int = 0


class Trainer:
    """Fits one task; `fit` may be called again on what an earlier process left."""

    def __init__(
        self,
        task: Task,
        config: LoopConfig,
        *,
        model_dir: Path,
        identity: Mapping[str, str],
        fabric: Fabric,
        control: Control,
        state: StateWriter,
        tracker: Tracker,
    ) -> None:
        self.task = task
        self.config = config
        self.model_dir = model_dir
        self.identity = dict(identity)
        self.fabric = fabric
        self.control = control
        self.state = state
        self.tracker = tracker
        self.position = Position()
        accumulate = config.optimizer.accumulate * fabric.world_size
        self.steps_per_epoch = config.steps_per_epoch or max(1, math.ceil(len(task.batches) / accumulate))
        self.average: optimizers.MovingAverage | None = None
        self._module: Any = None
        self._optimizer: Any = None
        self._started = (time.monotonic(), 0)

    # The loop

    def fit(self, *, resume: bool = True) -> FitResult:
        """Train to the end, or until a pause or stop is asked for. Raises `TrainingDivergedError`."""
        saved = self._load_last() if resume else None
        seed_everything(self.config.seed + self.fabric.global_rank)
        if saved is not None:
            self._restore_position(saved)
        self._enter_stage(self.position.stage_index)
        if saved is not None:
            self._restore_weights(saved)
        else:
            self._forget_earlier_files()
        self._write_curves()
        total = self.steps_per_epoch * self.config.epochs
        self.state.update(
            now=True,
            phase="training",
            epochs=self.config.epochs,
            steps=total,
            epoch=self.position.epoch,
            step=self.position.step,
        )
        self._started = (time.monotonic(), self.position.step)
        batches = self._batches()
        ended: Literal["finished", "stopped"] = "finished"
        with progress.track("training", self.config.epochs) as advance:
            advance(self.position.epoch)
            # a training that was killed after its last epoch has nothing left to train
            while self.position.epoch < self.config.epochs and not self._stops_early():
                asked = self._train_epoch(batches)
                if asked == "pause":
                    self._save_last()
                    self.state.update(now=True, phase="paused", step=self.position.step)
                    return self._result("paused")
                self._finish_epoch(validate_now=asked == "stop")
                advance(1)
                if asked == "stop" or self._stops_early():
                    ended = "stopped" if asked == "stop" else "finished"
                    break
        return self._end(ended)

    def _train_epoch(self, batches: Iterator[Batch]) -> Request | None:
        """Run the steps of the epoch that are left; return what was asked meanwhile.

        A stop ends the epoch where it is; it then counts as done.
        """
        stage_index, _ = self._stage_of(self.position.epoch)
        if stage_index != self.position.stage_index:
            self._enter_stage(stage_index)
        optimizers.train_mode(self._module)
        end = (self.position.epoch + 1) * self.steps_per_epoch
        sums = self.position.loss_sums
        asked: Request | None = None
        while self.position.step < end and asked is None:
            for name, value in self._step(batches).items():
                sums[name] = sums[name] + value if name in sums else value
            self.position.step += 1
            asked = self._asked()
            self.state.update(phase="training", step=self.position.step, eta_s=self._eta_s())
        return asked

    def _step(self, batches: Iterator[Batch]) -> dict[str, Tensor]:
        accumulate = self.config.optimizer.accumulate
        self._set_learning_rate()
        parts: dict[str, Tensor] = {}
        for index in range(accumulate):
            batch = self.fabric.to_device(next(batches))
            with self.fabric.no_backward_sync(self._module, enabled=index < accumulate - 1):
                loss, named = self._module(batch)
                self.fabric.backward(loss / accumulate)
            for name, value in {"loss": loss, **named}.items():
                share = value.detach() / accumulate
                parts[name] = parts[name] + share if name in parts else share
        clip = self.config.optimizer.clip_norm
        if clip is not None:
            self.fabric.clip_gradients(self._module, self._optimizer, max_norm=clip, error_if_nonfinite=False)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.task.module)
        return parts

    def _finish_epoch(self, *, validate_now: bool) -> None:
        """Log the epoch, validate where it is due, keep checkpoints."""
        position = self.position
        first = position.epoch * self.steps_per_epoch
        done = max(1, position.step - first)
        row = {f"train_{name}": float(value) / done for name, value in sorted(position.loss_sums.items())}
        if not all(math.isfinite(value) for value in row.values()):
            raise TrainingDivergedError(
                f"epoch {position.epoch + 1}: the loss is not finite; lower optimizer.learning_rate or set "
                "optimizer.clip_norm"
            )
        position.loss_sums = {}
        position.epoch += 1
        _, stage = self._stage_of(position.epoch - 1)
        row["learning_rate"] = self._optimizer.param_groups[0]["lr"]
        every = self.config.validation.every_epochs
        validated = {}
        if validate_now or position.epoch % every == 0 or position.epoch == self.config.epochs:
            validated = self._validate()
        row |= {f"val_{name}": value for name, value in validated.items()}
        position.curves.append({"epoch": position.epoch, "step": position.step, "stage": stage.name, **row})
        if self.fabric.is_global_zero:
            self._write_curves()
            self.tracker.metrics(row | self._speed(), step=position.step)
        position.last_metrics = row
        kept = self._judge(validated)
        self._save_last()
        if kept and self.fabric.is_global_zero:
            self._keep(position.epoch)
        best = position.best[0] if position.best else {}
        self.state.update(
            now=True,
            phase="training",
            stage=stage.name,
            epoch=position.epoch,
            step=position.step,
            metrics=row,
            best=best,
            eta_s=self._eta_s(),
            mlflow_run_id=self.tracker.run_id,
        )

    def _end(self, status: Literal["finished", "stopped"]) -> FitResult:
        """Write the best epoch's weights for use and close the training."""
        position = self.position
        best_epoch = int(position.best[0]["epoch"]) if position.best else position.epoch
        best = self.model_dir / _kept_name(best_epoch)
        sha256 = ""
        if self.fabric.is_global_zero:
            source = checkpoints.load(best if best.exists() else self.model_dir / checkpoints.LAST_NAME)
            sha256 = checkpoints.save_weights(
                self.model_dir / checkpoints.WEIGHTS_NAME,
                self._weights_of(source),
                {**self.identity, "epoch": str(best_epoch)},
            )
        self.state.update(now=True, phase=status, epoch=position.epoch, step=position.step, eta_s=0.0)
        return self._result(status, sha256)

    def _result(self, status: Literal["finished", "stopped", "paused"], sha256: str = "") -> FitResult:
        best_epoch = int(self.position.best[0]["epoch"]) if self.position.best else self.position.epoch
        return FitResult(status, self.position.epoch, best_epoch, dict(self.position.best_metrics), sha256)

    # Stages

    def _stage_of(self, epoch: int) -> tuple[int, TrainingStage]:
        first = 0
        for index, stage in enumerate(self.config.stages):
            if epoch < first + stage.epochs:
                return index, stage
            first += stage.epochs
        return len(self.config.stages) - 1, self.config.stages[-1]

    def _enter_stage(self, index: int) -> None:
        """Freeze and make the optimizer of a stage; each stage has its own."""
        stage = self.config.stages[index]
        self.position.stage_index = index
        module = self.task.module
        frozen = optimizers.freeze(module, stage.freeze)
        module.to(self.fabric.device)
        rate = stage.learning_rate or self.config.optimizer.learning_rate
        optimizer = optimizers.build(
            module, self.config.optimizer, rate, fused=self.config.precision != "16-mixed"
        )
        self._module, self._optimizer = self.fabric.setup(module, optimizer)
        if self.config.ema_decay is not None and self.average is None:
            self.average = optimizers.MovingAverage(module, self.config.ema_decay)
        progress.say(f"stage {stage.name}: {stage.epochs} epochs, {len(frozen)} parameters frozen")

    def _set_learning_rate(self) -> None:
        stage_index, stage = self._stage_of(self.position.epoch)
        before = sum(earlier.epochs for earlier in self.config.stages[:stage_index])
        settings = self.config.optimizer
        share = schedules.factor(
            self.position.step - before * self.steps_per_epoch,
            stage.epochs * self.steps_per_epoch,
            schedule=settings.schedule,
            warmup_share=settings.warmup_share,
            final_share=settings.final_share,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = share * (stage.learning_rate or settings.learning_rate)

    # Data

    def _batches(self) -> Iterator[Batch]:
        """Yield this rank's batches from the present position to the end of the training."""
        accumulate, ranks = self.config.optimizer.accumulate, self.fabric.world_size
        start = self.position.step * accumulate
        end = self.config.epochs * self.steps_per_epoch * accumulate
        positions = range(start * ranks + self.fabric.global_rank, end * ranks, ranks)
        workers = self.config.sampling.workers
        loader: DataLoader[Batch] = DataLoader(
            self.task.batches,  # type: ignore[arg-type]
            batch_size=None,
            sampler=_Positions(positions),
            num_workers=workers,
            # forked workers would inherit torch's and the tracker's threads; a generator of its own keeps
            # the loader from drawing a seed from the generator that the network's dropout uses
            multiprocessing_context="forkserver" if workers else None,
            generator=torch.Generator().manual_seed(self.config.seed),
            pin_memory=self.fabric.device.type == "cuda",
        )
        return iter(loader)

    # Validation and what is kept

    def _validate(self) -> dict[str, float]:
        self.state.update(now=True, phase="validating")
        module = self.task.module
        module.eval()
        swapped = self.average.swapped_in(module) if self.average is not None else nullcontext()
        # Validating must not move the generators that training draws from.
        before = RandomState.now()
        with torch.no_grad(), swapped, self.fabric.autocast():
            measured = dict(self.task.validate(self.fabric.global_rank, self.fabric.world_size))
        before.restore()
        return measured

    def _judge(self, measured: Mapping[str, float]) -> bool:
        """Note the monitored value; tell whether this epoch is among the best."""
        settings, position = self.config.validation, self.position
        value = measured.get(settings.monitor)
        if value is None or not math.isfinite(value):
            return False
        stopping = measured.get(settings.early_stopping) if settings.early_stopping else None
        if settings.early_stopping and stopping is not None:
            better = position.stopping_best is None or _better(
                stopping, position.stopping_best, settings.early_stopping, settings.min_delta
            )
            position.stopping_waited = 0 if better else position.stopping_waited + 1
            position.stopping_best = stopping if better else position.stopping_best
        entry = {"epoch": float(position.epoch), "value": float(value)}
        loss = measured.get("loss")
        if loss is not None and math.isfinite(loss):
            entry["loss"] = float(loss)
        sign = -1.0 if settings.monitor not in LOWER_IS_BETTER else 1.0
        # Ranks (an AUPRC of 1, say) tie often on few patients; of equals the one that is surer of the truth is kept.
        ranked = sorted(
            [*position.best, entry],
            key=lambda e: (sign * e["value"], e.get("loss", math.inf), e["epoch"]),
        )
        if ranked[0] is entry:
            position.best_metrics = {name: float(v) for name, v in measured.items()}
        position.best = ranked[: settings.keep_best]
        return entry in position.best

    def _stops_early(self) -> bool:
        settings = self.config.validation
        return settings.early_stopping is not None and self.position.stopping_waited >= settings.patience

    def _keep(self, epoch: int) -> None:
        checkpoints.link(self.model_dir / checkpoints.LAST_NAME, self.model_dir / _kept_name(epoch))
        names = {_kept_name(int(entry["epoch"])) for entry in self.position.best}
        for path in self.model_dir.glob("best-*.ckpt"):
            if path.name not in names:
                path.unlink()

    # Saving and restoring

    def _save_last(self) -> None:
        own = RandomState.now().plain()
        states = self._gather(own)
        if self.fabric.is_global_zero:
            checkpoints.save(
                self.model_dir / checkpoints.LAST_NAME,
                {
                    "identity": self.identity,
                    "position": dict(vars(self.position)),
                    "module": self.task.module.state_dict(),
                    "average": self.average.state_dict() if self.average else None,
                    "optimizer": self._optimizer.optimizer.state_dict(),
                    "precision": self.fabric.strategy.precision.state_dict(),
                    "random": states,
                    "ranks": self.fabric.world_size,
                    "mlflow_run_id": self.tracker.run_id,
                },
            )
        self.fabric.barrier()

    def _load_last(self) -> dict[str, Any] | None:
        path = self.model_dir / checkpoints.LAST_NAME
        if not path.exists():
            return None
        saved = checkpoints.load(path)
        differing = sorted(key for key, value in self.identity.items() if saved["identity"].get(key) != value)
        if differing:
            raise UsageError(
                f"{path}: was written by another training (different: {', '.join(differing)}); use a new "
                "experiment name"
            )
        return saved

    def _restore_position(self, saved: dict[str, Any]) -> None:
        self.position = Position(**saved["position"])
        sums = self.position.loss_sums
        self.position.loss_sums = {name: value.to(self.fabric.device) for name, value in sums.items()}

    def _restore_weights(self, saved: dict[str, Any]) -> None:
        self.task.module.load_state_dict(saved["module"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self._optimizer.optimizer.load_state_dict(saved["optimizer"])
        self.fabric.strategy.precision.load_state_dict(saved["precision"])
        states = saved["random"]
        if len(states) == self.fabric.world_size:
            RandomState.of_plain(states[self.fabric.global_rank]).restore()
        progress.say(f"resumed at epoch {self.position.epoch + 1}, step {self.position.step}")

    def _weights_of(self, saved: dict[str, Any]) -> dict[str, Tensor]:
        self.task.module.load_state_dict(saved["module"])
        if self.average is None:
            return self.task.weights()
        self.average.load_state_dict(saved["average"])
        with self.average.swapped_in(self.task.module):
            return {name: value.clone() for name, value in self.task.weights().items()}

    def _forget_earlier_files(self) -> None:
        if self.fabric.is_global_zero:
            for path in self.model_dir.glob("best-*.ckpt"):
                path.unlink()

    def _write_curves(self) -> None:
        """Write the rows that the checkpoint knows; rows of a lost epoch go and are made again."""
        if self.fabric.is_global_zero:
            files.write_jsonl(self.model_dir / CURVES_NAME, self.position.curves)

    # Small things

    def _asked(self) -> Request | None:
        if self.fabric.world_size == 1:
            return self.control.pending()
        return self.fabric.broadcast(self.control.pending() if self.fabric.is_global_zero else None)

    def _gather(self, own: dict[str, Any]) -> list[dict[str, Any]]:
        if self.fabric.world_size == 1:
            return [own]
        gathered: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(gathered, own)
        return gathered

    def _seconds_a_step(self) -> float | None:
        moment, step = self._started
        done = self.position.step - step
        return (time.monotonic() - moment) / done if done > 0 else None

    def _eta_s(self) -> float | None:
        a_step = self._seconds_a_step()
        left = self.steps_per_epoch * self.config.epochs - self.position.step
        return None if a_step is None else round(a_step * left, 1)

    def _speed(self) -> dict[str, float]:
        a_step = self._seconds_a_step()
        return {} if a_step is None else {"steps_per_second": 1 / max(a_step, 1e-9)}


class _Positions(Sampler[int]):
    """Absolute positions of batches."""

    def __init__(self, positions: range) -> None:
        self.positions = positions

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


def seed_everything(seed: int) -> None:
    """Seed every generator that networks and libraries draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _better(value: float, than: float, metric: str, min_delta: float) -> bool:
    return value < than - min_delta if metric in LOWER_IS_BETTER else value > than + min_delta


def _kept_name(epoch: int) -> str:
    return f"best-{epoch:05d}.ckpt"

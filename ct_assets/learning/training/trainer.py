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
from functools import partial
from itertools import islice
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
from ct_assets.learning.training.position import FitResult, Position
from ct_assets.learning.training.state import StateWriter
from ct_assets.learning.training.task import Batch, LoopConfig, Part, Task, Validation
from ct_assets.learning.training.tracking import Tracker
from ct_assets.settings.training import OptimizerSettings

CURVES_NAME = "metrics.jsonl"
VALIDATION_DIR = "validation"
"""Tables and images of the best epoch's validation."""


class TrainingDivergedError(UsageError):
    """The loss or the weights are no finite numbers."""


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
        self._parts: Mapping[str, Part] = task.parts or {"all": Part(("*",))}
        self._optimizers: list[Any] = []
        self._check_metrics()
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
            while not self._is_over():
                asked = self._train_epoch(batches)
                if asked == "pause":
                    self._save_last()
                    self.state.update(now=True, phase="paused", step=self.position.step)
                    return self._result("paused")
                self._finish_epoch(validate_now=asked == "stop")
                advance(1)
                if asked == "stop":
                    ended = "stopped"
                    break
        return self._end(ended)

    def _train_epoch(self, batches: Iterator[Batch]) -> Request | None:
        """Run the steps of the epoch that are left; return what was asked meanwhile.

        A stop ends the epoch where it is; it then counts as done.
        """
        if self._phase_is_over():
            self._next_phase()
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
        """Run one step: for each part its loss on the same batches, then its optimizer."""
        accumulate = self.config.optimizer.accumulate
        self._set_learning_rate()
        losses: dict[str, Tensor] = {}
        drawn: Iterator[Batch] | list[Batch] = islice(batches, accumulate)
        if len(self._parts) > 1:
            drawn = list(drawn)
        for (name, part), optimizer in zip(self._parts.items(), self._optimizers, strict=True):
            for index, batch in enumerate(drawn):
                for key, value in self._backward(name, batch, is_last=index == accumulate - 1).items():
                    share = value.detach() / accumulate
                    losses[key] = losses[key] + share if key in losses else share
            clip = self._settings_of(part).clip_norm
            if clip is not None:
                self.fabric.clip_gradients(self._module, optimizer, max_norm=clip, error_if_nonfinite=False)
            optimizer.step()
            for each in self._optimizers:  # a part's loss reaches through the others
                each.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.task.module)
        return losses

    def _backward(self, name: str, batch: Batch, *, is_last: bool) -> dict[str, Tensor]:
        """Add the gradients of a part's loss on one batch; return its losses by name."""
        on_device = self.fabric.to_device(batch)
        with self.fabric.no_backward_sync(self._module, enabled=not is_last):
            loss, named = self._module(on_device, name) if self.task.parts else self._module(on_device)
            self.fabric.backward(loss / self.config.optimizer.accumulate)
        prefix = f"{name}_" if len(self._parts) > 1 else ""
        return {f"{prefix}{key}": value for key, value in {"loss": loss, **named}.items()}

    def _finish_epoch(self, *, validate_now: bool) -> None:
        """Log the epoch, validate where it is due, keep checkpoints."""
        position = self.position
        first = position.epoch * self.steps_per_epoch
        done = max(1, position.step - first)
        row = {f"train_{name}": float(value) / done for name, value in sorted(position.loss_sums.items())}
        if not all(math.isfinite(value) for value in row.values()):
            raise self._diverged("loss", position.epoch + 1)
        if not self._weights_are_finite():
            raise self._diverged("weights", position.epoch + 1)
        position.loss_sums = {}
        position.epoch += 1
        stage = self.config.stages[position.stage_index]
        row["learning_rate"] = self._optimizers[0].param_groups[0]["lr"]
        every = self.config.validation.every_epochs
        validated = Validation({})
        if validate_now or position.epoch % every == 0 or self._ends_with_this_epoch():
            validated = self._validate()
            if not math.isfinite(validated.metrics.get("loss", 0.0)):
                raise self._diverged("validation", position.epoch)
        row |= {f"val_{name}": value for name, value in validated.metrics.items()}
        position.curves.append({"epoch": position.epoch, "step": position.step, "stage": stage.name, **row})
        if self.fabric.is_global_zero:
            self._write_curves()
            self.tracker.metrics(row | self._speed(), step=position.step)
        position.last_metrics = row
        kept = self._rank(validated.metrics)
        self._save_last()
        if kept and self.fabric.is_global_zero:
            self._keep(position.epoch, validated)
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
        best_epoch = self._best_epoch()
        sha256 = ""
        if self.fabric.is_global_zero:
            source = self._best_checkpoint() or checkpoints.load(self.model_dir / checkpoints.LAST_NAME)
            sha256 = checkpoints.save_weights(
                self.model_dir / checkpoints.WEIGHTS_NAME,
                self._weights_of(source),
                {**self.identity, "epoch": str(best_epoch)},
            )
        self.state.update(now=True, phase=status, epoch=position.epoch, step=position.step, eta_s=0.0)
        return self._result(status, sha256)

    def _result(self, status: Literal["finished", "stopped", "paused"], sha256: str = "") -> FitResult:
        return FitResult(
            status, self.position.epoch, self._best_epoch(), dict(self.position.best_metrics), sha256
        )

    # Phases

    def _phase_is_over(self) -> bool:
        """Tell whether the present phase had all its epochs, or waited its own patience without a better value."""
        position = self.position
        stage = self.config.stages[position.stage_index]
        if position.epoch - position.stage_start >= stage.epochs:
            return True
        return stage.patience is not None and position.stopping_waited >= stage.patience

    def _ends_with_this_epoch(self) -> bool:
        """Tell whether the epoch that was just trained is the last of the last phase."""
        position, last = self.position, len(self.config.stages) - 1
        stage = self.config.stages[position.stage_index]
        is_last_of_phase = position.epoch - position.stage_start >= stage.epochs
        return is_last_of_phase and (position.stage_index == last or stage.patience is not None)

    def _is_over(self) -> bool:
        at_last = self.position.stage_index == len(self.config.stages) - 1
        return (at_last and self._phase_is_over()) or self._stops_early()

    def _next_phase(self) -> None:
        """Go on to the next phase, from the best epoch's weights where it asks for them."""
        position = self.position
        had_patience = self.config.stages[position.stage_index].patience is not None
        position.stage_start = position.epoch
        if had_patience:
            position.stopping_waited, position.stopping_best = 0, None
        following = position.stage_index + 1
        if self.config.stages[following].restart_from_best and (best := self._best_checkpoint()) is not None:
            self.task.module.load_state_dict(best["module"])
            if self.average is not None:
                self.average.load_state_dict(best["average"])
            progress.say(
                f"phase {self.config.stages[following].name}: from epoch {self._best_epoch()}, the best"
            )
        self._enter_stage(following)

    def _enter_stage(self, index: int) -> None:
        """Freeze and make the optimizers of a phase; each phase has its own."""
        stage = self.config.stages[index]
        self.position.stage_index = index
        if self.position.stage_start < 0:
            self.position.stage_start = sum(earlier.epochs for earlier in self.config.stages[:index])
        module = self.task.module
        frozen = optimizers.freeze(module, stage.freeze)
        module.to(self.fabric.device)
        built = optimizers.build_parts(
            module,
            {
                name: (part.parameters, self._settings_of(part), self._rate_of(part))
                for name, part in self._parts.items()
            },
            fused=self.config.precision != "16-mixed",
        )
        self._module, *self._optimizers = self.fabric.setup(module, *built)
        if self.config.ema_decay is not None and self.average is None:
            self.average = optimizers.MovingAverage(module, self.config.ema_decay)
        progress.say(f"stage {stage.name}: {stage.epochs} epochs, {len(frozen)} parameters frozen")

    def _settings_of(self, part: Part) -> OptimizerSettings:
        return (
            part.optimizer or self.config.stages[self.position.stage_index].optimizer or self.config.optimizer
        )

    def _rate_of(self, part: Part) -> float:
        """Return the peak learning rate of a part: its own, else the phase's."""
        stage = self.config.stages[self.position.stage_index]
        if part.optimizer is not None:
            return part.optimizer.learning_rate
        return stage.learning_rate or self._settings_of(part).learning_rate

    def _set_learning_rate(self) -> None:
        stage = self.config.stages[self.position.stage_index]
        settings = stage.optimizer or self.config.optimizer
        share = schedules.factor(
            self.position.step - self.position.stage_start * self.steps_per_epoch,
            stage.epochs * self.steps_per_epoch,
            schedule=settings.schedule,
            warmup_share=settings.warmup_share,
            final_share=settings.final_share,
        )
        for part, optimizer in zip(self._parts.values(), self._optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = share * self._rate_of(part)

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

    def _check_metrics(self) -> None:
        """Refuse a monitored metric that the task does not declare."""
        validation = self.config.validation
        for key in ("monitor", "early_stopping"):
            metric = getattr(validation, key)
            if metric is not None and metric not in self.task.metrics:
                raise UsageError(
                    f"validation.{key}: {metric!r} is not measured; there are {', '.join(sorted(self.task.metrics))}"
                )

    def _diverged(self, what: str, epoch: int) -> TrainingDivergedError:
        return TrainingDivergedError(
            f"epoch {epoch}: the {what} diverged (not finite); lower optimizer.learning_rate or set "
            "optimizer.clip_norm, under a new experiment name"
        )

    def _weights_are_finite(self) -> bool:
        values = [value for value in self.task.module.state_dict().values() if value.is_floating_point()]
        return all(bool(torch.isfinite(value).all()) for value in values)

    def _validate(self) -> Validation:
        self.state.update(now=True, phase="validating")
        module = self.task.module
        module.eval()
        swapped = self.average.swapped_in(module) if self.average is not None else nullcontext()
        # Validating must not move the generators that training draws from.
        before = RandomState.now()
        with torch.no_grad(), swapped, self.fabric.autocast():
            own = list(self.task.validate(self.fabric.global_rank, self.fabric.world_size))
            validation = self.task.summarise([row for rows in self._gather(own) for row in rows])
        before.restore()
        if undeclared := sorted(set(validation.metrics) - set(self.task.metrics)):
            raise ValueError(f"measured, but not in the task's metrics: {', '.join(undeclared)}")
        return validation

    def _rank(self, measured: Mapping[str, float]) -> bool:
        """Keep the monitored value; tell whether this epoch is among the best."""
        settings, position = self.config.validation, self.position
        value = measured.get(settings.monitor)
        if value is None or not math.isfinite(value):
            return False
        watched = settings.early_stopping
        if watched is None and self.config.stages[position.stage_index].patience is not None:
            watched = settings.monitor
        stopping = measured.get(watched) if watched else None
        if watched and stopping is not None:
            better = position.stopping_best is None or self._is_better(
                stopping, position.stopping_best, watched, settings.min_delta
            )
            position.stopping_waited = 0 if better else position.stopping_waited + 1
            position.stopping_best = stopping if better else position.stopping_best
        entry = {"epoch": float(position.epoch), "value": float(value)}
        loss = measured.get("loss")
        if loss is not None and math.isfinite(loss):
            entry["loss"] = float(loss)
        sign = 1.0 if self.task.metrics[settings.monitor] == "min" else -1.0
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

    def _is_better(self, value: float, than: float, metric: str, min_delta: float) -> bool:
        if self.task.metrics[metric] == "min":
            return value < than - min_delta
        return value > than + min_delta

    def _best_epoch(self) -> int:
        return int(self.position.best[0]["epoch"]) if self.position.best else self.position.epoch

    def _best_checkpoint(self) -> dict[str, Any] | None:
        """Return the checkpoint of the best epoch; None where no epoch was validated yet.

        Raises `UsageError` where it is missing: the last epoch's weights never pose as the best.
        """
        if not self.position.best:
            return None
        path = self.model_dir / _kept_name(self._best_epoch())
        if not path.exists():
            raise UsageError(
                f"{path}: the checkpoint of the best epoch is missing; restore it, or move {self.model_dir} away to "
                "train this fold again"
            )
        return checkpoints.load(path)

    def _keep(self, epoch: int, validation: Validation) -> None:
        """Keep this epoch's checkpoint, and its tables and images where it is the best."""
        if epoch == self._best_epoch() and (validation.tables or validation.images):
            files.replace_directory(self.model_dir / VALIDATION_DIR, partial(_write_validation, validation))
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
                    "optimizers": [each.optimizer.state_dict() for each in self._optimizers],
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
        missing = sorted({"identity", "position", "module", "random"} - saved.keys())
        if missing:
            raise UsageError(
                f"{path}: is no checkpoint of ct-assets (it has no {', '.join(missing)}); put a best-*.ckpt beside it in "
                "its place, or move it away to train from the start"
            )
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
        states = saved["optimizers"] if "optimizers" in saved else [saved["optimizer"]]
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.optimizer.load_state_dict(state)
        self.fabric.strategy.precision.load_state_dict(saved["precision"])
        random_states = saved["random"]
        if len(random_states) == self.fabric.world_size:
            RandomState.of_plain(random_states[self.fabric.global_rank]).restore()
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

    def _gather(self, own: Any) -> list[Any]:
        """Return what every rank has, in order of ranks."""
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


def _write_validation(validation: Validation, folder: Path) -> None:
    """Write tables and images of a validation into a folder."""
    for name, table in validation.tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    for name, image in validation.images.items():
        files.write_bytes(folder / f"{name}.png", image)


def _kept_name(epoch: int) -> str:
    return f"best-{epoch:05d}.ckpt"

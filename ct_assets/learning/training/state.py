"""Where a training stands, readable from outside while it runs: `state.json` in its folder.

Belongs here: the state's fields, writing and reading. Curves are in `metrics.jsonl` (`learning.training.tracking`).
"""

import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from ct_assets import files
from ct_assets.settings.base import Section

STATE_NAME = "state.json"
LOCK_NAME = ".training.lock"
"""Held as long as a training of the folder runs; it goes with its process."""
SECONDS_BETWEEN_WRITES = 2.0

Phase = Literal["starting", "training", "validating", "paused", "stopped", "finished", "failed"]
RUNNING: frozenset[str] = frozenset({"starting", "training", "validating"})


class TrainingState(Section):
    """A training as it was when it last told."""

    phase: Phase
    """What it does; `stopped` ended early by request and is complete, `paused` can go on."""
    stage: str = ""
    """The stage of the training."""
    epoch: int = 0
    """Epochs done."""
    epochs: int = 0
    """Epochs in all."""
    step: int = 0
    """Optimizer steps done."""
    steps: int = 0
    """Optimizer steps in all."""
    eta_s: float | None = None
    """Seconds to the end at the present speed."""
    metrics: dict[str, float] = {}
    """The last training loss, learning rate and validation metrics."""
    best: dict[str, float] = {}
    """The monitored metric at its best, and its epoch."""
    mlflow_run_id: str | None = None
    """The run on the tracking server."""
    pid: int = 0
    host: str = ""
    updated_at: str = ""
    """UTC, ISO 8601."""

    def line(self, *, is_alive: bool) -> str:
        """Return the state in one line, for people; `is_alive` as the function of that name tells."""
        parts = [self.phase if is_alive or self.phase not in RUNNING else f"{self.phase} (died)"]
        parts.append(f"epoch {self.epoch}/{self.epochs}, step {self.step}/{self.steps}")
        if is_alive and self.eta_s is not None:
            parts.append(f"about {self.eta_s / 60:.1f} min left")
        shown = {
            name: value for name, value in self.metrics.items() if name.startswith(("train_loss", "val_"))
        }
        parts += [f"{name} {value:.3f}" for name, value in shown.items()]
        return ", ".join(parts)


def is_alive(folder: Path, state: TrainingState) -> bool:
    """Tell whether the training of a folder still runs: it holds the folder's lock (on another machine: it may).

    A process number tells nothing: after a crash it may be another program's.
    """
    if state.phase not in RUNNING:
        return False
    if state.host != socket.gethostname():
        return True
    lock = FileLock(str(folder / LOCK_NAME))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def read(model_dir: Path) -> TrainingState | None:
    """Return the state of the training in `model_dir`, or None where there is none that can be read.

    A file that a power failure left empty or torn is as unknown as one that is not there.
    """
    content = files.read_json_object(model_dir / STATE_NAME)
    if content is None:
        return None
    try:
        return TrainingState.model_validate(content)
    except ValidationError:
        return None


class StateWriter:
    """Writes the state, not oftener than is useful; without a folder it only keeps it."""

    def __init__(self, model_dir: Path | None) -> None:
        self.model_dir = model_dir
        self.current = TrainingState(phase="starting")
        self._written = 0.0

    def update(self, *, now: bool = False, **changes: object) -> None:
        """Change fields; `now` writes at once, otherwise at most every few seconds."""
        moment = time.monotonic()
        if not now and moment - self._written < SECONDS_BETWEEN_WRITES:
            self.current = self.current.model_copy(update=changes)
            return
        self._written = moment
        told = {"pid": os.getpid(), "host": socket.gethostname(), "updated_at": _utc_now()}
        self.current = self.current.model_copy(update=changes | told)
        if self.model_dir is not None:
            files.write_json(self.model_dir / STATE_NAME, self.current.model_dump(mode="json"))


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

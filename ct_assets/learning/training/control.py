"""Pause and stop from outside: a request file in the training's folder, or a signal.

Belongs here: how a request is made, seen and answered. What the trainer does then (checkpoint first, then
release) is in `ct_assets.learning.training.trainer`.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from ct_assets import files

Request = Literal["pause", "stop"]

REQUEST_NAME = "request.json"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Dagster's terminate button arrives as SIGINT, a machine going down as SIGTERM."""


class TrainingPaused(Exception):  # noqa: N818 - it is no error: everything is saved, and the same call goes on
    """The training is saved and released; launching it again continues it at the same step."""


def request(model_dir: Path, what: Request) -> None:
    """Ask the training in `model_dir` to pause (to be continued) or to stop (to end with what it has)."""
    files.write_json(model_dir / REQUEST_NAME, {"request": what})


def clear(model_dir: Path) -> None:
    """Forget a request; a new launch starts without one."""
    (model_dir / REQUEST_NAME).unlink(missing_ok=True)


@dataclass
class Control:
    """What was asked of one running training."""

    model_dir: Path
    received_signal: int | None = None
    forwards: bool = False
    """Turn a signal into a request file: the training runs in other processes."""

    def pending(self) -> Request | None:
        """Return what was asked since the last look; a signal pauses."""
        if self.received_signal is not None:
            return "pause"
        path = self.model_dir / REQUEST_NAME
        if not path.exists():
            return None
        return "stop" if (files.read_json_object(path) or {}).get("request") == "stop" else "pause"

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Note SIGTERM and SIGINT instead of dying of them; deliver them afterwards to whoever listened before.

        Signals can be caught in the main thread only; elsewhere the request file alone is heard.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self.received_signal is not None:
                signal.raise_signal(self.received_signal)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received_signal = number
        if self.forwards:
            request(self.model_dir, "pause")

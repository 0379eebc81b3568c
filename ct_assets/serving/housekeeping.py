"""What goes on beside the answers: launching, reconciling, expiring, and keeping the predictor process alive.

Belongs here: the thread and the order of its rounds; each part is a function of its own module. A part that fails is
logged by the type of its error and tried again with the next round.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ct_assets.serving import batches, spool, training
from ct_assets.serving.observability import log
from ct_assets.serving.platform import Serving
from ct_assets.serving.predictor import is_working

SECONDS_BETWEEN_ROUNDS = 2.0
SECONDS_BETWEEN_SWEEPS = 300.0
SECONDS_BEFORE_RESTART = 5.0
SECONDS_TO_END = 3.0

Round = Callable[[Serving], object]
ROUNDS: tuple[Round, ...] = (batches.reconcile, training.reconcile)


class Housekeeper(threading.Thread):
    """The thread of one server process."""

    def __init__(self, serving: Serving) -> None:
        super().__init__(name="housekeeping", daemon=True)
        self.serving = serving
        self._swept_at = 0.0

    def run(self) -> None:
        """Go round until the server ends."""
        while not self.serving.stopping.wait(SECONDS_BETWEEN_ROUNDS):
            self.round()

    def round(self) -> None:
        """Go round once."""
        for part in ROUNDS:
            _guarded(part, self.serving)
        self.serving.metrics.is_working.set(float(is_working(self.serving.settings)))
        if time.monotonic() - self._swept_at > SECONDS_BETWEEN_SWEEPS:
            self._swept_at = time.monotonic()
            _guarded(spool.expire, self.serving)


def _guarded(part: Round, serving: Serving) -> None:
    try:
        part(serving)
    except Exception as error:
        log("housekeeping", level="error", part=part.__module__, error=type(error).__name__)


class PredictorProcess(threading.Thread):
    """Starts the predictor process, again when it ends, and ends it with the server."""

    def __init__(self, serving: Serving, config: Path | None) -> None:
        super().__init__(name="predictor process", daemon=True)
        self.serving = serving
        self.command = [
            sys.executable,
            "-m",
            "ct_assets.serving.predictor",
            *([str(config)] if config else []),
        ]

    def run(self) -> None:
        """Keep the process alive until the server ends."""
        while not self.serving.stopping.is_set():
            process = subprocess.Popen(self.command)
            while process.poll() is None and not self.serving.stopping.wait(0.2):
                pass
            if process.poll() is None:
                _end(process)
            else:
                log("predictor ended", level="error", code=process.returncode)
                self.serving.stopping.wait(SECONDS_BEFORE_RESTART)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process; what it was doing is begun again by the next one."""
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

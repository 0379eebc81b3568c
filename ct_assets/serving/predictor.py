"""The predictor process: takes requests from the queue one by one, with the models kept open.

Belongs here: the loop, what a crash leaves and how it is taken up again, publishing results. A request's results are
written beside and renamed, so they are there whole or not at all; one worker at a time holds the lock of the queue.
"""

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock

from ct_assets import files, machine_faults
from ct_assets.errors import UsageError
from ct_assets.serving import jobs, models
from ct_assets.serving.observability import log
from ct_assets.serving.spool import Spool
from ct_assets.serving.store import Store, open_store
from ct_assets.settings import Settings

LOCK_NAME = "predictor.lock"
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_VERSIONS = 60.0
PARTIAL_NAME = "output.partial"

Predict = Callable[[Path, Path, Path], list[dict[str, Any]]]
"""Bundle's folder, input, output folder to the lines of `prediction.jsonl`."""


class ModelUnavailableError(Exception):
    """The bundle of a model cannot be opened, or may no longer answer; `code` is the reason."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Worker:
    """Takes requests until it is stopped."""

    def __init__(self, settings: Settings, store: Store, predict: Predict) -> None:
        self.settings, self.store, self.predict = settings, store, predict
        self.spool = Spool(settings.layout.serving)
        self.stopping = threading.Event()
        self._looked_at: dict[str, float] = {}

    def run(self) -> None:
        """Work until stopped; waits where another worker holds the lock."""
        with held_lock(self.settings, self.stopping):
            if self.stopping.is_set():
                return
            jobs.recover(self.store, "inference", self.settings.serving.attempts)
            while not self.stopping.is_set():
                try:
                    worked = self.work_once()
                except Exception as error:
                    if machine_faults.told(error) is None:
                        raise
                    log("predictor waits", level="error", error=type(error).__name__)
                    worked = False
                    self.stopping.wait(5)
                if not worked:
                    self.stopping.wait(SECONDS_BETWEEN_LOOKS)

    def work_once(self) -> bool:
        """Answer the next request; return False where none waits."""
        job = jobs.claim(self.store, "inference")
        if job is None:
            return False
        self._work(job)
        return True

    def work_on(self, job_id: str) -> str:
        """Answer one request that a run was launched for; return its state. One that has ended stays as it is."""
        if jobs.change(self.store, job_id, only=jobs.OPEN, state="running", started_at=time.time()):
            self._work(jobs.get(self.store, job_id))
        return str(jobs.get(self.store, job_id)["state"])

    def _work(self, job: dict[str, Any]) -> None:
        begun = time.monotonic()
        state, reason, result = self._answer(job)
        if not jobs.change(
            self.store, job["job_id"], only=("running",), state=state, reason=reason, result=result
        ):
            self.spool.remove(job["job_id"])  # withdrawn while it was running
        log(
            str(job["kind"]),
            job_id=job["job_id"],
            request_id=job["request_id"],
            model=job["model"],
            state=state,
            reason=reason,
            seconds=round(time.monotonic() - begun, 3),
        )

    def _answer(self, job: dict[str, Any]) -> tuple[str, str | None, dict[str, Any] | None]:
        job_id, model = job["job_id"], job["model"]
        final, partial = self.spool.output(job_id), self.spool.folder(job_id) / PARTIAL_NAME
        if (
            final / "prediction.jsonl"
        ).exists():  # it was done, and the worker was lost before it could say so
            return "done", None, _summary(files.read_jsonl(final / "prediction.jsonl"))
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(mode=0o700)
            lines = self.predict(self._bundle(model), self.spool.input(job_id), partial)
            if models.is_withdrawn(self.settings, model):
                raise ModelUnavailableError("model_withdrawn")
            files.write_jsonl(partial / "prediction.jsonl", lines)
            partial.rename(final)
        except ModelUnavailableError as error:
            shutil.rmtree(partial, ignore_errors=True)
            return "failed", error.code, None
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            if machine_faults.is_disk_full(error):
                return "failed", "disk_full", None
            # The text of an error may hold a value of a header; its type never does.
            log("inference failed", level="error", job_id=job_id, error=type(error).__name__)
            return "failed", "request_failed", None
        return "done", None, _summary(lines)

    def _bundle(self, model: str) -> Path:
        """Return the folder of a model's bundle; a registered one is fetched when its version has changed."""
        if model not in self.settings.serving.models:
            raise ModelUnavailableError("model_missing")
        where = self.settings.serving.models[model]
        if where.startswith(models.REGISTERED):
            self._fetch(model, where)
        if models.is_withdrawn(self.settings, model):
            raise ModelUnavailableError("model_withdrawn")
        folder = models.local_folder(self.settings, model)
        if folder is None or not folder.is_dir():
            raise ModelUnavailableError("model_missing")
        return folder

    def _fetch(self, model: str, where: str) -> None:
        now = time.monotonic()
        if now - self._looked_at.get(model, -SECONDS_BETWEEN_VERSIONS) < SECONDS_BETWEEN_VERSIONS:
            return
        from ct_assets.serving.registered import fetch

        try:
            fetch(self.settings, model, where)
        except UsageError:
            # The register is away or no longer knows the name: what was fetched before goes on answering.
            log("model not fetched", level="error", model=model)
        self._looked_at[model] = now


def _summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the database keeps of a result: counts and codes."""
    refused = [line for line in lines if line["status"] != "predicted"]
    reasons = sorted({code for line in refused for code in line["reasons"]})
    return {"predicted": len(lines) - len(refused), "refused": len(refused), "reasons": reasons}


@contextlib.contextmanager
def held_lock(settings: Settings, stopping: threading.Event) -> Any:
    """Hold the lock of the queue inside the block, or give up when `stopping` is set."""
    lock = filelock.FileLock(settings.layout.serving / LOCK_NAME, mode=0o600, thread_local=False)
    while not stopping.is_set():
        try:
            lock.acquire(timeout=0.2)
            break
        except filelock.Timeout:
            continue
    try:
        yield
    finally:
        lock.release()


def is_working(settings: Settings) -> bool:
    """Tell whether a worker holds the lock of the queue."""
    lock = filelock.FileLock(settings.layout.serving / LOCK_NAME, mode=0o600, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def predict_with_system(settings: Settings) -> Predict:
    """Return the prediction of whichever system made a bundle."""

    def predict(folder: Path, source: Path, output: Path) -> list[dict[str, Any]]:
        from ct_assets.progress import Timings
        from ct_assets.systems import predict as run

        return run(str(folder), source, output, settings=settings, workers=1, timings=Timings())

    return predict


def main() -> None:
    """Run the process: `python -m ct_assets.serving.predictor`; ends with its parent and at SIGTERM."""
    from ct_assets.settings import load_settings

    settings = load_settings(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    worker = Worker(settings, open_store(settings), predict_with_system(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stopping.set())
    threading.Thread(target=_end_with_parent, args=(worker, os.getppid()), daemon=True).start()
    worker.run()


def _end_with_parent(worker: Worker, parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    worker.stopping.set()


if __name__ == "__main__":
    main()

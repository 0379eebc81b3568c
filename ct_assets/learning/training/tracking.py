"""What a training tells MLflow: runs, parameters, curves, data sets, files; never at the training's expense.

Belongs here: one run of one training and its sending. Everything told is first a line of `tracking.jsonl` in
the training's folder; a thread sends the lines in order and notes how many arrived. A tracking server that
is away costs nothing: the rest is sent when it is back, or by the next launch.
"""

import math
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock

from ct_assets import files, progress
from ct_assets.layout import Layout

EVENTS_NAME = "tracking.jsonl"
SENT_NAME = "tracking_sent.json"
KIND_TAG, MODEL_DEVELOPMENT = "mlflow.experimentKind", "custom_model_development"
"""MLflow's pages open an experiment of this kind on its training runs, one without a kind on traces."""
PARENT_NAME = "tracking_parent.json"
SECONDS_BETWEEN_TRIES = 30.0
SECONDS_TO_FINISH = 20.0
SECONDS_BETWEEN_SYSTEM_METRICS = 10.0

SERVER_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Environment of the MLflow client where nobody set it: give up soon, call nobody else."""


def default_uri(layout: Layout) -> str:
    """Return the embedded tracking store under the data root."""
    layout.mlflow.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(layout.mlflow / 'mlflow.db').absolute()}"


def client(uri: str) -> Any:
    """Return an MLflow client that gives up soon on a server that is away and prints nothing of its own."""
    import logging

    for name, value in SERVER_DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


class Tracker:
    """The way to tell; this one tells nobody (other processes of one training, tests)."""

    run_id: str | None = None

    def params(self, values: Mapping[str, object]) -> None:
        """Tell parameters."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Tell tags."""

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Tell metrics at a step."""

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Tell a data set that went in, by name and digest."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Tell a file, or all files of a folder."""

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED (MLflow's words)."""


@dataclass(frozen=True)
class RunName:
    """Which run of which experiment."""

    experiment: str
    run: str
    experiment_dir: Path
    """Where the experiment's parent run is remembered, for all folds."""


class RunTracker(Tracker):
    """Tells one MLflow run, a child of its experiment's run."""

    def __init__(
        self,
        uri: str,
        name: RunName,
        folder: Path,
        *,
        run_id: str | None = None,
        system_metrics: bool = False,
    ) -> None:
        self.uri = uri
        self.name = name
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        known = _read_sent(folder)
        self.run_id = run_id or (known.get("run_id") if known.get("uri") == uri else None)
        self._sent = int(known.get("sent", 0)) if known.get("uri") == uri else 0
        self._events = _read_events(folder)
        self._file = (folder / EVENTS_NAME).open("ab")
        self._changed = threading.Condition()
        self._closing = False
        self._failures = 0
        self._client: Any = None
        self._thread = threading.Thread(target=self._send_until_closed, name="tracking", daemon=True)
        self._thread.start()
        self._system = system_metrics
        if system_metrics:
            threading.Thread(target=self._sample_system, name="system metrics", daemon=True).start()

    def params(self, values: Mapping[str, object]) -> None:
        """Tell parameters; long values are cut as MLflow requires."""
        self._tell("params", {"values": {key: str(value)[:500] for key, value in values.items()}})

    def tags(self, values: Mapping[str, str]) -> None:
        """Tell tags."""
        self._tell("tags", {"values": dict(values)})

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Tell metrics at a step."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._tell("metrics", {"values": finite, "step": step, "at_ms": int(time.time() * 1000)})

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Tell a data set that went in, by name and digest (MLflow keeps 36 characters of it)."""
        self._tell("dataset", {"name": name, "digest": digest[:36], "source": source, "context": context})

    def artifact(self, path: Path, folder: str = "") -> None:
        """Tell a file, or all files of a folder."""
        self._tell("artifact", {"path": str(path), "folder": folder})

    def finish(self, status: str) -> None:
        """End the run, wait a little for what is unsent, and say how much could not be sent."""
        self._tell("status", {"status": status})
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(SECONDS_TO_FINISH)
        self._file.close()
        unsent = len(self._events) - self._sent
        if unsent:
            progress.say(
                f"tracking: {unsent} entries wait in {self.folder / EVENTS_NAME}; the next launch sends them"
            )

    # The sender

    def _tell(self, kind: str, content: Mapping[str, object]) -> None:
        event = {"kind": kind, **content}
        with self._changed:
            if self._closing:
                return
            self._events.append(event)
            self._file.write(orjson.dumps(event) + b"\n")
            self._file.flush()
            self._changed.notify()

    def _send_until_closed(self) -> None:
        while True:
            with self._changed:
                while self._sent >= len(self._events) and not self._closing:
                    self._changed.wait()
                if self._sent >= len(self._events):
                    return
                event = self._events[self._sent]
            try:
                self._send(event)
                self._failures = 0
            except Exception as error:
                if _is_refused(error):
                    progress.say(f"tracking: the server refuses {event['kind']} of {self.name.run}; left out")
                    with self._changed:
                        self._sent += 1
                    continue
                self._failures += 1
                if self._failures == 1:
                    progress.say(
                        f"tracking: {self.name.run}: {type(error).__name__}; training goes on without"
                    )
                with self._changed:
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing, timeout=SECONDS_BETWEEN_TRIES)
                    continue
            with self._changed:
                self._sent += 1
            _write_sent(self.folder, {"uri": self.uri, "run_id": self.run_id, "sent": self._sent})

    def _send(self, event: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        if self._client is None:
            self._client = client(self.uri)
        if self.run_id is None:
            self.run_id = _start_run(self._client, self.uri, self.name)
        kind = event["kind"]
        if kind == "params":
            self._client.log_batch(self.run_id, params=[Param(k, v) for k, v in event["values"].items()])
        elif kind == "tags":
            self._client.log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in event["values"].items()])
        elif kind == "metrics":
            at, step = event["at_ms"], event["step"]
            metrics = [Metric(k, v, at, step) for k, v in event["values"].items()]
            self._client.log_batch(self.run_id, metrics=metrics)
        elif kind == "dataset":
            dataset = Dataset(
                event["name"], event["digest"], "local", orjson.dumps({"uri": event["source"]}).decode()
            )
            tag = InputTag("mlflow.data.context", event["context"])
            self._client.log_inputs(self.run_id, [DatasetInput(dataset, [tag])])
        elif kind == "artifact":
            self._send_artifact(Path(event["path"]), event["folder"] or None)
        elif kind == "status":
            self._client.set_terminated(self.run_id, event["status"])
            # The experiment's own run is as its last fold; a fold that begins opens it again.
            self._client.set_terminated(_parent_of(self._client, self.uri, self.name), event["status"])

    def _send_artifact(self, path: Path, folder: str | None) -> None:
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), folder)
        elif path.exists():
            self._client.log_artifact(self.run_id, str(path), folder)

    def _sample_system(self) -> None:
        """Tell load and memory under the names that MLflow's pages know as system metrics."""
        import psutil

        process = psutil.Process()
        psutil.cpu_percent()
        sample = 0
        while not self._closing:
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=SECONDS_BETWEEN_SYSTEM_METRICS)
            if self._closing:
                return
            memory = psutil.virtual_memory()
            values = {
                "system/cpu_utilization_percentage": psutil.cpu_percent(),
                "system/system_memory_usage_megabytes": memory.used / 1e6,
                "system/system_memory_usage_percentage": memory.percent,
                "system/process_memory_megabytes": process.memory_info().rss / 1e6,
            }
            with suppress(Exception):
                values |= _gpu_metrics()
            self.metrics(values, step=sample)
            sample += 1


def _is_refused(error: Exception) -> bool:
    """Tell whether the server was there and would not take it: then it never will."""
    code = getattr(error, "error_code", "")
    return code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")


def _gpu_metrics() -> dict[str, float]:
    import torch

    if not torch.cuda.is_available():
        return {}
    used = torch.cuda.memory_allocated() / 1e6
    total = torch.cuda.get_device_properties(0).total_memory / 1e6
    return {
        "system/gpu_0_memory_usage_megabytes": used,
        "system/gpu_0_memory_usage_percentage": 100 * used / total,
        "system/gpu_0_utilization_percentage": float(torch.cuda.utilization(0)),
    }


def experiment_id(mlflow_client: Any, uri: str, experiment: str) -> str:
    """Return MLflow's experiment of that name, made where there is none; sqlite keeps files beside itself."""
    from mlflow.exceptions import MlflowException

    found = mlflow_client.get_experiment_by_name(experiment)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if uri.startswith("sqlite:///"):
        location = (Path(uri.removeprefix("sqlite:///")).parent / "artifacts" / experiment).as_uri()
    try:
        tags = {KIND_TAG: MODEL_DEVELOPMENT}
        return str(mlflow_client.create_experiment(experiment, artifact_location=location, tags=tags))
    except MlflowException:
        return str(mlflow_client.get_experiment_by_name(experiment).experiment_id)


def parent_run(mlflow_client: Any, uri: str, experiment: str, experiment_dir: Path) -> str:
    """Return the experiment's own run, made once for all folds and remembered in the experiment's folder."""
    path = experiment_dir / PARENT_NAME
    experiment_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(str(experiment_dir / f".{PARENT_NAME}.lock")):
        known = files.read_json_object(path) or {}
        if known.get("uri") == uri:
            return str(known["run_id"])
        run = mlflow_client.create_run(experiment_id(mlflow_client, uri, experiment), run_name=experiment)
        files.write_json(path, {"uri": uri, "run_id": run.info.run_id})
        return str(run.info.run_id)


def _parent_of(mlflow_client: Any, uri: str, name: RunName) -> str:
    return parent_run(mlflow_client, uri, name.experiment, name.experiment_dir)


def _start_run(mlflow_client: Any, uri: str, name: RunName) -> str:
    parent = _parent_of(mlflow_client, uri, name)
    mlflow_client.update_run(parent, status="RUNNING")
    run = mlflow_client.create_run(
        experiment_id(mlflow_client, uri, name.experiment),
        run_name=name.run,
        tags={"mlflow.parentRunId": parent},
    )
    return str(run.info.run_id)


def _read_sent(folder: Path) -> dict[str, Any]:
    return files.read_json_object(folder / SENT_NAME) or {}


def _write_sent(folder: Path, content: dict[str, Any]) -> None:
    """Note what arrived; a rename without a flush to disk is enough for what may be sent twice."""
    partial = folder / f".partial-{SENT_NAME}"
    partial.write_bytes(orjson.dumps(content))
    partial.replace(folder / SENT_NAME)


def _read_events(folder: Path) -> list[dict[str, Any]]:
    """Read what was told before; lines that a killed process or a power failure left unreadable are forgotten."""
    path = folder / EVENTS_NAME
    if not path.exists():
        return []
    content = path.read_bytes()
    events = []
    readable = []
    for line in content.splitlines(keepends=True):
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if line.endswith(b"\n") and isinstance(event, dict) and "kind" in event:
            events.append(event)
            readable.append(line)
    if b"".join(readable) != content:
        files.write_bytes(path, b"".join(readable))
    return events

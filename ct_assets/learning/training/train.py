"""One fold's training: everything checked first, then the trainer, and a record of what was trained on what.

Belongs here: refusals by name, the record, the tracking run, devices. The loop is in `learning.training.trainer`.
"""

import platform as machine
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from filelock import FileLock, Timeout
from lightning.fabric import Fabric

import ct_assets
from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.learning.experiment import Experiment
from ct_assets.learning.system import FINAL, Config, Examples, Trainable
from ct_assets.learning.training import checkpoints, control, state, tracking
from ct_assets.learning.training.position import FitResult
from ct_assets.learning.training.trainer import Trainer, seed_everything
from ct_assets.settings.training import ExperimentConfig

RECORD_NAME = "training.json"
RESULT_NAME = "result.json"
PRETRAINED_NAME = "pretrained.json"
PATIENTS_NAME = "patients.json"
"""Who was in a training, by pseudonym: kept beside it, logged to no tracking server, so that a model which
learned from somebody who withdraws is known."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training left."""

    status: Literal["finished", "stopped"]
    """`stopped`: ended early by request, and complete all the same."""
    weights: Path
    """The best epoch's weights, safetensors."""
    last: Path
    """The last checkpoint."""
    digest: str
    """SHA-256 of the weights."""
    epochs: int
    best_epoch: int
    metrics: dict[str, float]
    """Validation metrics of the best epoch."""
    run_id: str | None
    """The MLflow run; None where no tracking server was reached."""


def train_fold(
    system: Trainable[Config],
    experiment: Experiment[Config],
    *,
    fold: str,
    examples: Examples,
    tracking_uri: str | None = None,
    model_dir: Path | None = None,
    resume: bool = True,
    config: Config | None = None,
) -> TrainingResult:
    """Train one fold of an experiment, or go on where an earlier process was paused or killed.

    `examples` are those of the fold (`System.examples`); `config` is this training's own configuration where it only
    follows from the experiment's (fewer epochs). A training that is complete returns its result at once. Raises
    `UsageError` where there is nothing to train on, and `TrainingPaused` once everything is saved when a pause is
    asked for.
    """
    config = config or experiment.config
    job = Job(
        system=system,
        config=config,
        experiment=experiment.name,
        fold=fold,
        examples=examples,
        classes=experiment.classes,
        folder=model_dir or experiment.fold(fold),
        identity=system.identity(examples, config, experiment.classes),
        manifest_digest=experiment.manifest_digest,
        experiment_dir=experiment.folder,
        tracking_uri=tracking_uri or tracking.default_uri(experiment.layout),
    )
    return train(job, resume=resume)


def train(job: "Job", *, resume: bool = True) -> TrainingResult:
    """Run one training as `train_fold` does, for a system whose trainings belong to no experiment record.

    Raises as `train_fold`.
    """
    what = f"{job.experiment}, fold {job.fold}"
    done = _finished(job.folder, job.identity) if resume else None
    if done is not None:
        progress.say(f"{what}: is trained already")
        return done
    if not job.examples.patients("train"):
        raise UsageError(f"{what}: has no training examples; see the fold's report")
    if shared := set(job.examples.patients("train")) & set(job.examples.patients("validation")):
        raise UsageError(
            f"{what}: {len(shared)} patients are in training and validation; a patient's examples stay together"
        )
    job.folder.mkdir(parents=True, exist_ok=True)
    with _only_training_of(job.folder, what):
        return _run(job, resume)


@contextmanager
def _only_training_of(folder: Path, what: str) -> Iterator[None]:
    """Hold the folder for one training; the lock goes with its process. Raises `UsageError` where it is held."""
    lock = FileLock(str(folder / state.LOCK_NAME))
    try:
        lock.acquire(timeout=0.1, poll_interval=0.05)
    except Timeout:
        known = state.read(folder)
        raise UsageError(
            f"training_under_way: {what} is being trained by another process"
            + (f" ({known.line(is_alive=True)})" if known is not None else "")
            + "; wait for it, or pause it with ct-assets train --pause"
        ) from None
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Job:
    """All that one training needs, picklable for the processes of several GPUs."""

    system: Trainable[Any]
    config: ExperimentConfig
    experiment: str
    fold: str
    examples: Examples
    classes: tuple[str, ...]
    folder: Path
    identity: dict[str, str]
    manifest_digest: str
    experiment_dir: Path
    """Where the parent run of the tracking server is remembered."""
    tracking_uri: str | None
    """None: the training is recorded on no tracking server."""
    run_name: str = ""
    """By default `fold <fold>`."""


# Running


def _run(job: Job, resume: bool) -> TrainingResult:
    config = job.config
    control.clear(job.folder)
    heard = control.Control(job.folder)
    single = config.devices == 1
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        precision=config.precision,
        # Several devices have processes of their own; a signal to this one reaches them as a request.
        strategy="auto" if single else "ddp_spawn",
    )
    heard.forwards = not single
    try:
        with heard.listening():
            if single:
                fitted, run_id = fit(fabric, job, heard, resume)
            else:
                values, run_id = fabric.launch(partial(_fit_rank, job=job, resume=resume))
                fitted = FitResult(**values)
            if fitted.status == "paused":
                raise control.TrainingPaused(
                    f"{job.experiment}, fold {job.fold}: paused after {fitted.epochs} epochs; launch it again "
                    "to go on"
                )
    finally:
        control.clear(job.folder)
    return _result(job.folder, files.read_json(job.folder / RESULT_NAME), run_id)


def _fit_rank(fabric: Fabric, *, job: Job, resume: bool) -> tuple[dict[str, Any], str | None]:
    """Fit in one of several processes; what goes between them is plain, since Fabric walks through it."""
    fitted, run_id = fit(fabric, job, control.Control(job.folder), resume)
    return dict(vars(fitted)), run_id


def fit(fabric: Fabric, job: Job, heard: control.Control, resume: bool) -> tuple[FitResult, str | None]:
    """Build the task, train it and record it, in one process of one or several."""
    if job.config.threads is not None:
        torch.set_num_threads(job.config.threads)
    writer = state.StateWriter(job.folder if fabric.is_global_zero else None)
    tracker = tracking.Tracker()
    if fabric.is_global_zero and job.tracking_uri is not None:
        tracker = tracking.RunTracker(
            job.tracking_uri,
            tracking.RunName(job.experiment, job.run_name or f"fold {job.fold}", job.experiment_dir),
            job.folder,
            run_id=_run_id(job.folder),
            system_metrics=job.config.system_metrics,
        )
    status = "FAILED"
    try:
        _describe(job, tracker, fabric.is_global_zero)
        writer.update(now=True, phase="starting", epochs=job.config.epochs)
        fitted = _trainer(fabric, job, heard, writer, tracker, resume).fit(resume=resume)
        if fitted.status != "paused" and fabric.is_global_zero:
            _conclude(job, fitted, tracker)
        status = "KILLED" if fitted.status == "paused" else "FINISHED"
    except Exception as error:
        # The text of an exception may carry a path or a value; its type never does.
        progress.say(f"training failed: {type(error).__name__}")
        writer.update(now=True, phase="failed")
        raise
    finally:
        tracker.finish(status)
    return fitted, tracker.run_id


def _trainer(
    fabric: Fabric,
    job: Job,
    heard: control.Control,
    writer: state.StateWriter,
    tracker: tracking.Tracker,
    resume: bool,
) -> Trainer:
    config = job.config
    seed_everything(config.seed)
    task = job.system.task(job.examples, config, job.classes)
    if not (resume and (job.folder / checkpoints.LAST_NAME).exists()):
        report = job.system.load_pretrained(task, job.examples, config)
        if report is not None:
            if fabric.is_global_zero:
                files.write_json(job.folder / PRETRAINED_NAME, report.model_dump(mode="json"))
                tracker.tags({"pretrained_sha256": report.sha256})
                tracker.artifact(job.folder / PRETRAINED_NAME)
            progress.say(report.line())
    return Trainer(
        task,
        config,
        model_dir=job.folder,
        identity=job.identity,
        fabric=fabric,
        control=heard,
        state=writer,
        tracker=tracker,
    )


# Records


def _describe(job: Job, tracker: tracking.Tracker, is_first: bool) -> None:
    """Write the record of the training and tell it to the tracking server."""
    if not is_first:
        return
    roles = job.examples.table.group_by("role").len().sort("role").rows()
    record: dict[str, Any] = {
        "experiment": job.experiment,
        "fold": job.fold,
        "identity": job.identity,
        "manifest_digest": job.manifest_digest,
        "cases": dict(roles),
        "config": job.config.model_dump(mode="json"),
        "environment": environment(),
    }
    files.write_json(job.folder / RECORD_NAME, record)
    patients = {role: job.examples.patients(role) for role in ("train", "validation")}
    files.write_json(job.folder / PATIENTS_NAME, patients)
    tracker.params(_flat(record["config"]))
    tracker.tags(
        {
            "system": job.system.name,
            "experiment": job.experiment,
            "fold": job.fold,
            **job.identity,
            **{f"version.{name}": value for name, value in environment().items()},
        }
    )
    tracker.dataset("manifest", job.manifest_digest, job.system.manifest_path, "training")
    for source in job.examples.sources:
        tracker.dataset(source.name, source.digest, source.path, "training")
    tracker.artifact(job.folder / RECORD_NAME)


def environment() -> dict[str, str]:
    """Return the versions of what computes."""
    import monai
    import numpy

    return {
        "ct_assets": ct_assets.__version__,
        "python": machine.python_version(),
        "torch": str(torch.__version__),
        "lightning": str(lightning.__version__),
        "monai": str(monai.__version__),
        "numpy": numpy.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def _conclude(job: Job, fitted: FitResult, tracker: tracking.Tracker) -> None:
    content = {
        "status": fitted.status,
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "metrics": fitted.metrics,
        "weights_sha256": fitted.weights_sha256,
        "identity": job.identity,
        "fold": job.fold,
        "is_final": job.fold == FINAL,
    }
    files.write_json(job.folder / RESULT_NAME, content)
    best = {f"best_{name}": value for name, value in fitted.metrics.items()}
    tracker.metrics(best, step=fitted.best_epoch)
    tracker.tags({"weights_sha256": fitted.weights_sha256, "status": fitted.status})
    tracker.artifact(job.folder / RESULT_NAME)


def _result(folder: Path, content: Mapping[str, Any], run_id: str | None) -> TrainingResult:
    return TrainingResult(
        status=content["status"],
        weights=folder / checkpoints.WEIGHTS_NAME,
        last=folder / checkpoints.LAST_NAME,
        digest=content["weights_sha256"],
        epochs=content["epochs"],
        best_epoch=content["best_epoch"],
        metrics=dict(content["metrics"]),
        run_id=run_id,
    )


def _finished(folder: Path, identity: Mapping[str, str]) -> TrainingResult | None:
    """Return the result of a complete training of the same identity, whose weights are what they were."""
    content = files.read_json_object(folder / RESULT_NAME)
    if content is None:
        return None
    best = folder / checkpoints.WEIGHTS_NAME
    if content["identity"] != dict(identity) or not best.exists():
        return None
    if files.sha256_file(best) != content["weights_sha256"]:
        return None
    return _result(folder, content, _run_id(folder))


def _run_id(folder: Path) -> str | None:
    known = state.read(folder)
    return known.mlflow_run_id if known is not None else None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested settings as one level of dotted names."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

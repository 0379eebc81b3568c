"""Training of autoencoders and flow models on crops, and opening what was trained.

Belongs here: an experiment's folder: configuration, identity, weights, patients, gate. Does not: tasks
(`autoencoder_task`, `flow_task`), evaluation (`evaluation`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import nn

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.learning.training import checkpoints, control, optimizers, state, tracking
from ct_assets.learning.training.position import FitResult
from ct_assets.learning.training.task import Task
from ct_assets.learning.training.trainer import Trainer, seed_everything
from ct_assets.settings.longitudinal import AutoencoderConfig, FlowConfig, GenerativeTraining
from ct_assets.systems.longitudinal import autoencoder_task, flow_task, latents, networks, patch_store
from ct_assets.systems.longitudinal.flow_task import Examples
from ct_assets.systems.longitudinal.latents import Encoder
from ct_assets.systems.longitudinal.patch_store import PatchSet

RECORD_NAME, PATIENTS_NAME, GATE_NAME = "experiment.json", "patients.json", "gate.json"
WEIGHTS_NAME = checkpoints.WEIGHTS_NAME


@dataclass(frozen=True)
class FlowModel:
    """A trained flow model, ready to predict."""

    field: networks.VelocityField
    config: FlowConfig
    interval_days: tuple[float, float]
    """Shortest and longest interval of the training pairs."""
    weights_sha256: str
    crops_digest: str
    encoder: Encoder | None = None
    latent_scale: float = 1.0

    def predict(self, crops: PatchSet, days: np.ndarray | None = None) -> np.ndarray:
        """Return predicted later crops in HU, (pairs, slices, rows, columns), float32.

        `days` overrides the intervals of the pairs.
        """
        from ct_assets.imaging import windows

        intervals = np.array([row["delta_days"] for row in crops.rows]) if days is None else days
        if self.encoder is None:
            made = flow_task.predict(
                self.field, crops.scaled(self.config.window)[0][:, None], intervals, self.config
            )
        else:
            coded = latents.encode(self.encoder, crops, self.latent_scale)
            moved = flow_task.predict(self.field, coded.earlier, intervals, self.config)
            made = latents.decode(self.encoder, moved, self.latent_scale)
        window = windows.window(self.config.window)
        hu: np.ndarray = (made[:, 0] + 1) / 2 * window.width_hu + window.lower_hu
        return hu


def train_autoencoder(patches_dir: Path, folder: Path, config: AutoencoderConfig) -> autoencoder_task.Gate:
    """Train an autoencoder on the training patients' crops and judge it on those of the validation patients."""
    training, validation = (patch_store.read(patches_dir, split) for split in ("train", "val"))
    _require(training, validation)
    seed_everything(config.seed)
    network = networks.autoencoder(config)
    crops = [
        np.concatenate([part[:, None] for part in some.scaled(config.window)])
        for some in (training, validation)
    ]
    fitted = _fit(
        autoencoder_task.AutoencoderTask(network, crops[0], crops[1], config),
        config, folder, training, validation, "autoencoder",
    )  # fmt: skip
    network.load_state_dict(checkpoints.load_weights(folder / WEIGHTS_NAME)[0])
    gate = autoencoder_task.gate(
        network, validation.earlier, validation.rows, validation.settings.spacing_mm, config
    )
    files.write_json(folder / GATE_NAME, gate.json() | {"weights_sha256": fitted.weights_sha256})
    return gate


def open_encoder(folder: Path) -> Encoder:
    """Open a trained autoencoder. Raises `UsageError` where there is none, or its gate is of other weights."""
    record = _record(folder, "autoencoder")
    config = AutoencoderConfig.model_validate(record["config"])
    network = networks.autoencoder(config)
    network.load_state_dict(checkpoints.load_weights(folder / WEIGHTS_NAME)[0])
    sha256 = files.sha256_file(folder / WEIGHTS_NAME)
    gate = files.read_json_object(folder / GATE_NAME) or {}
    if gate.get("weights_sha256") != sha256:
        raise UsageError(f"{folder / GATE_NAME}: is missing or of other weights; train the autoencoder again")
    return Encoder(network, sha256, config.window, bool(gate["is_passed"]))


def train_flow(
    patches_dir: Path,
    folder: Path,
    config: FlowConfig,
    *,
    encoder_dir: Path | None = None,
    models: Path | None = None,
) -> FitResult:
    """Train a flow model on the training patients' pairs.

    A flow of latents needs an autoencoder that passed its gate (`encoder_dir`). Raises `UsageError` naming what lacks.
    """
    training, validation = (patch_store.read(patches_dir, split) for split in ("train", "val"))
    _require(training, validation)
    further: dict[str, Any] = {}
    encoder = None
    if config.space == "latents":
        if encoder_dir is None:
            raise UsageError("space: latents needs a trained autoencoder")
        encoder = open_encoder(encoder_dir)
        latents.require_gate(encoder)
    examples, scale = _examples(training, config, encoder, None, folder)
    if encoder is not None and encoder_dir is not None:
        further = {
            "encoder": encoder_dir.name,
            "encoder_sha256": encoder.weights_sha256,
            "latent_scale": scale,
        }
    others, _ = _examples(validation, config, encoder, scale, folder)
    seed_everything(config.seed)
    field = networks.field(config, examples.earlier.shape[1])
    if config.pretrained is not None:
        source = (models or folder.parent) / config.pretrained
        _record(source, "flow")
        field.load_state_dict(checkpoints.load_weights(source / WEIGHTS_NAME)[0])
    days = examples.days
    further |= {"interval_days": [float(days.min()), float(days.max())]}
    task = flow_task.FlowTask(field, examples, others, config)
    require_interval_in_optimizer(field)
    return _fit(task, config, folder, training, validation, "flow", further)


def require_interval_in_optimizer(field: networks.VelocityField) -> None:
    """Raise `UsageError` where a parameter of the interval's embedding would not be trained."""
    optimizer = optimizers.build(field, FlowConfig().optimizer, 1e-3)
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    lost = [
        name
        for name, parameter in field.named_parameters()
        if name.startswith("interval.") and id(parameter) not in stepped
    ]
    if lost or not any(name.startswith("interval.") for name, _ in field.named_parameters()):
        raise UsageError(
            f"the interval's embedding is not in the optimizer: {', '.join(lost) or 'no parameters'}"
        )


def open_flow(folder: Path) -> FlowModel:
    """Open a trained flow model. Raises `UsageError` where there is none, or its autoencoder is another one."""
    record = _record(folder, "flow")
    config = FlowConfig.model_validate(record["config"])
    encoder = None
    if config.space == "latents":
        encoder = open_encoder(folder.parent / record["encoder"])
        if encoder.weights_sha256 != record["encoder_sha256"]:
            raise UsageError(
                f"latents_stale: {folder}: was trained on latents of {record['encoder_sha256'][:12]}, the autoencoder "
                f"{record['encoder']} is now {encoder.weights_sha256[:12]}; train the flow again"
            )
    field = networks.field(config, record["channels"])
    field.load_state_dict(checkpoints.load_weights(folder / WEIGHTS_NAME)[0])
    low, high = record["interval_days"]
    return FlowModel(
        field.to("cuda" if torch.cuda.is_available() else "cpu").eval(),
        config,
        (low, high),
        files.sha256_file(folder / WEIGHTS_NAME),
        record["crops"],
        encoder,
        float(record.get("latent_scale", 1.0)),
    )


def _examples(
    crops: PatchSet, config: FlowConfig, encoder: Encoder | None, scale: float | None, folder: Path
) -> tuple[Examples, float]:
    boxes = [[row[name] for row in crops.rows] for name in ("box_a", "box_b")]
    days = np.array([row["delta_days"] for row in crops.rows], np.float32)
    weights = flow_task.regions(boxes[0], boxes[1], crops.settings.shape, config)
    if encoder is None:
        earlier, later = (part[:, None] for part in crops.scaled(config.window))
        return Examples(earlier, later, days, weights), 1.0
    path = folder / ("latents_train.safetensors" if scale is None else "latents_val.safetensors")
    coded = latents.encode(encoder, crops, scale)
    folder.mkdir(parents=True, exist_ok=True)
    latents.write(path, coded, encoder, crops)
    coded = latents.read(path, encoder, crops)
    coarse = nn.functional.adaptive_max_pool3d(torch.from_numpy(weights), coded.earlier.shape[2:]).numpy()
    return Examples(coded.earlier, coded.later, days, coarse), coded.scale


def _fit(
    task: Task,
    config: GenerativeTraining,
    folder: Path,
    training: PatchSet,
    validation: PatchSet,
    kind: str,
    further: Mapping[str, Any] | None = None,
) -> FitResult:
    """Fit a task in an experiment's folder; a training that was killed goes on where it was."""
    folder.mkdir(parents=True, exist_ok=True)
    channels = task.batches[0]["earlier"].shape[1] if kind == "flow" else 1
    record = {
        "system": "longitudinal",
        "kind": kind,
        "config": config.model_dump(mode="json"),
        "crops": training.digest,
        "channels": int(channels),
        **(further or {}),
    }
    files.write_json(folder / RECORD_NAME, record)
    files.write_json(
        folder / PATIENTS_NAME,
        {
            name: sorted({row["pid"] for row in some.rows})
            for name, some in (("train", training), ("validation", validation))
        },
    )
    listening = control.Control(folder)
    with listening.listening():
        fitted = Trainer(
            task,
            config,
            model_dir=folder,
            identity={"config_digest": config.digest, "crops": training.digest},
            fabric=Fabric(accelerator="auto", devices=1, precision=config.precision),
            control=listening,
            state=state.StateWriter(folder),
            tracker=tracking.Tracker(),
        ).fit()
    if fitted.status == "paused":
        raise control.TrainingPaused(f"{folder.name}: paused; launch it again to go on")
    progress.say(f"{folder.name}: best epoch {fitted.best_epoch}, {dict(fitted.metrics)}")
    return fitted


def _record(folder: Path, kind: str) -> dict[str, Any]:
    record = files.read_json_object(folder / RECORD_NAME)
    if record is None or not (folder / WEIGHTS_NAME).is_file():
        raise UsageError(f"{folder}: holds no trained {kind}")
    if record["kind"] != kind:
        raise UsageError(f"{folder}: holds a trained {record['kind']}, wanted is a {kind}")
    return record


def _require(*some: PatchSet) -> None:
    if any(not crops.rows for crops in some):
        raise UsageError("training needs pairs of patients in both splits train and val")

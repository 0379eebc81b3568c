"""One training of the nodule network: through the shared trainer, with a record of what was trained on whom.

Belongs here: from cases and a configuration to trained weights, and opening them. Does not: the loop
(`learning.training.trainer`), which patients are in a part (`folds`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from lightning.fabric import Fabric

from ct_assets import files, progress
from ct_assets.learning.training import checkpoints, control, state, tracking
from ct_assets.learning.training.trainer import Trainer, seed_everything
from ct_assets.settings.nodules import NoduleConfig
from ct_assets.systems.nodules.network import NoduleNetwork
from ct_assets.systems.nodules.network_detector import Decoding, NetworkDetector
from ct_assets.systems.nodules.patches import NoduleCase, Windows
from ct_assets.systems.nodules.task import NoduleTask
from ct_assets.systems.nodules.volumes import StoredImage

RESULT_NAME = "result.json"
PATIENTS_NAME = "patients.json"


@dataclass(frozen=True)
class Trained:
    """What a training left."""

    weights: Path
    weights_sha256: str
    epochs: int
    best_epoch: int
    metrics: dict[str, float]
    """Of the best epoch, on the inner validation scans."""


def train(
    config: NoduleConfig,
    training: Sequence[NoduleCase],
    validation: Sequence[NoduleCase],
    folder: Path,
    *,
    tracker: tracking.Tracker | None = None,
) -> Trained:
    """Train on some scans, choose the epoch by others. A complete training returns at once, a killed one goes on.

    Raises `TrainingPaused` once everything is saved where a pause was asked for.
    """
    identity = identity_of(config, training, validation)
    done = _finished(folder, identity)
    if done is not None:
        progress.say(f"{folder.name}: is trained already")
        return done
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder / ".training.lock")):
        _record_patients(folder, training, validation)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        seed_everything(config.seed)
        heard = control.Control(folder)
        with heard.listening():
            fitted = Trainer(
                task_of(config, training, validation),
                config,
                model_dir=folder,
                identity=identity,
                fabric=Fabric(accelerator=config.accelerator, devices=1, precision=config.precision),
                control=heard,
                state=state.StateWriter(folder),
                tracker=tracker or tracking.Tracker(),
            ).fit()
        if fitted.status == "paused":
            raise control.TrainingPaused(f"{folder.name}: paused; launch it again to go on")
        result = {
            "identity": identity,
            "weights_sha256": fitted.weights_sha256,
            "epochs": fitted.epochs,
            "best_epoch": fitted.best_epoch,
            "metrics": dict(fitted.metrics),
        }
        files.write_json(folder / RESULT_NAME, result)
    return _trained(folder, result)


def task_of(
    config: NoduleConfig, training: Sequence[NoduleCase], validation: Sequence[NoduleCase]
) -> NoduleTask:
    """Return the task of the shared trainer."""
    sampling, inference = config.sampling, config.inference
    windows = Windows(
        training,
        sampling.patch_size,
        windows=sampling.windows,
        positive_share=sampling.positive_share,
        seed=config.seed,
        augment=sampling.augment,
    )
    return NoduleTask(
        NoduleNetwork(config.widths),
        windows,
        validation,
        decoding=decoding_of(config),
        overlap=inference.overlap,
    )


def decoding_of(config: NoduleConfig) -> Decoding:
    """Return how peaks become marks."""
    return Decoding(config.inference.least_heat, config.inference.apart_mm)


def identity_of(
    config: NoduleConfig, training: Sequence[NoduleCase], validation: Sequence[NoduleCase]
) -> dict[str, str]:
    """Return the digests that tell two trainings apart; checkpoints carry them."""
    return {
        "config_digest": config.digest,
        "training_digest": files.digest_of([_described(case) for case in training]),
        "validation_digest": files.digest_of([_described(case) for case in validation]),
    }


def _described(case: NoduleCase) -> list[object]:
    stored = [image.key if isinstance(image, StoredImage) else "" for image in (case.image, case.mask)]
    return [case.scan, *stored, case.centres_lps.tolist(), repr(case.diameters_mm.tolist())]


def open_detector(config: NoduleConfig, weights: Path) -> NetworkDetector:
    """Return trained weights as a detector, in eval mode, on what is at hand."""
    network = NoduleNetwork(config.widths)
    network.load_state_dict(checkpoints.load_weights(weights)[0])
    wants_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    return NetworkDetector(
        network.eval().to("cuda" if wants_gpu else "cpu"),
        config.sampling.patch_size,
        spacing_mm=config.spacing_mm,
        overlap=config.inference.overlap,
        mode=config.inference.mode,
        decoding=decoding_of(config),
    )


def _record_patients(folder: Path, training: Sequence[NoduleCase], validation: Sequence[NoduleCase]) -> None:
    """Write who was in the training, by pseudonym, so that a model which learned from somebody is known."""
    parts = {"train": training, "validation": validation}
    files.write_json(
        folder / PATIENTS_NAME,
        {role: sorted({case.patient or case.scan for case in cases}) for role, cases in parts.items()},
    )


def _finished(folder: Path, identity: dict[str, str]) -> Trained | None:
    content = files.read_json_object(folder / RESULT_NAME)
    weights = folder / checkpoints.WEIGHTS_NAME
    if content is None or content["identity"] != identity or not weights.exists():
        return None
    if files.sha256_file(weights) != content["weights_sha256"]:
        return None
    return _trained(folder, content)


def _trained(folder: Path, content: dict[str, object]) -> Trained:
    fields = {name: content[name] for name in ("weights_sha256", "epochs", "best_epoch", "metrics")}
    return Trained(folder / checkpoints.WEIGHTS_NAME, **fields)  # type: ignore[arg-type]

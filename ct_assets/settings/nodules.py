"""Settings of nodule detection: one training configuration, and the platform's `nodules:`.

Belongs here: what a person may choose. Does not: rules that are fixed (LUNA16's, the triage score).
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from ct_assets import files
from ct_assets.settings.base import Section
from ct_assets.settings.training import OptimizerSettings, TrainingStage

NoduleMetric = Literal["cpm", "sensitivity_at_1", "marks_per_scan", "centre_error_mm"]
"""What a validation measures: see `ct_assets.systems.nodules.task`."""


class NoduleSampling(Section):
    """Which windows a step sees."""

    patch_size: tuple[int, int, int] = (96, 96, 96)
    """Window (k, j, i) in voxels; multiples of 8."""
    windows: int = Field(default=16, ge=1)
    """Windows of a volume; a step sees one volume's."""
    positive_share: float = Field(default=0.5, ge=0, le=1)
    """Share of windows at a nodule, where the volume has one."""
    augment: bool = True
    """Random flips, small rotations and scalings, intensity changes."""
    workers: int = Field(default=0, ge=0)
    """Loader processes; results do not depend on them."""

    @model_validator(mode="after")
    def _sides_fit_the_network(self) -> Self:
        if any(side < 16 or side % 8 for side in self.patch_size):
            raise ValueError(f"patch_size: sides must be multiples of 8 from 16 on, got {self.patch_size}")
        return self


class NoduleValidation(Section):
    """Validation on whole scans of the inner validation patients; no held-out scan is among them."""

    every_epochs: int = Field(default=1, ge=1)
    """Epochs between two validations; the last epoch is always validated."""
    monitor: NoduleMetric = "cpm"
    """What decides which epoch is best."""
    keep_best: int = Field(default=1, ge=1)
    """How many of the best checkpoints stay."""
    early_stopping: NoduleMetric | None = None
    """The metric that ends a training, or none."""
    patience: int = Field(default=20, ge=1)
    """Validations without a better value before the training ends."""
    min_delta: float = Field(default=0.0, ge=0)
    """What counts as better."""
    inner_share: float = Field(default=0.2, gt=0, lt=0.5)
    """Share of a fold's training patients that validate: they choose epoch, calibration and operating point."""


class NoduleInference(Section):
    """From maps to marks."""

    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a window that its neighbour sees too."""
    mode: Literal["uniform", "linear", "gaussian"] = "gaussian"
    """How overlapping windows are weighted."""
    least_heat: float = Field(default=0.05, gt=0, lt=1)
    """Lower peaks are no marks."""
    apart_mm: float = Field(default=5.0, ge=0)
    """Of two peaks nearer than this the higher remains."""
    false_marks_per_scan: float = Field(default=1.0, gt=0)
    """The operating point: the least score with at most so many false marks a validation scan."""
    calibration: Literal["temperature", "isotonic", "none"] = "temperature"
    """How scores become probabilities; fitted on the inner validation scans."""


class NoduleConfig(Section):
    """One training configuration of the nodule network."""

    seed: int = Field(default=0, ge=0)
    """Everything random follows from it."""
    spacing_mm: float = Field(default=1.0, ge=0.5, le=4)
    """Isotropic voxels of the network."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Channels of the four levels."""
    sampling: NoduleSampling = NoduleSampling()
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-3)
    stages: tuple[TrainingStage, ...] = (TrainingStage(epochs=100),)
    """The phases of the training, in order."""
    steps_per_epoch: int | None = Field(default=None, ge=1)
    """Steps of an epoch; by default as many as there are training scans."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Moving average of the weights, validated and kept instead of them."""
    validation: NoduleValidation = NoduleValidation()
    inference: NoduleInference = NoduleInference()
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Arithmetic; 16-mixed needs a GPU."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to train."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; a fixed number makes CPU results reproducible across machines."""

    @property
    def epochs(self) -> int:
        """Epochs of all phases."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def digest(self) -> str:
        """Identifies what is trained: everything but the number of loader processes."""
        content = self.model_dump(mode="json")
        content["sampling"].pop("workers")
        return files.digest_of(content)


class NoduleSettings(Section):
    """Nodule detection in the graph (`nodules:`)."""

    images: Path | None = None
    """A folder of DICOM CT series; by default `nodules/raw/images` under the data root."""
    annotations: Path | None = None
    """A folder of LIDC-IDRI read messages (XML) of those series; by default `nodules/raw/annotations`."""
    folds: int = Field(default=10, ge=2, le=50)
    """Folds of the cross-validation; LUNA16 has ten."""
    config: NoduleConfig = NoduleConfig()
    """The training configuration."""
    baseline_spacing_mm: float = Field(default=1.0, ge=0.5, le=4)
    """Voxels of the classical detector."""
    bootstrap_samples: int = Field(default=1000, ge=100)
    """Resamples behind each interval."""

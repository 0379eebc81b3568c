"""Settings of brain CT classification: one training configuration, one run, and the platform's `brain:`.

Belongs here: what a person may choose. `BrainConfig` is what a configuration JSON may override and what a
grid's candidates differ in; `RunOptions` are the options of `ct-assets brain run`; `BrainSettings` adds what
the graph needs besides.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.settings.base import Section

WindowScheme = Literal["brain", "brain_thirds", "brain_subdural_bone", "brain_blood_bone", "brain_adjacent"]
"""Channels of a prepared slice: names of `imaging.windows`, or the brain window of three adjacent slices."""
Aggregation = Literal["max", "noisy_or", "attention"]
GroupBy = Literal["patient", "study", "file"]
ThresholdStrategy = Literal["max_f1", "sens_target"]

LAYERS = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc")
"""The parts of a ResNet18 that have parameters, from input to output."""


class BrainConfig(Section):
    """One training configuration; a JSON with some of these keys overrides the rest (`--config-json`)."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Optimizer of both stages."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    nesterov: bool = True
    """Of SGD."""
    lr_head: float = Field(default=3e-3, gt=0)
    """Rate of the first stage, which trains the head alone."""
    lr_ft: float = Field(default=1.5e-4, gt=0)
    """Rate of the second stage, which fine-tunes."""
    weight_decay_head: float = Field(default=5e-5, ge=0)
    """Weight decay of the first stage."""
    weight_decay_ft: float = Field(default=7e-4, ge=0)
    """Weight decay of the second stage."""
    epochs_head: int = Field(default=12, ge=0)
    """Most epochs of the first stage; 0 leaves it out."""
    epochs_ft: int = Field(default=12, ge=0)
    """Most epochs of the second stage; 0 leaves it out."""
    patience_head: int = Field(default=2, ge=0)
    """The first stage ends after this many epochs without a better `val_auprc`, and one more."""
    patience_ft: int = Field(default=2, ge=0)
    """The second stage likewise."""
    dropout_p: float = Field(default=0.3, ge=0, lt=1)
    """Dropout before the last layer."""
    ft_trainable_attrs: tuple[str, ...] | None = None
    """Parts that the second stage trains (of conv1, bn1, layer1 ... layer4, fc); null trains all."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Labels become s/2 and 1 - s/2."""
    use_cosine_schedule: bool = False
    """The rate falls along a cosine, a stage at a time."""
    grad_clip: float | None = Field(default=1.0, gt=0)
    """Largest gradient norm; null clips nothing."""
    amp: bool = True
    """Mixed precision on CUDA; never on a CPU."""
    windows: WindowScheme = "brain"
    """What the channels show."""
    skull_percentile: float = Field(default=98.0, gt=0, lt=100)
    """Pixels above this percentile of a slice are skull; their bounding box is kept."""
    crop_pad: int = Field(default=0, ge=0)
    """Pixels kept around that box."""
    rotation_deg: float = Field(default=15.0, ge=0, le=180)
    """Training slices are rotated by up to this."""
    shift_share: float = Field(default=0.05, ge=0, lt=1)
    """And shifted by up to this share of the side."""
    scale_range: tuple[float, float] = (0.9, 1.1)
    """And scaled between these."""
    flip_p: float = Field(default=0.5, ge=0, le=1)
    """Chance of a horizontal flip."""
    blur_p: float = Field(default=0.0, ge=0, le=1)
    """Chance of a Gaussian blur of 0.1 to 1.5 pixels."""
    erasing_p: float = Field(default=0.0, ge=0, le=1)
    """Chance that a rectangle of 2 to 15 % of the slice is erased."""
    pretrained: Path | None = None
    """A local file of ImageNet weights (122 tensors as torchvision names them); null starts from random ones."""
    pretrained_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Refuse any other file."""
    aggregation: Aggregation = "max"
    """How the slices of a study become one probability."""
    group_by: GroupBy = "patient"
    """What never crosses splits: all of a patient (and study), of a study, or each file alone."""
    expected_num_dicoms: int | None = Field(default=None, ge=1)
    """Refuse a folder with another number of DICOM files; null does not count."""

    @field_validator("pretrained", mode="before")
    @classmethod
    def _false_is_none(cls, value: object) -> object:
        """`"pretrained": false` says the same as null."""
        return None if value is False else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.scale_range
        if not 0 < low <= high:
            raise ValueError(f"scale_range must ascend from above 0, got {low} and {high}")
        if self.epochs_head + self.epochs_ft < 1:
            raise ValueError("epochs_head and epochs_ft are both 0: nothing would be trained")
        if self.ft_trainable_attrs is not None:
            unknown = sorted(set(self.ft_trainable_attrs) - set(LAYERS))
            if unknown or not self.ft_trainable_attrs:
                raise ValueError(f"ft_trainable_attrs: {unknown or 'empty'}; parts are {', '.join(LAYERS)}")
        if self.pretrained is None and self.pretrained_sha256 is not None:
            raise ValueError("pretrained_sha256 without pretrained: name the file of weights")
        return self

    @property
    def digest(self) -> str:
        """Identifies what is trained, wherever the weights' file lies."""
        content = self.model_dump(mode="json", exclude={"pretrained", "aggregation", "expected_num_dicoms"})
        if self.pretrained is not None:
            content["pretrained"] = (
                files.sha256_file(self.pretrained) if self.pretrained.is_file() else "missing"
            )
        return files.digest_of(content)

    def resolved_against(self, folder: Path) -> "BrainConfig":
        """Return the configuration with the path of the weights absolute against `folder`."""
        if self.pretrained is None or self.pretrained.is_absolute():
            return self
        return self.model_copy(update={"pretrained": (folder / self.pretrained).resolve()})

    def preparation(self) -> dict[str, Any]:
        """Return what decides how a slice is prepared, for the key of prepared slices."""
        return self.model_dump(mode="json", include={"windows", "skull_percentile", "crop_pad"})

    def overridden(self, changes: dict[str, Any], source: str) -> "BrainConfig":
        """Return the configuration with `changes`. Raises `UsageError` naming each wrong or unknown key."""
        unknown = sorted(set(changes) - set(BrainConfig.model_fields))
        if unknown:
            known = ", ".join(BrainConfig.model_fields)
            raise UsageError(f"{source}: unknown keys {', '.join(unknown)}; known are {known}")
        try:
            return BrainConfig.model_validate(self.model_dump() | changes)
        except ValidationError as error:
            told = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'configuration'}: {problem['msg']}"
                for problem in error.errors()
            )
            raise UsageError(f"{source}: {told}") from None


class RunOptions(Section):
    """The options of one run; names and defaults are those of `ct-assets brain run`."""

    labels: str = "labels1.csv"
    """The label table's file name inside the data root."""
    cts: str = "CTs"
    """The folder of DICOM files inside the data root."""
    seed: int = Field(default=42, ge=0)
    """Splits, initial weights, samples and augmentations follow from it."""
    test_size: float = Field(default=0.15, gt=0, lt=1)
    """Share set apart for the one test."""
    k_folds: int = Field(default=5, ge=2, le=50)
    """Folds of the cross-validation."""
    batch_size: int = Field(default=64, ge=1)
    """Slices of a training step."""
    num_workers: int = Field(default=4, ge=0)
    """Processes that read DICOM and load batches; results do not depend on them."""
    out_size: int = Field(default=256, ge=32, le=1024)
    """Side of the prepared slice in pixels."""
    holdout_frac: float = Field(default=0.10, gt=0, lt=0.5)
    """Share of the training set that ends the final training early; it is never trained on."""
    prep_plot_n: int = Field(default=5, ge=1)
    """Examples of each label in the pictures of the preparation."""
    threshold_strategy: ThresholdStrategy = "sens_target"
    """How the threshold follows from the cross-validation."""
    sens_target: float = Field(default=0.70, gt=0, le=1)
    """Least mean sensitivity of `sens_target`."""


class BrainSettings(RunOptions):
    """Brain CT classification in the graph (`brain:`)."""

    source: Literal["folder", "batches"] = "folder"
    """A folder of single slices with a label table, or the head CT of the platform's own batches."""
    data_dir: Path | None = None
    """The folder of `source: folder`; by default `brain/raw` under the data root."""
    label_column: str = "brain_label"
    """`source: batches`: the kept column of the clinic's table (`labels.keep`) with the values 0 and 1."""
    body_parts: tuple[str, ...] = ("HEAD", "BRAIN", "SKULL")
    """`source: batches`: BodyPartExamined (0018,0015) of the series that are taken."""
    config: BrainConfig = BrainConfig()
    """The configuration `default`; candidates differ from it."""
    candidates: dict[str, dict[str, Any]] | None = None
    """Named candidates of the grid, each with the keys it changes; null takes the ten that are shipped."""
    registered_name: str = Field(default="brain", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """The name under which versions of the final model are registered."""
    bootstrap_samples: int = Field(default=1000, ge=100)
    """Patient-level resamples behind each interval."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Level of the intervals."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; a fixed number makes CPU results equal across machines."""

    @model_validator(mode="after")
    def _candidates_are_configurations(self) -> Self:
        for name, changes in (self.candidates or {}).items():
            if name == DEFAULT or not name.replace("_", "").isalnum():
                raise ValueError(f"candidates: {name!r} is no name for a candidate (letters, digits and _)")
            try:
                self.config.overridden(changes, f"candidates.{name}")
            except UsageError as error:
                raise ValueError(str(error)) from None
        return self


DEFAULT = "default"
"""The configuration that is no candidate of the grid."""

CANDIDATES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "slower_fine_tuning": {"lr_ft": 5e-5},
    "faster_fine_tuning": {"lr_ft": 3e-4},
    "strong_decay": {"weight_decay_ft": 5e-3},
    "more_dropout": {"dropout_p": 0.5},
    "upper_layers": {"ft_trainable_attrs": ["layer3", "layer4", "fc"]},
    "top_layer": {"ft_trainable_attrs": ["layer4", "fc"], "lr_ft": 3e-4},
    "smooth_cosine": {"label_smoothing": 0.05, "use_cosine_schedule": True, "patience_ft": 3},
    "three_bands": {"windows": "brain_thirds"},
    "sgd_momentum": {"optimizer": "sgd", "lr_head": 1e-2, "lr_ft": 1e-3},
}
"""The shipped grid: one question a candidate, each against `baseline`."""


def configurations(settings: BrainSettings) -> dict[str, BrainConfig]:
    """Return every configuration of the graph by name: `default` and the candidates."""
    candidates = CANDIDATES if settings.candidates is None else settings.candidates
    named = {name: settings.config.overridden(changes, name) for name, changes in candidates.items()}
    return {DEFAULT: settings.config, **named}

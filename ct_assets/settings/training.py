"""Settings of one training: network, losses, stages, tracking names, evaluation (`configs/train/`).

Belongs here: what a person may choose about a training. Which data it sees follows from the fold's plan and
volumes; where it writes, from the layout. The digest of these settings identifies a training.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from ct_assets import files
from ct_assets.settings.base import Section

MetricName = Literal["loss", "dice", "stage_loss", "stage_balanced_accuracy", "combined"]
"""What a validation measures: see `ct_assets.learning.training.lung_task`."""


class SwinUnetrSettings(Section):
    """The Swin-UNETR (Hatamizadeh 2022, arXiv:2201.01266); published weights fit the defaults."""

    kind: Literal["swin_unetr"] = "swin_unetr"
    feature_size: int = Field(default=48, ge=12, multiple_of=12)
    """Channels of the first level; the published weights have 48."""
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Transformer blocks in each of the four levels."""
    num_heads: tuple[int, int, int, int] = (3, 6, 12, 24)
    """Attention heads in each level; each divides the channels of its level."""
    window_size: int = Field(default=7, ge=2)
    """Side of the attention windows in tokens; the published weights have 7."""
    norm: Literal["instance", "group", "batch"] = "instance"
    """Normalisation in the convolutional part; instance needs a bottleneck of more than one voxel."""
    use_v2: bool = False
    """A residual convolution before each level (SwinUNETR-V2); published weights leave it random."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Drop rate of features."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Stochastic depth."""
    gradient_checkpointing: bool = False
    """Less memory for more time."""


class UNetSettings(Section):
    """A U-Net of two convolutions a level, for machines without a GPU and as a plain reference."""

    kind: Literal["unet"] = "unet"
    channels: tuple[int, ...] = Field(default=(16, 32, 64, 128), min_length=2)
    """Channels of each level; every level after the first halves the resolution."""
    norm: Literal["instance", "group", "batch"] = "instance"
    """Normalisation after each convolution."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Drop rate after convolutions."""


class StageHeadSettings(Section):
    """The head that tells a patient's stage from features of several windows."""

    pooling: Literal["mean", "attention"] = "attention"
    """How the windows of a patient become one vector (gated attention: Ilse 2018, arXiv:1802.04712)."""
    kind: Literal["nominal", "ordinal"] = "nominal"
    """Classes without order (softmax), or in the order of the vocabulary (proportional odds)."""
    hidden: int = Field(default=64, ge=1)
    """Width of the hidden layer."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Drop rate before the last layer."""
    use_tumour_volume: bool = True
    """Also show the head the tumour volume that the mask head sees in each window (without gradient)."""


class LossSettings(Section):
    """Losses of mask and stage and their weights."""

    mask: Literal["dice_ce", "dice_focal"] = "dice_ce"
    """Dice with cross-entropy, or with focal loss."""
    mask_weight: float = Field(default=1.0, ge=0)
    """Weight of the mask's loss where weights are fixed."""
    stage_weight: float = Field(default=0.3, ge=0)
    """Weight of the stage's loss where weights are fixed; 0 trains no stage."""
    weighting: Literal["fixed", "uncertainty"] = "fixed"
    """Fixed weights, or learned by homoscedastic uncertainty (Kendall 2018, arXiv:1705.07115)."""
    balance_stages: bool = True
    """Weigh classes by the inverse of their frequency among the training patients."""
    deep_supervision: bool = False
    """Also a mask loss at coarser levels, each with half the weight of the finer one."""


class LoadingSettings(Section):
    """How batches are loaded."""

    workers: int = Field(default=0, ge=0)
    """Loader processes; results do not depend on them."""


class SamplingSettings(LoadingSettings):
    """Which windows a step sees."""

    patients_per_step: int = Field(default=1, ge=1)
    """Patients in a step; gradient accumulation multiplies it."""
    windows_per_patient: int = Field(default=2, ge=1)
    """Windows drawn of each patient; the stage head pools over them."""
    foreground_share: float = Field(default=0.5, ge=0, le=1)
    """Share of windows centred in tumour; at least one window of each patient with a mask, if above 0."""
    patch_size: tuple[int, int, int] | None = None
    """Window (k, j, i) in voxels; by default the plan's."""
    augment: bool = True
    """Random flips, small rotations and scalings, intensity changes."""


class OptimizerSettings(Section):
    """AdamW or SGD, and the course of the learning rate."""

    kind: Literal["adamw", "sgd"] = "adamw"
    """Optimizer."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of a stage that names none."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """Decoupled for AdamW; never on biases and normalisation."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """Of SGD; the default is nnU-Net's (Isensee 2021)."""
    nesterov: bool = True
    """Of SGD with momentum."""
    schedule: Literal["cosine", "polynomial", "constant"] = "cosine"
    """Course after the warm-up, a stage at a time."""
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of a stage's steps in which the rate rises linearly."""
    final_share: float = Field(default=0.01, ge=0, le=1)
    """Where the course ends, as a share of the peak."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest gradient norm; none clips nothing."""
    accumulate: int = Field(default=1, ge=1)
    """Batches a step."""


def _is_unset(value: object) -> bool:
    """Tell whether a setting that came later has its default: it is then left out of what is written and digested."""
    return value is None or value is False


class TrainingStage(Section):
    """One phase of a training: so many epochs with some modules frozen."""

    name: str = Field(default="all", pattern=r"^[a-z0-9_]{1,32}$")
    """The stage's name in logs and curves."""
    epochs: int = Field(ge=1)
    """Epochs of this stage."""
    freeze: tuple[str, ...] = ()
    """Modules kept as they are, by glob on their names (`network.backbone.*`); frozen BatchNorm stays in eval."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate of this stage."""
    optimizer: OptimizerSettings | None = Field(default=None, exclude_if=_is_unset)
    """The optimizer of this phase; by default the training's."""
    patience: int | None = Field(default=None, ge=1, exclude_if=_is_unset)
    """Validations without a better value of the monitored metric that end this phase; the next one begins."""
    restart_from_best: bool = Field(default=False, exclude_if=_is_unset)
    """Begin with the weights of the best epoch so far instead of those of the last."""


class MonitorSettings(Section):
    """How a training is validated; metrics are named as the system's task measures them."""

    every_epochs: int = Field(default=1, ge=1)
    """Epochs between two validations; the last epoch is always validated."""
    monitor: str = "loss"
    """What decides which epoch is best."""
    keep_best: int = Field(default=1, ge=1)
    """How many of the best checkpoints stay."""
    early_stopping: str | None = None
    """The metric that ends a training, or none."""
    patience: int = Field(default=20, ge=1)
    """Validations without a better value before the training ends."""
    min_delta: float = Field(default=0.0, ge=0)
    """What counts as better."""


class ValidationSettings(MonitorSettings):
    """Validation by sliding window over whole volumes."""

    monitor: MetricName = "dice"
    """What decides which epoch is best."""
    early_stopping: MetricName | None = None
    """The metric that ends a training, or none."""
    max_patients: int | None = Field(default=None, ge=1)
    """Validate on so many patients only (always the same ones)."""


class InferenceSettings(Section):
    """Sliding-window inference."""

    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a window that its neighbour sees too."""
    windows_at_once: int = Field(default=4, ge=1)
    """Windows in one forward pass."""
    mirror: bool = False
    """Average over the patient mirrored left to right."""
    min_component_ml: float = Field(default=0.0, ge=0)
    """Predicted components below this volume are dropped."""


class PretrainedSettings(Section):
    """Weights to start from: a local file."""

    path: Path
    """`.safetensors` of our own, or a published `.pt`/`.pth`; read without unpickling objects."""
    layout: Literal["auto", "swin_ssl", "swin_dae", "swin_unetr", "own"] = "auto"
    """How the file names its tensors; by default recognised."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Refuse any other file."""
    min_share: float = Field(default=0.9, gt=0, le=1)
    """Least share of the backbone's (for encoder files: the encoder's) values that must be filled."""
    accept_other_convention: bool = False
    """Train although the plan's spacing or intensity differs from what the weights saw."""


class ReportSettings(Section):
    """How predictions are evaluated, whichever system made them."""

    bootstrap_samples: int = Field(default=1000, ge=100)
    """Patient-level resamples behind each interval."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Level of the intervals."""

    @property
    def digest(self) -> str:
        """Identifies how predictions are evaluated."""
        return files.digest_of(self.model_dump(mode="json"))


class EvaluationSettings(ReportSettings):
    """How predictions of tumour mask and stage are evaluated."""

    nsd_tolerance_mm: float = Field(default=2.0, gt=0)
    """Tolerance of the normalised surface distance."""
    calibration: Literal["temperature", "isotonic", "none"] = "temperature"
    """How stage probabilities are calibrated on out-of-fold predictions."""
    target_sensitivity: float | None = Field(default=None, gt=0, lt=1)
    """Operating points reach this sensitivity with the best PPV; without it, maximal F1."""
    ece_bins: int = Field(default=10, ge=2)
    """Bins of the expected calibration error."""
    lesion_size_ml: tuple[float, ...] = (3.0, 30.0)
    """Borders of the strata by tumour volume."""


class ModelSettings(Section):
    """What becomes of the folds."""

    kind: Literal["fold_ensemble", "single"] = "fold_ensemble"
    """The mean of the folds' models, or one model of all training patients."""
    registered_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """The name under which versions are registered; by default the system's."""


class FinalModelSettings(ModelSettings):
    """What becomes of the folds of the lung system."""

    registered_name: str = Field(default="lung", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """The name under which versions are registered."""


class ExperimentConfig(Section):
    """What the training configuration of every system has; a system's own is a subclass with its own sections."""

    experiment: str = Field(default="default", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """The experiment's name where a command names none."""
    seed: int = Field(default=0, ge=0)
    """Everything random follows from it."""
    optimizer: OptimizerSettings = OptimizerSettings()
    stages: tuple[TrainingStage, ...] = (TrainingStage(epochs=100),)
    """The stages of the training, in order."""
    steps_per_epoch: int | None = Field(default=None, ge=1)
    """Steps of an epoch; by default as many as see each training patient once."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Moving average of the weights, validated and kept instead of them."""
    validation: MonitorSettings = MonitorSettings()
    sampling: LoadingSettings = LoadingSettings()
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Arithmetic; 16-mixed needs a GPU."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to train."""
    devices: int = Field(default=1, ge=1)
    """GPUs of one training (data parallel)."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; a fixed number makes CPU results reproducible across machines."""
    system_metrics: bool = True
    """Log load and memory of the machine to the tracking server."""
    evaluation: ReportSettings = ReportSettings()
    final: ModelSettings = ModelSettings()

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names) or not names:
            raise ValueError("stages: at least one, and each needs a name of its own")
        for stage in self.stages:
            if stage.optimizer is not None and stage.optimizer.accumulate != self.optimizer.accumulate:
                raise ValueError(f"stages: {stage.name}: optimizer.accumulate is that of the whole training")
        return self

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def data_set(self) -> str | None:
        """The smaller set of the cohort that is trained on; None for all of it."""
        return None

    @property
    def digest(self) -> str:
        """Identifies what is trained: everything but the number of loader processes and tracking options."""
        content = self.model_dump(mode="json", exclude=_OUTSIDE_OF_TRAINING)
        content["sampling"].pop("workers")
        return files.digest_of(content)


_OUTSIDE_OF_TRAINING = {"experiment", "system_metrics", "evaluation", "final"}


class TrainingConfig(ExperimentConfig):
    """One training configuration of the lung system (`configs/train/*.yaml`)."""

    experiment: str = Field(default="lung", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """The experiment's name where a command names none."""
    derived_set: str | None = None
    """Train on this smaller set instead of the folds' full volumes."""
    network: SwinUnetrSettings | UNetSettings = Field(default=SwinUnetrSettings(), discriminator="kind")
    """The network's body and mask head."""
    stage_head: StageHeadSettings | None = StageHeadSettings()
    """The stage head; none trains a mask alone."""
    losses: LossSettings = LossSettings()
    sampling: SamplingSettings = SamplingSettings()
    validation: ValidationSettings = ValidationSettings()
    inference: InferenceSettings = InferenceSettings()
    pretrained: PretrainedSettings | None = None
    channels_last: bool = False
    """Memory format that GPUs like, and small networks on CPUs (with two windows or more at once)."""
    evaluation: EvaluationSettings = EvaluationSettings()
    final: FinalModelSettings = FinalModelSettings()

    @model_validator(mode="after")
    def _metric_is_measured(self) -> Self:
        if self.stage_head is None and self.validation.monitor.startswith("stage"):
            raise ValueError(f"validation.monitor: {self.validation.monitor} needs a stage_head")
        return self

    @property
    def data_set(self) -> str | None:
        """The smaller set of the cohort that is trained on; None for all of it."""
        return self.derived_set

    @property
    def digest(self) -> str:
        """Identifies what is trained: everything but the number of loader processes and tracking options."""
        content = self.model_dump(mode="json", exclude=_OUTSIDE_OF_TRAINING)
        content["sampling"].pop("workers")
        if self.pretrained is not None:  # its content counts, not where the file lies
            content["pretrained"].pop("path")
        return files.digest_of(content)

    def resolved_against(self, folder: Path) -> "TrainingConfig":
        """Return the configuration with the path of pre-trained weights absolute against `folder`."""
        if self.pretrained is None or self.pretrained.path.is_absolute():
            return self
        moved = self.pretrained.model_copy(update={"path": (folder / self.pretrained.path).resolve()})
        return self.model_copy(update={"pretrained": moved})

    def with_weights_digest(self) -> "TrainingConfig":
        """Return the configuration with the SHA-256 of the pre-trained weights that are there now."""
        weights = self.pretrained
        if weights is None or weights.sha256 is not None or not weights.path.is_file():
            return self
        digested = weights.model_copy(update={"sha256": files.sha256_file(weights.path)})
        return self.model_copy(update={"pretrained": digested})


def load_training_config(path: Path) -> TrainingConfig:
    """Read a training configuration. Raises `UsageError` naming file, key, value and allowed values."""
    from ct_assets.settings.load import read_section

    return read_section(path, TrainingConfig).resolved_against(path.resolve().parent).with_weights_digest()

"""Settings of longitudinal nodules: crops, the autoencoder, the flow models, and their training.

Belongs here: what a person may choose about an experiment (`models/longitudinal/<experiment>/experiment.json` keeps it).
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from ct_assets import files
from ct_assets.settings.base import Section
from ct_assets.settings.training import OptimizerSettings, TrainingStage

Shape = tuple[int, int, int]
NetworkKind = Literal["small", "monai"]


class PatchSettings(Section):
    """Crops of nodules in the space of a patient's first exam."""

    shape: Shape = (32, 128, 128)
    """Slices, rows, columns."""
    spacing_mm: tuple[float, float, float] = (0.703125, 0.703125, 2.5)
    """Steps along x, y, z."""
    mode: Literal["common", "centred"] = "common"
    """One place for both exams, so that registration stays visible; or each around its own box."""
    rows_first: bool = True
    """`coords` of the tracking table is row, column, slice; false: column, row, slice."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if min(self.shape) < 4 or min(self.spacing_mm) <= 0:
            raise ValueError(f"patches need sides of at least 4 voxels and positive steps, got {self.shape}")
        return self


class LoadingSettings(Section):
    """How batches are loaded."""

    workers: int = Field(default=0, ge=0)
    """Loader processes; results do not depend on them."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs (or crops) a step."""
    flip: bool = True
    """Mirror along each axis at random, both exams alike."""


class LongitudinalValidation(Section):
    """When a model is validated, and which epoch is kept."""

    every_epochs: int = Field(default=1, ge=1)
    """Epochs between two validations."""
    monitor: str = "loss"
    """The metric that decides which epoch is best."""
    keep_best: int = Field(default=1, ge=1)
    """How many of the best checkpoints stay."""
    early_stopping: str | None = None
    """The metric that ends a training, or none."""
    patience: int = Field(default=20, ge=1)
    """Validations without a better value before the training ends."""
    min_delta: float = Field(default=0.0, ge=0)
    """What counts as better."""


class GenerativeTraining(Section):
    """What the trainings of autoencoder and flow have in common."""

    seed: int = 0
    """Everything random follows from it."""
    optimizer: OptimizerSettings = OptimizerSettings(
        learning_rate=5e-4, warmup_share=0.1, final_share=0.04, clip_norm=1.0
    )
    """AdamW with 10 % warm-up, a cosine down to a twenty-fifth, and clipping."""
    stages: tuple[TrainingStage, ...] = (TrainingStage(epochs=100),)
    """Training phases."""
    steps_per_epoch: int | None = Field(default=None, ge=1)
    """Steps of an epoch; by default one pass over the training examples."""
    ema_decay: float | None = Field(default=0.999, gt=0, lt=1)
    """Moving average of the weights, with which a model is validated and used."""
    validation: LongitudinalValidation = LongitudinalValidation()
    """Validation."""
    sampling: LoadingSettings = LoadingSettings()
    """Loading."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Arithmetic; `bf16-mixed` on a GPU."""
    window: str = "triage"
    """Window of the registry that is mapped to -1 … 1."""

    @property
    def epochs(self) -> int:
        """Epochs of all phases."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def digest(self) -> str:
        """Identifies the configuration."""
        return files.digest_of(self.model_dump(mode="json"))


class AutoencoderConfig(GenerativeTraining):
    """A 3-D variational autoencoder on crops (`small`, for CPUs) or MONAI's `AutoencoderKL`."""

    network: NetworkKind = "small"
    """Which network."""
    channels: tuple[int, ...] = Field(default=(16, 32), min_length=1)
    """Channels of each level; every level after the first halves the resolution."""
    latent_channels: int = Field(default=4, ge=1)
    """Channels of a latent."""
    latent_noise: float = Field(default=0.025, ge=0)
    """Standard deviation of the noise on latents in training (`small`: fixed; `monai`: learned)."""
    kl_weight: float = Field(default=0.0, ge=0)
    """Weight of the Kullback-Leibler term; 0 as in the published set-up."""
    most_volume_error: float = Field(default=0.1, gt=0)
    """Gate: most median error of the nodule's volume after reconstruction, as a share."""
    least_psnr_db: float = Field(default=25.0, gt=0)
    """Gate: least mean PSNR in the nodule's region, over -1000 … 400 HU."""


class FlowConfig(GenerativeTraining):
    """A flow model: from the earlier exam to the later one (`paired`), or from noise to nodules (`unconditional`)."""

    kind: Literal["paired", "unconditional"] = "paired"
    """`paired` never couples; `unconditional` couples a batch by optimal transport."""
    space: Literal["patches", "latents"] = "patches"
    """Flow of crops, or of latents of an autoencoder that passed its gate."""
    network: NetworkKind = "small"
    """A small U-Net for CPUs, or MONAI's `DiffusionModelUNet`."""
    channels: tuple[int, ...] = Field(default=(32, 64, 128), min_length=1)
    """Channels of each level; every level after the first halves the resolution."""
    embedding: int = Field(default=64, ge=8, multiple_of=2)
    """Width of the embeddings of flow time and interval."""
    sigma: float = Field(default=0.0, ge=0)
    """Noise on the path."""
    region_weight: float = Field(default=4.0, ge=1)
    """Weight of the loss in the union of both boxes, against 1 elsewhere."""
    region_margin: int = Field(default=8, ge=0)
    """Voxels that the region is widened by in plane."""
    method: Literal["euler", "heun", "rk4"] = "heun"
    """Sampler."""
    steps: int = Field(default=5, ge=1)
    """Steps of the sampler."""
    pretrained: str | None = None
    """Name of an unconditional experiment to start from."""


class CohortInputs(Section):
    """What comes from outside: tables of exams and nodules, and images."""

    exams: Path | None = None
    """Exam table: CSV, parquet or pickle; without one the group has nothing to do."""
    tracking: Path | None = None
    """Nodule tracking table."""
    bad_exams: Path | None = None
    """Exams known to be bad."""
    policy: Literal["exam", "patient"] = "exam"
    """Leave out the bad exam, or its patient."""
    images: Path | None = None
    """Folder that `nifti_path` of the exam table is relative to."""


class LongitudinalSettings(Section):
    """Longitudinal nodules (`longitudinal:`)."""

    inputs: CohortInputs = CohortInputs()
    """Tables and images from outside."""
    experiment: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """Name of the experiment: its folder below `longitudinal/models`."""
    patches: PatchSettings = PatchSettings()
    """Crops."""
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    """Autoencoder."""
    flow: FlowConfig = FlowConfig()
    """Flow model."""

    def resolved_against(self, folder: Path) -> Self:
        """Return the settings with every relative path made absolute against `folder`."""
        paths = {
            name: (folder / path).resolve()
            for name in ("exams", "tracking", "bad_exams", "images")
            if (path := getattr(self.inputs, name)) is not None
        }
        return self.model_copy(update={"inputs": self.inputs.model_copy(update=paths)})

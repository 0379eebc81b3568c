"""Interface of a training task: what the training loop asks of a system.

A `Task` has a module whose forward is the loss of one training step, batches by position, metrics with their
direction, and a validation. Classification, segmentation, detection and generative tasks need nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor, nn

from ct_assets.settings.training import OptimizerSettings, TrainingStage

if TYPE_CHECKING:
    import polars as pl

Batch = dict[str, Any]
Direction = Literal["min", "max"]
"""Whether a lower or a higher value of a metric is better."""


class LoopValidation(Protocol):
    """How a training is validated; metrics are named as the task measures them."""

    @property
    def every_epochs(self) -> int:
        """Epochs between two validations."""

    @property
    def monitor(self) -> str:
        """What decides which epoch is best."""

    @property
    def keep_best(self) -> int:
        """How many of the best checkpoints stay."""

    @property
    def early_stopping(self) -> str | None:
        """The metric that ends a training, or none."""

    @property
    def patience(self) -> int:
        """Validations without a better value before the training ends."""

    @property
    def min_delta(self) -> float:
        """What counts as better."""


class LoopLoading(Protocol):
    """How batches are loaded."""

    @property
    def workers(self) -> int:
        """Loader processes."""


class LoopConfig(Protocol):
    """What the loop itself reads of a system's training configuration."""

    @property
    def seed(self) -> int:
        """Everything random follows from it."""

    @property
    def optimizer(self) -> OptimizerSettings:
        """Optimizer and the course of its rate."""

    @property
    def stages(self) -> Sequence[TrainingStage]:
        """The training phases, in order."""

    @property
    def epochs(self) -> int:
        """Epochs of all phases, where none ends early."""

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of an epoch; by default as many as the task has batches."""

    @property
    def ema_decay(self) -> float | None:
        """Moving average of the weights."""

    @property
    def validation(self) -> LoopValidation:
        """Validation and early stopping."""

    @property
    def sampling(self) -> LoopLoading:
        """Loading."""

    @property
    def precision(self) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
        """Arithmetic."""


class PretrainedReport(Protocol):
    """What pre-trained weights filled."""

    @property
    def sha256(self) -> str:
        """Of the file."""

    def line(self) -> str:
        """Return one line for people."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return the report as JSON values."""


class Batches(Protocol):
    """Training batches as a function of their position, so that a resumed training sees the same ones."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def __getitem__(self, position: int) -> Batch:
        """Return the batch at an absolute position (it counts on over epochs); same position, same batch."""


@dataclass(frozen=True)
class Part:
    """Parameters with an optimizer and a loss of their own (a generator and its critic)."""

    parameters: tuple[str, ...]
    """Globs on parameter names; the parts of a task share none."""
    optimizer: OptimizerSettings | None = None
    """By default the phase's. `accumulate` and the course of the rate are always the phase's."""


@dataclass(frozen=True)
class Validation:
    """What a validation measured."""

    metrics: Mapping[str, float]
    """Values of the metrics that the task declares; what could not be measured is absent."""
    tables: Mapping[str, "pl.DataFrame"] = field(default_factory=dict)
    """Tables by name, kept of the best epoch as `validation/<name>.parquet` (candidates, pairs)."""
    images: Mapping[str, bytes] = field(default_factory=dict)
    """PNG pictures by name, kept of the best epoch as `validation/<name>.png`; sent to no tracking server."""


class Task(ABC):
    """What is trained: all that the loop asks of a system."""

    module: nn.Module
    """Everything trainable, learned loss weights included. Forward: batch -> (loss, named parts); with several
    `parts`, (batch, name of the part) -> the same of that part."""
    batches: Batches
    """The training's batches."""
    metrics: Mapping[str, Direction]
    """Every metric that a validation may measure, and whether lower (`min`) or higher (`max`) is better."""
    parts: Mapping[str, Part] = MappingProxyType({})
    """Optimizers by name, stepped in this order on the same batch; by default one for everything trainable."""

    @abstractmethod
    def validate(self, rank: int, ranks: int) -> Sequence[Any]:
        """Measure this rank's share (every n-th example) in eval mode without gradients; return plain rows.

        The loop gathers the rows of all ranks for `summarise`.
        """

    @abstractmethod
    def summarise(self, rows: Sequence[Any]) -> Validation:
        """Return the validation over the rows of all ranks, in whatever order they come."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return what inference needs of the module."""

"""The seam between the trainer and what is trained.

A system (lung, and later 2-D, detection, generative ones) brings a `Task`: a module whose forward is one
training step's loss, batches by position, and a validation. The trainer knows nothing else about it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from ct_assets.settings.training import OptimizerSettings, TrainingStage

Batch = dict[str, Any]


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
        """The stages, in order."""

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""

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


class Batches(Protocol):
    """Training batches as a function of their position, so that a resumed training sees the same ones."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def __getitem__(self, position: int) -> Batch:
        """Return the batch at an absolute position (it counts on over epochs); same position, same batch."""


class Task(Protocol):
    """What is trained."""

    @property
    def module(self) -> nn.Module:
        """Everything trainable, learned loss weights included. Forward: batch -> (loss, named parts)."""

    @property
    def batches(self) -> Batches:
        """The training's batches."""

    def validate(self, rank: int, ranks: int) -> Mapping[str, float]:
        """Measure the module in eval mode without gradients; each rank its share, the result for all."""

    def weights(self) -> dict[str, Tensor]:
        """Return what inference needs of the module."""

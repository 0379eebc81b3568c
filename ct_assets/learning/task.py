"""The seam between the trainer and what is trained.

A system (lung, and later 2-D, detection, generative ones) brings a `Task`: a module whose forward is one
training step's loss, batches by position, and a validation. The trainer knows nothing else about it.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

Batch = dict[str, Any]


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

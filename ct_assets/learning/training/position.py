"""How far a training is and how it ended: the values that a checkpoint keeps besides weights and random states.

Belongs here: the two value objects of the loop. Does not: the loop (`learning.training.trainer`).
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor


@dataclass(frozen=True)
class FitResult:
    """How a fit ended."""

    status: Literal["finished", "stopped", "paused"]
    epochs: int
    """Epochs done."""
    best_epoch: int
    """The epoch (counted from 1) whose weights are kept as the best."""
    metrics: dict[str, float]
    """Validation metrics of the best epoch."""
    weights_sha256: str


@dataclass
class Position:
    """How far the training is; with the random states all that a resume needs besides weights."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs wholly done, validation included."""
    stage_index: int = 0
    stage_start: int = -1
    """Epochs done when the present phase began; -1 in checkpoints from before phases could end early."""
    loss_sums: dict[str, Tensor] = field(default_factory=dict)
    """Sums over the steps of the unfinished epoch; tensors, so that a resumed sum has the same bits."""
    curves: list[dict[str, Any]] = field(default_factory=list)
    """A row an epoch, as in `metrics.jsonl`."""
    best: list[dict[str, float]] = field(default_factory=list)
    """Epochs kept: epoch and monitored value, best first."""
    best_metrics: dict[str, float] = field(default_factory=dict)
    last_metrics: dict[str, float] = field(default_factory=dict)
    stopping_best: float | None = None
    stopping_waited: int = 0

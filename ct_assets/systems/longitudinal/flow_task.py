"""Flow models as tasks of the shared trainer: paired from exam to exam, or unconditional from noise.

Belongs here: module, batches, validation, and prediction by a trained field. Does not: the loop
(`learning.training.trainer`), paths and solvers (`learning.flow`, `learning.ode`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ct_assets.learning import flow, ode
from ct_assets.learning.training.task import Direction, Task, Validation
from ct_assets.settings.longitudinal import FlowConfig
from ct_assets.systems.longitudinal.networks import VelocityField

Row = dict[str, Any]
Floats32 = npt.NDArray[np.float32]
AT_ONCE = 64
"""Crops in one forward pass of a prediction."""


@dataclass(frozen=True)
class Examples:
    """What a model is trained or validated on: data of both exams (patches or latents) and what belongs to a pair."""

    earlier: Floats32
    """(pairs, channels, slices, rows, columns)."""
    later: Floats32
    days: Floats32
    regions: Floats32
    """Weight of the loss, (pairs, 1, slices, rows, columns)."""

    def __len__(self) -> int:
        return len(self.days)


class PairBatches:
    """Batches by absolute position: each epoch sees every pair once, mirrored at random."""

    def __init__(self, examples: Examples, config: FlowConfig) -> None:
        self.examples, self.config = examples, config
        self.size = min(config.sampling.batch_size, len(examples))

    def __len__(self) -> int:
        return max(1, len(self.examples) // self.size)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """Return the batch at a position: both exams, interval, weights, and a seed for path and noise."""
        epoch, place = divmod(position, len(self))
        order = np.random.default_rng([self.config.seed, epoch, 31]).permutation(len(self.examples))
        chosen = order[place * self.size : (place + 1) * self.size]
        rng = np.random.default_rng([self.config.seed, position, 37])
        parts = [
            array[chosen] for array in (self.examples.earlier, self.examples.later, self.examples.regions)
        ]
        if self.config.sampling.flip:
            for axis in (2, 3, 4):
                mirrored = rng.random(len(chosen)) < 0.5
                for part in parts:
                    part[mirrored] = np.flip(part[mirrored], axis)
        earlier, later, regions = (torch.from_numpy(part) for part in parts)
        return {
            "earlier": earlier,
            "later": later,
            "regions": regions,
            "days": torch.from_numpy(self.examples.days[chosen]),
            "t": torch.from_numpy(rng.random(len(chosen), dtype=np.float32)),
            "noise": torch.from_numpy(rng.standard_normal(earlier.shape, dtype=np.float32)),
        }


class FlowModule(nn.Module):
    """Field and loss: a batch in, loss and parts out."""

    def __init__(self, field: VelocityField, config: FlowConfig) -> None:
        super().__init__()
        self.field, self.config = field, config

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a step."""
        return self.loss(batch), {}

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted mean squared error of the velocity.

        Paired data are never coupled: which later crop belongs to an earlier one is known. Noise is, within the batch.
        """
        later, t = batch["later"], batch["t"]
        if self.config.kind == "paired":
            start, condition, days = batch["earlier"], batch["earlier"], batch["days"]
        else:
            start = batch["noise"]
            later = later[flow.couple(start, later)]
            condition, days = torch.zeros_like(later), torch.zeros_like(batch["days"])
        point, velocity = flow.path(start, later, t)
        if self.config.sigma > 0 and self.config.kind == "paired":
            point = point + self.config.sigma * batch["noise"]
        weight = batch["regions"] if self.config.kind == "paired" else None
        return flow.velocity_loss(self.field(point, t, condition, days), velocity, weight)


class FlowTask(Task):
    """Trains a field on pairs and validates it by the loss on other patients, at fixed flow times."""

    metrics: Mapping[str, Direction] = {"loss": "min", "change_error": "min"}

    def __init__(
        self, field: VelocityField, training: Examples, validation: Examples, config: FlowConfig
    ) -> None:
        self.field = field
        self.steps = FlowModule(field, config)
        self.module = self.steps
        self.batches = PairBatches(training, config)
        self.validation, self.config = validation, config

    def validate(self, rank: int, ranks: int) -> list[tuple[float, float]]:
        """Return loss and error of the predicted change of each of this rank's pairs."""
        device = next(self.module.parameters()).device
        rows = []
        for number in range(rank, len(self.validation), ranks):
            rng = np.random.default_rng([self.config.seed, number, 41])
            one = slice(number, number + 1)
            batch = {
                name: torch.from_numpy(getattr(self.validation, name)[one]).to(device)
                for name in ("earlier", "later", "days", "regions")
            }
            noise = rng.standard_normal(batch["later"].shape, dtype=np.float32)
            batch |= {
                "t": torch.full((1,), (number % 10 + 0.5) / 10).to(device),
                "noise": torch.from_numpy(noise).to(device),
            }
            with torch.no_grad():
                loss = float(self.steps.loss(batch))
                error = 0.0
                if self.config.kind == "paired":
                    made = sample(self.field, batch["earlier"], batch["days"], self.config)
                    weight = batch["regions"].expand_as(made)
                    error = float((weight * (made - batch["later"]).abs()).sum() / weight.sum())
            rows.append((loss, error))
        return rows

    def summarise(self, rows: Sequence[Any]) -> Validation:
        """Return the means over all pairs."""
        loss, error = np.mean(np.array(rows, np.float64), axis=0)
        metrics = {"loss": float(loss)}
        if self.config.kind == "paired":
            metrics["change_error"] = float(error)
        return Validation(metrics)

    def weights(self) -> dict[str, Tensor]:
        """Return the field's weights."""
        return dict(self.field.state_dict())


def sample(field: VelocityField, earlier: Tensor, days: Tensor, config: FlowConfig) -> Tensor:
    """Carry earlier data (batch, …) over an interval in days (batch,); the interval reaches every evaluation."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        velocities: Tensor = field(x, t, earlier, days)
        return velocities

    return ode.integrate(velocity, earlier, config.steps, config.method)


def generate(field: VelocityField, noise: Tensor, config: FlowConfig) -> Tensor:
    """Carry noise (batch, …) to data by an unconditional field."""
    nothing, no_days = torch.zeros_like(noise), torch.zeros(len(noise), device=noise.device)
    return ode.integrate(lambda x, t: field(x, t, nothing, no_days), noise, config.steps, config.method)


def predict(field: VelocityField, earlier: Floats32, days: npt.ArrayLike, config: FlowConfig) -> Floats32:
    """Return predicted data of earlier data (n, channels, slices, rows, columns) after intervals in days (n,)."""
    device = next(field.parameters()).device
    intervals = np.asarray(days, np.float32)
    field.eval()
    made = []
    with torch.no_grad():
        for first in range(0, len(earlier), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            x = torch.from_numpy(np.ascontiguousarray(earlier[part])).to(device)
            made.append(sample(field, x, torch.from_numpy(intervals[part]).to(device), config).cpu().numpy())
    return np.concatenate(made) if made else np.empty_like(earlier)


def regions(
    boxes_a: Sequence[Sequence[int]],
    boxes_b: Sequence[Sequence[int]],
    shape: tuple[int, int, int],
    config: FlowConfig,
) -> Floats32:
    """Return loss weights (pairs, 1, slices, rows, columns): the union of both boxes, widened in plane, weighs more."""
    weights = np.ones((len(boxes_a), 1, *shape), np.float32)
    margin = config.region_margin
    for number, (first, second) in enumerate(zip(boxes_a, boxes_b, strict=True)):
        low = np.minimum(first[:3], second[:3])
        high = np.maximum(first[3:], second[3:])
        i, j, k = (
            slice(max(0, int(a) - widened), int(b) + widened + 1)
            for a, b, widened in zip(low, high, (margin, margin, 0), strict=True)
        )
        weights[number, 0, k, j, i] = config.region_weight
    return weights

"""Flow matching between two 2-D Gaussians: a check of matching, optimizer and sampler with a known answer.

Belongs here: the field, its training and the samples. The source distribution is the standard normal, the target has
`TARGET_MEAN` and `TARGET_COVARIANCE`.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ct_assets import files
from ct_assets.learning import flow, ode
from ct_assets.learning.training import optimizers, schedules
from ct_assets.settings.training import OptimizerSettings

TARGET_MEAN = (4.0, -2.0)
TARGET_COVARIANCE = ((1.5, 0.6), (0.6, 0.5))

STEPS = 2500
BATCH = 128
LEARNING_RATE = 4e-3
EMA_DECAY = 0.995
SAMPLES = 40_000
SAMPLER: tuple[int, ode.Method] = (20, "heun")


@dataclass(frozen=True)
class Toy:
    """What a run of the toy returns."""

    samples: np.ndarray
    """(n, 2), float32: the standard normal carried through the trained field."""
    seconds: float
    """Wall seconds of training and sampling."""
    steps: int
    """Optimizer steps."""


class VelocityField(nn.Module):
    """A small network of position (batch, 2) and flow time (batch,)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity, (batch, 2)."""
        return self.layers(torch.cat([x, t[:, None]], dim=1))


def run(seed: int = 0) -> Toy:
    """Train the field and sample from it; the same seed gives the same samples on one machine."""
    started = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # A network this small is slower on several, and results then depend on their number.
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            field = VelocityField()
        generator = torch.Generator().manual_seed(seed)
        average = _train(field, generator)
        with torch.no_grad(), average.swapped_in(field):
            samples = ode.integrate(field, torch.randn(SAMPLES, 2, generator=generator), *SAMPLER)
    finally:
        torch.set_num_threads(threads)
    return Toy(samples.numpy(), time.perf_counter() - started, STEPS)


def _train(field: VelocityField, generator: torch.Generator) -> optimizers.MovingAverage:
    factor = torch.linalg.cholesky(torch.tensor(TARGET_COVARIANCE))
    mean = torch.tensor(TARGET_MEAN)
    optimizer = optimizers.build(field, OptimizerSettings(weight_decay=0.0), LEARNING_RATE)
    average = optimizers.MovingAverage(field, EMA_DECAY)
    for step in range(STEPS):
        share = schedules.factor(step, STEPS, schedule="cosine", warmup_share=0.02, final_share=0.01)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * share
        x0 = torch.randn(BATCH, 2, generator=generator)
        x1 = mean + torch.randn(BATCH, 2, generator=generator) @ factor.T
        x1 = x1[flow.couple(x0, x1)]
        t = torch.rand(BATCH, generator=generator)
        xt, wanted = flow.path(x0, x1, t)
        optimizer.zero_grad(set_to_none=True)
        flow.velocity_loss(field(xt, t), wanted).backward()
        optimizer.step()
        average.update(field)
    return average


def write(folder: Path, seed: int = 0) -> Toy:
    """Run the toy and write `samples.npy` and `toy.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    toy = run(seed)
    with files.atomic_path(folder / "samples.npy") as path, path.open("wb") as stream:
        np.save(stream, toy.samples)
    files.write_json(
        folder / "toy.json",
        {
            "seconds": round(toy.seconds, 3),
            "steps": toy.steps,
            "samples": len(toy.samples),
            "mean": toy.samples.mean(axis=0, dtype=np.float64).tolist(),
            "covariance": np.cov(toy.samples.astype(np.float64).T).tolist(),
            "target_mean": list(TARGET_MEAN),
            "target_covariance": [list(row) for row in TARGET_COVARIANCE],
        },
    )
    return toy

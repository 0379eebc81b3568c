"""Two tasks of other kinds through the public interface of the loop: a detector of blobs, and flow matching.

They use `Task`, `Validation` and `Trainer` only; what they learn is checked against values worked out by hand.
"""

import math

import numpy as np
import polars as pl
import pytest
import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn import functional

from ct_assets.learning.training import checkpoints
from ct_assets.learning.training.control import Control
from ct_assets.learning.training.state import StateWriter
from ct_assets.learning.training.task import Task, Validation
from ct_assets.learning.training.tracking import Tracker
from ct_assets.learning.training.trainer import Trainer, seed_everything
from ct_assets.settings.training import OptimizerSettings, TrainingStage, ValidationSettings


class Loop:
    """All that the loop reads of a configuration; every system has a richer one."""

    def __init__(self, *, monitor, steps_per_epoch, phases, rate):
        self.seed, self.precision, self.ema_decay = 0, "32-true", None
        self.optimizer = OptimizerSettings(learning_rate=rate, schedule="cosine")
        self.stages, self.steps_per_epoch = tuple(TrainingStage(**phase) for phase in phases), steps_per_epoch
        self.validation = ValidationSettings.model_construct(
            every_epochs=1, monitor=monitor, keep_best=1, early_stopping=None, patience=20, min_delta=0.0
        )
        self.sampling = type("Loading", (), {"workers": 0})()

    @property
    def epochs(self):
        return sum(stage.epochs for stage in self.stages)


def fit(task, config, folder):
    folder.mkdir(exist_ok=True)
    return Trainer(
        task,
        config,
        model_dir=folder,
        identity={"task": type(task).__name__},
        fabric=Fabric(accelerator="cpu", devices=1),
        control=Control(folder),
        state=StateWriter(folder),
        tracker=Tracker(),
    ).fit()


# Detection: bright blobs on a noisy 2-D image, a heatmap of their centres, sensitivity at few false marks

SIDE = 24


def scene(seed):
    """Return an image of one to three blobs, the heatmap of their centres, and the centres."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(4, SIDE - 4, (rng.integers(1, 4), 2))
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1)
    blobs = [np.exp(-((grid - centre) ** 2).sum(-1) / 4.0) for centre in centres]
    return np.sum(blobs, 0) + rng.normal(0, 0.1, (SIDE, SIDE)), np.max(blobs, 0), centres


class DetectorModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 1, 5, padding=2))

    def forward(self, batch):
        loss = functional.mse_loss(self.network(batch["image"]), batch["heat"])
        return loss, {"heat": loss}


class Scenes:
    def __len__(self):
        return 8

    def __getitem__(self, position):
        drawn = [scene([1, position, number])[:2] for number in range(4)]
        stack = [
            torch.tensor(np.stack(part), dtype=torch.float32)[:, None] for part in zip(*drawn, strict=True)
        ]
        return {"image": stack[0], "heat": stack[1]}


class Detector(Task):
    metrics = {"sensitivity": "max", "false_marks": "min"}

    def __init__(self):
        seed_everything(3)
        self.module, self.batches = DetectorModule(), Scenes()

    def validate(self, rank, ranks):
        rows = []
        for number in range(rank, 8, ranks):
            image, _, centres = scene([2, number])
            heat = self.module.network(torch.tensor(image, dtype=torch.float32)[None, None])
            peaks = (heat == functional.max_pool2d(heat, 5, 1, 2)) & (heat > 0.5)
            marks = peaks[0, 0].nonzero().numpy()
            near = np.linalg.norm(marks[:, None] - centres[None], axis=-1) < 2
            rows.append((number, len(centres), int(near.any(0).sum()), int((~near.any(1)).sum())))
        return rows

    def summarise(self, rows):
        table = pl.DataFrame(sorted(rows), schema=["scene", "blobs", "hits", "false_marks"], orient="row")
        sensitivity = table["hits"].sum() / table["blobs"].sum()
        return Validation(
            {"sensitivity": sensitivity, "false_marks": table["false_marks"].mean()}, {"marks": table}
        )

    def weights(self):
        return self.module.network.state_dict()


def test_a_detector_learns_to_mark_blobs_and_its_candidates_are_kept(tmp_path):
    config = Loop(
        monitor="sensitivity",
        steps_per_epoch=20,
        rate=0.02,
        phases=[{"name": "all", "epochs": 6, "patience": 4}],
    )
    result = fit(Detector(), config, tmp_path / "detector")
    assert result.metrics["sensitivity"] >= 0.85
    assert result.metrics["false_marks"] <= 0.5
    marks = pl.read_parquet(tmp_path / "detector/validation/marks.parquet")
    assert marks["hits"].sum() / marks["blobs"].sum() == pytest.approx(result.metrics["sensitivity"])


# Generation: flow matching from N(0, I) to N(mean, covariance) in the plane

MEAN, FACTOR = torch.tensor([4.0, -2.0]), torch.tensor([[1.2, 0.0], [0.5, 0.5]])


def draw(seed, number):
    generator = torch.Generator().manual_seed(seed)
    x0, x1 = (torch.randn(number, 2, generator=generator) for _ in range(2))
    return x0, MEAN + x1 @ FACTOR.T, torch.rand(number, 1, generator=generator)


class FlowModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.field = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 2))

    def forward(self, batch):
        x0, x1, t = batch["x0"], batch["x1"], batch["t"]
        velocity = self.field(torch.cat([(1 - t) * x0 + t * x1, t], 1))
        return functional.mse_loss(velocity, x1 - x0), {}


class Pairs:
    def __len__(self):
        return 50

    def __getitem__(self, position):
        return dict(zip(("x0", "x1", "t"), draw(position + 1, 256), strict=True))


class FlowMatching(Task):
    """`mean_error` is the distance of the generated mean from the target's: lower is better."""

    metrics = {"mean_error": "min", "covariance_error": "min"}

    def __init__(self):
        seed_everything(5)
        self.module, self.batches = FlowModule(), Pairs()

    def validate(self, rank, ranks):
        x, steps = draw(0, 2000)[0][rank::ranks], 20
        for step in range(steps):
            t = torch.full((len(x), 1), (step + 0.5) / steps)
            half = x + self.module.field(torch.cat([x, t - 0.5 / steps], 1)) / (2 * steps)
            x = x + self.module.field(torch.cat([half, t], 1)) / steps
        return x.tolist()

    def summarise(self, rows):
        samples = torch.tensor(sorted(rows))
        covariance = torch.cov(samples.T) - FACTOR @ FACTOR.T
        return Validation(
            {
                "mean_error": float((samples.mean(0) - MEAN).norm()),
                "covariance_error": float(covariance.norm()),
            }
        )

    def weights(self):
        return self.module.field.state_dict()


def test_flow_matching_carries_one_gaussian_to_another_and_keeps_the_epoch_of_least_error(tmp_path):
    phases = [
        {"name": "coarse", "epochs": 3},
        {"name": "fine", "epochs": 3, "restart_from_best": True, "learning_rate": 2e-3},
    ]
    result = fit(
        FlowMatching(), Loop(monitor="mean_error", steps_per_epoch=50, phases=phases, rate=2e-2), tmp_path
    )
    rows = checkpoints.load(tmp_path / checkpoints.LAST_NAME)["position"]["curves"]
    errors = [row["val_mean_error"] for row in rows]
    assert result.metrics["mean_error"] == min(errors) < 0.25
    assert math.isclose(errors[result.best_epoch - 1], min(errors))
    assert result.metrics["covariance_error"] < 1.0

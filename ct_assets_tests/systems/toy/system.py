"""The toy system: one number a patient, classified by logistic regression."""

import numpy as np
import polars as pl
import torch
from torch import nn

from ct_assets.learning.system import FINAL, TEST, Examples, System
from ct_assets.learning.training import checkpoints
from ct_assets.learning.training.task import Task, Validation
from ct_assets.settings.training import ExperimentConfig, MonitorSettings, OptimizerSettings, TrainingStage


class ToyConfig(ExperimentConfig):
    """A training of a second."""

    experiment: str = "toys"
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=0.3, weight_decay=0.0)
    stages: tuple[TrainingStage, ...] = (TrainingStage(epochs=5),)
    validation: MonitorSettings = MonitorSettings(monitor="accuracy")
    accelerator: str = "cpu"
    threads: int = 1
    system_metrics: bool = False


class ToyModule(nn.Module):
    """A line, and its logistic loss."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, batch):
        loss = nn.functional.binary_cross_entropy_with_logits(self.line(batch["x"]), batch["y"])
        return loss, {"loss": loss}


class ToyBatches:
    """All training examples in each of four batches an epoch."""

    def __init__(self, examples):
        self.table = examples.of("train").table

    def __len__(self):
        return 4

    def __getitem__(self, position):
        x, y = self.table["x"].to_numpy(), self.table["target"].to_numpy()
        return {
            "x": torch.tensor(x, dtype=torch.float32)[:, None],
            "y": torch.tensor(y, dtype=torch.float32)[:, None],
        }


class ToyTask(Task):
    """Validates by accuracy."""

    metrics = {"accuracy": "max"}

    def __init__(self, examples):
        torch.manual_seed(0)
        self.module, self.batches = ToyModule(), ToyBatches(examples)
        self.held = examples.of("validation").table

    def validate(self, rank, ranks):
        rows = self.held.select("x", "target").rows()[rank::ranks]
        return [((self.module.line(torch.tensor([[x]])).item() > 0) == bool(y)) for x, y in rows]

    def summarise(self, rows):
        return Validation({"accuracy": float(np.mean(rows))} if rows else {})

    def weights(self):
        return dict(self.module.line.state_dict())


class ToySystem(System[ToyConfig]):
    """Positive where the number is large."""

    name = "toy"
    config = ToyConfig
    title = "large numbers"
    intended_use = "Tests."
    limits = ("Knows one number.",)
    conventions = {"input": "a number", "prob": "probability that it is large"}

    def cohort(self, layout, settings, data_set):
        return pl.read_parquet(layout.root / "toy/cohort.parquet")

    def classes(self, settings):
        return ("small", "large")

    def examples(self, experiment, fold):
        rows = experiment.manifest.with_columns(example_id=pl.col("patient_id"))
        if fold == TEST:
            return Examples(rows.filter(pl.col("split") == "test").with_columns(role=pl.lit("test")))
        training = rows.filter(pl.col("split") == "train")
        held = pl.lit(False) if fold == FINAL else pl.col("fold") == int(fold)
        role = pl.when(held).then(pl.lit("validation")).otherwise(pl.lit("train"))
        return Examples(training.with_columns(role=role))

    def task(self, examples, config, classes):
        return ToyTask(examples)

    def payload(self, examples):
        return {"trained_on.txt": str(len(examples.patients("train"))).encode()}

    def predictor(self, model, device):
        lines = []
        for member in model.members:
            line = nn.Linear(1, 1)
            line.load_state_dict(checkpoints.load_weights(member.weights)[0])
            lines.append(line)

        def predict(examples, folder):
            x = torch.tensor(examples.table["x"].to_numpy(), dtype=torch.float32)[:, None]
            with torch.no_grad():
                mean = torch.stack([line(x).sigmoid()[:, 0] for line in lines]).mean(0)
            return examples.table.select("example_id", "patient_id").with_columns(
                prob=pl.Series(mean.double().numpy())
            )

        return predict

    def score(self, predictions, examples, config):
        return predictions.join(examples.table.select("example_id", "target"), on="example_id", how="inner")

    def decide(self, out_of_fold, config, classes):
        return {"threshold": float(out_of_fold.filter(pl.col("target") == 1)["prob"].min())}

    def figures(self, scores, decisions, config, classes):
        called = scores["prob"].to_numpy() >= decisions["threshold"]
        truth = scores["target"].to_numpy() == 1
        return {
            "sensitivity": float(called[truth].mean()),
            "specificity": float((~called)[~truth].mean()),
        }


SYSTEM = ToySystem()


def write_cohort(root, patients=12, tests=4, folds=3):
    """Write patients whose number is their class with one exception: patient 0 is small and has a large number."""
    total = patients + tests
    table = pl.DataFrame(
        {
            "patient_id": [f"P{number:02d}" for number in range(total)],
            "split": ["train" if number < patients else "test" for number in range(total)],
            "fold": [number % folds if number < patients else None for number in range(total)],
            "x": [2.0 if number == 0 or number % 2 else -2.0 for number in range(total)],
            "target": [number % 2 for number in range(total)],
        }
    )
    (root / "toy").mkdir(parents=True, exist_ok=True)
    table.write_parquet(root / "toy/cohort.parquet")
    return table

"""Out-of-fold predictions of any system: a fold's model on the examples that it was not trained on.

Belongs here: predicting a fold, and reading the predictions of all folds with each example predicted exactly once.
Does not: scores and reports (`learning.evaluation.report`).
"""

from pathlib import Path

import polars as pl
import torch

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.experiment import Experiment
from ct_assets.learning.system import Config, Examples, Member, Model, System
from ct_assets.learning.training import checkpoints
from ct_assets.learning.training.train import RESULT_NAME
from ct_assets.settings.training import ExperimentConfig

PREDICTIONS_NAME = "predictions.parquet"
RECORD_NAME = "predictions.json"
"""What the predictions are of: examples that give no row are predicted too."""
FILES_DIR = "predictions"


def member_of(
    system: System[Config],
    experiment: Experiment[Config],
    fold: str,
    examples: Examples,
    *,
    folder: Path | None = None,
    config: Config | None = None,
) -> Member:
    """Return a fold's trained network.

    Raises `UsageError` where the fold is not trained, or was trained on other examples or settings.
    """
    folder, config = folder or experiment.fold(fold), config or experiment.config
    result = files.read_json_object(folder / RESULT_NAME)
    if result is None:
        raise UsageError(
            f"experiment {experiment.name}, fold {fold}: is not trained to the end; launch its training"
        )
    if result["identity"] != system.identity(examples, config, experiment.classes):
        raise UsageError(
            f"stale_plan: experiment {experiment.name}, fold {fold}: the model was trained on other examples or "
            "settings; train it again under a new experiment name"
        )
    name = f"fold-{fold}" if folder == experiment.fold(fold) else folder.name
    return Member(name, folder / checkpoints.WEIGHTS_NAME, result["weights_sha256"], system.payload(examples))


def predict(system: System[Config], experiment: Experiment[Config], fold: str) -> pl.DataFrame:
    """Predict the fold's validation examples with its model; return and write the table.

    Files of single predictions lie in `predictions/` of the training's folder. Raises `UsageError` as `member_of`.
    """
    examples = system.examples(experiment, fold)
    member = member_of(system, experiment, fold, examples)
    folder = experiment.fold(fold)
    validated = examples.of("validation")
    model = Model(
        experiment.config,
        experiment.classes,
        (member,),
        member.weights_sha256,
        uses=system.uses(experiment),
    )
    table = system.predictor(model, device_of(experiment.config))(validated, folder / FILES_DIR)
    unknown = set(table[system.key]) - set(validated.table["example_id"])
    if unknown:
        raise ValueError(f"{system.name}: {len(unknown)} predictions are of no example of fold {fold}")
    with files.atomic_path(folder / PREDICTIONS_NAME) as partial:
        table.write_parquet(partial, compression="zstd")
    record = {
        "examples_digest": validated.digest,
        "examples": validated.table.height,
        "model": member.weights_sha256,
    }
    files.write_json(folder / RECORD_NAME, record)
    return table


def of_fold(
    system: System[Config], experiment: Experiment[Config], fold: str
) -> tuple[pl.DataFrame, Examples]:
    """Return a fold's predictions with the examples that they are of.

    Raises `UsageError` where the fold is not predicted, or is of other examples or weights now.
    """
    folder = experiment.fold(fold)
    record = files.read_json_object(folder / RECORD_NAME)
    validated = system.examples(experiment, fold).of("validation")
    result = files.read_json_object(folder / RESULT_NAME) or {}
    if record is None or not (folder / PREDICTIONS_NAME).exists():
        raise UsageError(
            f"experiment {experiment.name}: fold {fold} has no predictions yet; train and predict all folds"
        )
    if record["examples_digest"] != validated.digest or record["model"] != result.get("weights_sha256"):
        raise UsageError(
            f"experiment {experiment.name}: predictions of fold {fold} are stale; predict it again"
        )
    return pl.read_parquet(folder / PREDICTIONS_NAME), validated


def all_folds(
    system: System[Config], experiment: Experiment[Config]
) -> dict[str, tuple[pl.DataFrame, Examples]]:
    """Return predictions and examples of all folds.

    Raises `UsageError` naming an example that two folds validate.
    """
    parts = {fold: of_fold(system, experiment, fold) for fold in experiment.folds}
    if not parts:
        raise UsageError(f"experiment {experiment.name}: its cohort has no folds")
    seen: dict[str, str] = {}
    for fold, (_, examples) in parts.items():
        for example in examples.table["example_id"]:
            if example in seen:
                raise UsageError(
                    f"experiment {experiment.name}: {example} is validated by folds {seen[example]} and {fold}"
                )
            seen[example] = fold
    return parts


def device_of(config: ExperimentConfig) -> str:
    """Return where to predict: the configuration's accelerator, or what is at hand."""
    return "cuda" if config.accelerator != "cpu" and torch.cuda.is_available() else "cpu"

"""Training assets, launched by a person. Wiring only; the work is in `ct_assets.learning`."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from ct_assets import files, tables
from ct_assets.defs.engine.experiments import begin_experiment, open_experiment
from ct_assets.defs.engine.graph import TRAINING_POOL, asset_arguments
from ct_assets.defs.engine.partitions import split_key
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, link, picture, running
from ct_assets.errors import UsageError
from ct_assets.settings.training import TrainingConfig, load_training_config

if TYPE_CHECKING:
    from ct_assets.learning.experiment import Experiment
    from ct_assets.learning.system import Examples


class TrainingLaunch(dg.Config):
    """What a person may choose in the launchpad."""

    configuration: str | None = None
    """A training configuration file; by default the one the experiment began with, or the settings name."""


def fold_examples(experiment: "Experiment[TrainingConfig]", fold: str) -> "Examples":
    """Return what a fold of an experiment is trained on: the full set's volumes, or a smaller set's.

    Raises `UsageError` where the smaller set was never made.
    """
    from ct_assets.learning.training.lung_task import examples_of
    from ct_assets.learning.volumes.derived import FULL, source
    from ct_assets.learning.volumes.plan import Plan
    from ct_assets.tables.folds import FoldVolumes

    config = experiment.config
    found = source(experiment.layout.root, fold, config.derived_set or FULL)
    if not found.volumes.exists():
        what = f"derived set {config.derived_set}" if config.derived_set else f"fold {fold}"
        raise UsageError(f"{what}: its volumes are not there; materialize them before training on them")
    volumes = tables.read_table(found.volumes, FoldVolumes)
    return examples_of(fold, Plan.load(found.plan), volumes, found.store, experiment.classes)


@dg.asset(pool=TRAINING_POOL, **asset_arguments("fold_model"))
def fold_model(
    context: dg.AssetExecutionContext, config: TrainingLaunch, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The model of one fold: trained on its training patients, stopped and resumed at will, tracked in MLflow."""
    from ct_assets.learning.training.control import TrainingPaused
    from ct_assets.learning.training.lung_task import LungTraining
    from ct_assets.learning.training.train import train_fold

    experiment, fold = split_key(context.partition_key)
    layout = platform.layout
    recorder = Recorder(context, platform)
    with running(context):
        named = load_training_config(Path(config.configuration)) if config.configuration else None
        opened = begin_experiment(platform, experiment, named)
        examples = fold_examples(opened, fold)
        try:
            result = train_fold(
                LungTraining(), opened, fold=fold, examples=examples, tracking_uri=platform.tracking_uri
            )
        except TrainingPaused:
            raise dg.Failure(
                description=f"fold {fold} of {experiment} is paused with everything saved; launch it again to go on",
                allow_retries=False,
            ) from None
    return recorder.result(
        "fold_model",
        result.digest,
        {
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
            **{f"validation_{name}": value for name, value in result.metrics.items()},
            "curves": picture(
                platform, _curves(layout.fold_model(experiment, fold), fold), "training curves"
            ),
            "mlflow_run": result.run_id,
            "folder": link(platform, layout.fold_model(experiment, fold)),
        },
    )


@dg.asset(**asset_arguments("fold_predictions"))
def fold_predictions(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Out-of-fold predictions: the fold's validation patients, in the space of the original images."""
    from ct_assets.learning.evaluation.predict_fold import predict

    experiment, fold = split_key(context.partition_key)
    layout = platform.layout
    recorder = Recorder(context, platform)
    with running(context):
        opened = open_experiment(platform, experiment)
        predictions = predict(opened, fold=fold, examples=fold_examples(opened, fold))
    return recorder.result(
        "fold_predictions",
        files.digest_of(predictions.to_dicts()),
        {"patients": predictions.height, "folder": link(platform, layout.fold_model(experiment, fold))},
    )


def _curves(folder: Path, fold: str) -> bytes:
    """Draw the curves of one fold's training."""
    from ct_assets.learning.training.trainer import CURVES_NAME
    from ct_assets.reports import figures

    return figures.curves({fold: files.read_jsonl(folder / CURVES_NAME)}, stacked=True)

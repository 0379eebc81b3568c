"""Training assets, launched by a person. Wiring only; the work is in `ct_assets.learning`."""

from pathlib import Path

import dagster as dg

from ct_assets import files
from ct_assets.defs.folds import read_manifest
from ct_assets.defs.graph import TRAINING_POOL, asset_arguments
from ct_assets.defs.partitions import split_key
from ct_assets.defs.platform import Platform
from ct_assets.defs.stage import Recorder, link, running
from ct_assets.errors import UsageError
from ct_assets.settings.training import TrainingConfig, load_training_config


class TrainingLaunch(dg.Config):
    """What a person may choose in the launchpad."""

    configuration: str | None = None
    """A training configuration file; by default the one the experiment began with, or the settings name."""


def settle_experiment(platform: Platform, experiment: str, config: TrainingConfig | None) -> TrainingConfig:
    """Return the training configuration of an experiment; its first training writes it down.

    Raises `UsageError` where `config` trains something else than what the experiment began with: results of
    one experiment must compare like with like.
    """
    record = platform.layout.experiment(experiment) / "configuration.json"
    if record.exists():
        recorded = TrainingConfig.model_validate(files.read_json(record))
        if config is not None and config.digest != recorded.digest:
            raise UsageError(
                f"experiment {experiment} began with another training configuration; "
                "name a new experiment (--experiment NAME) for this one"
            )
        return recorded if config is None else config
    chosen = config or load_training_config(platform.settings.training)
    files.write_json(record, chosen.model_dump(mode="json"))
    return chosen


@dg.asset(pool=TRAINING_POOL, **asset_arguments("fold_model"))
def fold_model(
    context: dg.AssetExecutionContext, config: TrainingLaunch, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The model of one fold: trained on its training patients, stopped and resumed at will, tracked in MLflow."""
    from ct_assets import tables
    from ct_assets.learning.plan import Plan
    from ct_assets.learning.train import train_fold
    from ct_assets.tables.folds import FoldVolumes

    experiment, fold = split_key(context.partition_key)
    layout = platform.layout
    recorder = Recorder(context, platform)
    with running(context):
        named = load_training_config(Path(config.configuration)) if config.configuration else None
        training = settle_experiment(platform, experiment, named)
        result = train_fold(
            training,
            experiment=experiment,
            fold=fold,
            plan=Plan.load(layout.plan(fold)),
            volumes=tables.read_table(layout.fold_volumes(fold), FoldVolumes),
            manifest=read_manifest(platform),
            layout=layout,
            tracking_uri=platform.tracking_uri,
            stages=platform.settings.labels.stages,
        )
    return recorder.result(
        "fold_model",
        result.digest,
        {
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
            **{f"validation_{name}": value for name, value in result.metrics.items()},
            "mlflow_run": result.run_id,
            "folder": link(platform, layout.fold_model(experiment, fold)),
        },
    )


@dg.asset(**asset_arguments("fold_predictions"))
def fold_predictions(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Out-of-fold predictions: the fold's validation patients, in the space of the original images."""
    from ct_assets import tables
    from ct_assets.learning.plan import Plan
    from ct_assets.learning.predict_fold import predict
    from ct_assets.tables.folds import FoldVolumes

    experiment, fold = split_key(context.partition_key)
    layout = platform.layout
    recorder = Recorder(context, platform)
    with running(context):
        training = settle_experiment(platform, experiment, None)
        predictions = predict(
            training,
            experiment=experiment,
            fold=fold,
            plan=Plan.load(layout.plan(fold)),
            volumes=tables.read_table(layout.fold_volumes(fold), FoldVolumes),
            manifest=read_manifest(platform),
            layout=layout,
            stages=platform.settings.labels.stages,
        )
    return recorder.result(
        "fold_predictions",
        files.digest_of(predictions.to_dicts()),
        {"patients": predictions.height, "folder": link(platform, layout.fold_model(experiment, fold))},
    )

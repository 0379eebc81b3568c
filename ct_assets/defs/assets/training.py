"""Training assets, launched by a person. Wiring only; the work is in `ct_assets.learning`."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from ct_assets import files, tables
from ct_assets.defs.assets.folds import read_manifest
from ct_assets.defs.engine.graph import TRAINING_POOL, asset_arguments
from ct_assets.defs.engine.partitions import fold_names, split_key
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, link, picture, running
from ct_assets.errors import UsageError
from ct_assets.settings.training import TrainingConfig, load_training_config

if TYPE_CHECKING:
    from ct_assets.learning.volumes.plan import Plan


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


def fold_data(platform: Platform, fold: str, config: TrainingConfig) -> "tuple[Plan, pl.DataFrame, Path]":
    """Return plan, volumes and store that an experiment trains on: the full set's, or a smaller set's.

    Raises `UsageError` where the smaller set was never made.
    """
    from ct_assets.learning.volumes.derived import FULL, source
    from ct_assets.learning.volumes.plan import Plan
    from ct_assets.tables.folds import FoldVolumes

    found = source(platform.layout.root, fold, config.derived_set or FULL)
    if not found.volumes.exists():
        what = f"derived set {config.derived_set}" if config.derived_set else f"fold {fold}"
        raise UsageError(f"{what}: its volumes are not there; materialize them before training on them")
    return Plan.load(found.plan), tables.read_table(found.volumes, FoldVolumes), found.store


def experiment_set(platform: Platform, experiment: str) -> str | None:
    """Return the smaller set that an experiment trains on; None for the full set, also before it has begun."""
    record = platform.layout.experiment(experiment) / "configuration.json"
    return files.read_json(record)["derived_set"] if record.exists() else None


def experiment_manifest(platform: Platform, config: TrainingConfig) -> pl.DataFrame:
    """Return the manifest's rows that an experiment is about: all, or its smaller set's and the test's."""
    return manifest_of_set(platform, config.derived_set)


def manifest_of_set(platform: Platform, derived_set: str | None) -> pl.DataFrame:
    """Return the manifest's rows: all, or those of a smaller set and of the test."""
    from ct_assets.learning.volumes.derived import source
    from ct_assets.tables.folds import FoldVolumes

    manifest = read_manifest(platform)
    if derived_set is None:
        return manifest
    folds = fold_names(platform.settings)
    drawn: set[str] = set()
    for fold in folds:
        volumes = source(platform.layout.root, fold, derived_set).volumes
        if volumes.exists():
            drawn |= set(tables.read_table(volumes, FoldVolumes)["case_id"])
    return manifest.filter(pl.col("case_id").is_in(sorted(drawn)) | (pl.col("split") == "test"))


@dg.asset(pool=TRAINING_POOL, **asset_arguments("fold_model"))
def fold_model(
    context: dg.AssetExecutionContext, config: TrainingLaunch, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The model of one fold: trained on its training patients, stopped and resumed at will, tracked in MLflow."""
    from ct_assets.learning.training.control import TrainingPaused
    from ct_assets.learning.training.train import train_fold

    experiment, fold = split_key(context.partition_key)
    layout = platform.layout
    recorder = Recorder(context, platform)
    with running(context):
        named = load_training_config(Path(config.configuration)) if config.configuration else None
        training = settle_experiment(platform, experiment, named)
        plan, volumes, store = fold_data(platform, fold, training)
        try:
            result = train_fold(
                training,
                experiment=experiment,
                fold=fold,
                plan=plan,
                volumes=volumes,
                store_dir=store,
                manifest=experiment_manifest(platform, training),
                layout=layout,
                tracking_uri=platform.tracking_uri,
                stages=platform.settings.labels.stages,
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
        training = settle_experiment(platform, experiment, None)
        plan, volumes, _ = fold_data(platform, fold, training)
        predictions = predict(
            training,
            experiment=experiment,
            fold=fold,
            plan=plan,
            volumes=volumes,
            manifest=experiment_manifest(platform, training),
            layout=layout,
            stages=platform.settings.labels.stages,
        )
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

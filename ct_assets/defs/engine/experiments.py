"""Experiments of a platform: begun by a launch, opened by every asset that stands behind a training.

Belongs here: which rows of the manifest an experiment is about, and the settings that it is verified against. The
record itself is `ct_assets.learning.experiment`.
"""

from typing import TYPE_CHECKING

import polars as pl

from ct_assets import tables
from ct_assets.defs.engine.partitions import fold_names
from ct_assets.defs.engine.platform import Platform
from ct_assets.errors import UsageError
from ct_assets.settings.training import TrainingConfig, load_training_config

if TYPE_CHECKING:
    from ct_assets.learning.experiment import Experiment


def begin_experiment(
    platform: Platform, name: str, config: TrainingConfig | None
) -> "Experiment[TrainingConfig]":
    """Begin an experiment, or open it, with `config` in force where one is given.

    Without one, the configuration that it began with, or that the settings name. Raises `UsageError` naming what
    differs from what the experiment was begun with.
    """
    from ct_assets.learning.experiment import Experiment, read_record

    if config is None:
        if read_record(platform.layout.experiment(name)) is not None:
            return open_experiment(platform, name)
        config = load_training_config(platform.settings.training)
    refuse_name(platform, name, config)
    return Experiment.begin(
        name,
        config,
        manifest=manifest_of_set(platform, config.derived_set),
        classes=platform.settings.labels.stages,
        layout=platform.layout,
    )


def refuse_name(platform: Platform, name: str, config: TrainingConfig) -> None:
    """Refuse names that repeat an identifier of a patient: they go into paths, pages and the tracking server.

    Raises `UsageError`. An experiment that has begun under its name is not searched again.
    """
    from ct_assets.deid.proof import typed_text
    from ct_assets.learning.experiment import read_record

    if read_record(platform.layout.experiment(name)) is None:
        known = typed_text.of_platform(platform.layout, platform.settings.labels.csv)
        known.refuse({"--experiment": name, "final.registered_name": config.final.registered_name})


def open_experiment(platform: Platform, name: str) -> "Experiment[TrainingConfig]":
    """Open an experiment that has begun. Raises `UsageError` where the manifest or the classes are others now."""
    from ct_assets.learning.experiment import Experiment

    return Experiment.open(
        name,
        manifest=manifest_of_set(platform, experiment_set(platform, name)),
        classes=platform.settings.labels.stages,
        layout=platform.layout,
        config=TrainingConfig,
    )


def experiment_set(platform: Platform, name: str) -> str | None:
    """Return the smaller set that an experiment trains on; None for the full set, also before it has begun."""
    from ct_assets.learning.experiment import read_record

    record = read_record(platform.layout.experiment(name))
    return None if record is None else record.derived_set


def manifest_of_set(platform: Platform, derived_set: str | None) -> pl.DataFrame:
    """Return the manifest's rows: all, or those of a smaller set and of the test.

    Raises `UsageError` where there is no manifest yet, or the smaller set was never made.
    """
    from ct_assets.learning.volumes.derived import source
    from ct_assets.tables.cohort import CohortManifest
    from ct_assets.tables.folds import FoldVolumes

    if not platform.layout.cohort_manifest.exists():
        raise UsageError("the cohort manifest is not there yet; run `ct-assets run` first")
    manifest = tables.read_table(platform.layout.cohort_manifest, CohortManifest)
    if derived_set is None:
        return manifest
    drawn: set[str] = set()
    for fold in fold_names(platform.settings):
        volumes = source(platform.layout.root, fold, derived_set).volumes
        if volumes.exists():
            drawn |= set(tables.read_table(volumes, FoldVolumes)["case_id"])
    if not drawn:
        raise UsageError(
            f"derived set {derived_set}: its volumes are not there; materialize derived_set before training on it"
        )
    return manifest.filter(pl.col("case_id").is_in(sorted(drawn)) | (pl.col("split") == "test"))

"""The partitions of the graph: batches, folds, experiments, smaller sets.

Belongs here: their definitions and how the partitions of one asset follow from another's. Patients and
series are no partitions but rows of tables: tens of thousands of keys slow the instance down.
"""

import warnings
from collections.abc import Iterable
from typing import Literal

import dagster as dg

from ct_assets.settings import Settings, load_settings
from ct_assets.settings.brain import configurations

BATCH = "batch"
FOLD = "fold"
EXPERIMENT = "experiment"
STUDY = "study"
CONFIGURATION = "configuration"

Kind = Literal[
    "batch",
    "fold",
    "experiment",
    "experiment_fold",
    "derived",
    "study",
    "brain_configuration",
    "brain_fold",
]

SETTINGS = load_settings()
"""The settings in force when the code location was loaded: they fix the static partitions."""


def fold_names(settings: Settings) -> list[str]:
    """Return the names of the folds, "0" to "k-1"."""
    return [str(fold) for fold in range(settings.splits.folds)]


batches = dg.DynamicPartitionsDefinition(name=BATCH)
experiments = dg.DynamicPartitionsDefinition(name=EXPERIMENT)
studies = dg.DynamicPartitionsDefinition(name=STUDY)
folds = dg.StaticPartitionsDefinition(fold_names(SETTINGS))
fold_trainings = dg.MultiPartitionsDefinition({EXPERIMENT: experiments, FOLD: folds})
brain_configurations = dg.StaticPartitionsDefinition(sorted(configurations(SETTINGS.brain)))
brain_folds = dg.MultiPartitionsDefinition(
    {
        CONFIGURATION: brain_configurations,
        FOLD: dg.StaticPartitionsDefinition([str(fold) for fold in range(SETTINGS.brain.k_folds)]),
    }
)
derived_sets = dg.StaticPartitionsDefinition(sorted(SETTINGS.derived))

DEFINITIONS: dict[Kind | None, dg.PartitionsDefinition | None] = {
    None: None,
    "batch": batches,
    "fold": folds,
    "experiment": experiments,
    "experiment_fold": fold_trainings,
    "derived": derived_sets,
    "study": studies,
    "brain_configuration": brain_configurations,
    "brain_fold": brain_folds,
}


def mapping(upstream: Kind | None, downstream: Kind | None) -> dg.PartitionMapping | None:
    """Return how partitions of a `downstream` asset take those of an `upstream` one; None where it is plain."""
    if upstream == downstream or upstream is None:
        return None
    with warnings.catch_warnings():
        # In beta for years, and the only mapping of its kind; the pinned version is the one that is tested.
        warnings.simplefilter("ignore", dg.BetaWarning)
        if downstream == "experiment_fold" and upstream == "fold":
            return dg.MultiToSingleDimensionPartitionMapping(FOLD)
        if downstream == "experiment" and upstream == "experiment_fold":
            return dg.MultiToSingleDimensionPartitionMapping(EXPERIMENT)
        if downstream == "brain_configuration" and upstream == "brain_fold":
            return dg.MultiToSingleDimensionPartitionMapping(CONFIGURATION)
    return dg.AllPartitionMapping()


def upstream_keys(
    upstream: Kind | None, downstream: Kind | None, key: str | None, all_upstream: Iterable[str]
) -> list[str | None]:
    """Return the partition keys of an `upstream` asset that partition `key` of a `downstream` one reads."""
    if upstream is None:
        return [None]
    if upstream == downstream:
        return [key]
    if key is not None and downstream == "experiment_fold" and upstream == "fold":
        return [split_key(key)[1]]
    if key is not None and downstream == "experiment" and upstream == "experiment_fold":
        return [other for other in all_upstream if split_key(other)[0] == key]
    if key is not None and downstream == "brain_configuration" and upstream == "brain_fold":
        return [other for other in all_upstream if split_key(other)[0] == key]
    return list(all_upstream)


def join_key(experiment: str, fold: str) -> str:
    """Return the partition key of one experiment's fold."""
    return str(dg.MultiPartitionKey({EXPERIMENT: experiment, FOLD: fold}))


def brain_fold_key(configuration: str, fold: str) -> str:
    """Return the partition key of one fold of one configuration of brain CT classification."""
    return str(dg.MultiPartitionKey({CONFIGURATION: configuration, FOLD: fold}))


def split_key(key: str) -> tuple[str, str]:
    """Return experiment (or configuration) and fold of a key made by `join_key` or `brain_fold_key`."""
    first, fold = key.split("|")
    return first, fold


def fold_of(key: str) -> str:
    """Return the fold of a key that is one, or that ends in one (`join_key`)."""
    return key.rpartition("|")[2]

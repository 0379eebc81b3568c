"""The partitions of the graph: batches, folds, experiments, smaller sets.

Belongs here: their definitions and how the partitions of one asset follow from another's. Patients and
series are no partitions but rows of tables: tens of thousands of keys slow the instance down.
"""

import warnings
from collections.abc import Iterable

import dagster as dg

from ct_assets.settings import Settings, load_settings
from ct_assets.settings.brain import configurations

BATCH = "batch"
FOLD = "fold"
EXPERIMENT = "experiment"
STUDY = "study"
CONFIGURATION = "configuration"

Kind = str
"""A key of `DEFINITIONS`; `experiment@nodules` and `experiment_fold@nodules` are of the experiments of one system."""

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


def of_system(kind: Kind, system: str) -> Kind:
    """Return the kind `experiment` or `experiment_fold` of a system's own experiments."""
    return f"{kind}@{system}"


def dynamic_name(kind: Kind) -> str:
    """Return under which name Dagster keeps the experiments of a kind `experiment` or `experiment_fold`."""
    _, _, system = kind.partition("@")
    return f"{system}_{EXPERIMENT}" if system else EXPERIMENT


def definition(kind: Kind | None) -> dg.PartitionsDefinition | None:
    """Return the partitions of a kind."""
    if kind is None or "@" not in kind:
        return DEFINITIONS[kind]
    of_experiments = dg.DynamicPartitionsDefinition(name=dynamic_name(kind))
    if kind.startswith("experiment_fold@"):
        return dg.MultiPartitionsDefinition({EXPERIMENT: of_experiments, FOLD: folds})
    return of_experiments


def _same_experiments(upstream: Kind | None, downstream: Kind | None) -> bool:
    """Tell whether one asset has folds of the experiments that the other is of."""
    if upstream is None or downstream is None:
        return False
    (fine, _, one), (coarse, _, other) = upstream.partition("@"), downstream.partition("@")
    return one == other and (fine, coarse) == ("experiment_fold", "experiment")


def mapping(upstream: Kind | None, downstream: Kind | None) -> dg.PartitionMapping | None:
    """Return how partitions of a `downstream` asset take those of an `upstream` one; None where it is plain."""
    if upstream == downstream or upstream is None:
        return None
    with warnings.catch_warnings():
        # In beta for years, and the only mapping of its kind; the pinned version is the one that is tested.
        warnings.simplefilter("ignore", dg.BetaWarning)
        if downstream is not None and downstream.startswith("experiment_fold") and upstream == "fold":
            return dg.MultiToSingleDimensionPartitionMapping(FOLD)
        if _same_experiments(upstream, downstream):
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
    if (
        key is not None
        and downstream is not None
        and downstream.startswith("experiment_fold")
        and upstream == "fold"
    ):
        return [split_key(key)[1]]
    if key is not None and _same_experiments(upstream, downstream):
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

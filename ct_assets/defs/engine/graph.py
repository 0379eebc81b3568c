"""The graph in one table: every asset's group, partition, inputs, and the settings that decide it.

Belongs here: the declaration, and the arguments of `dg.asset` that follow from it. What the assets do is
in the file of their stage; whether one is stale is decided in `defs.engine.provenance`.
"""

from importlib import import_module
from typing import Any

import dagster as dg

from ct_assets import files, registry
from ct_assets.defs.engine import clinic_rows, partitions
from ct_assets.defs.engine.node import Node
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.resources import op_tags
from ct_assets.defs.operations import automation
from ct_assets.errors import UsageError

OWNERS = ["team:data-engineering"]
TRAINING_OWNERS = ["team:machine-learning"]
TRAINING_POOL = "training"


def _marker(platform: Platform, batch: str | None) -> Any:
    from ct_assets.intake.batches import marker_digest

    return marker_digest(platform.layout, str(batch))


def _profile(platform: Platform, batch: str | None) -> Any:
    review = platform.layout.deid_paths(str(batch)).review
    decided = files.sha256_file(review) if review.is_file() else None
    return [platform.profile.model_dump(mode="json"), clinic_rows.of_batch(platform, str(batch)), decided]


def _labels_csv(platform: Platform, _: str | None) -> Any:
    csv = platform.settings.labels.csv
    return files.sha256_file(csv) if csv is not None and csv.is_file() else None


def _query(platform: Platform, _: str | None) -> Any:
    query = platform.settings.eligibility.query
    return files.sha256_file(query) if query.is_file() else None


def _ledger_and_given_folds(platform: Platform, _: str | None) -> Any:
    """A person's folds, and the ledger itself: one that was changed by hand is looked at again."""
    given, ledger = platform.settings.splits.given, platform.layout.splits
    return [
        files.sha256_file(path) if path is not None and path.is_file() else None for path in (given, ledger)
    ]


def _plan_overrides(platform: Platform, _: str | None) -> Any:
    overrides = platform.settings.plan.overrides
    return files.sha256_file(overrides) if overrides is not None and overrides.is_file() else None


def _experiment(platform: Platform, key: str | None, *sections: str) -> Any:
    """What identifies an experiment's trainings, and sections of the configuration in force; None before it began."""
    from ct_assets.learning.experiment import configuration_in_force, read_record
    from ct_assets.settings.training import TrainingConfig

    folder = platform.layout.experiment(str(key).split("|")[0])
    try:
        record = read_record(folder)
        if record is None:
            return None
        config = configuration_in_force(folder, record, TrainingConfig)
    except UsageError as error:  # the asset's body refuses it by name
        return str(error)
    return [
        record.config_digest,
        record.manifest_digest,
        record.derived_set,
        list(record.classes),
        *(getattr(config, section).model_dump(mode="json") for section in sections),
    ]


def _evaluated_experiment(platform: Platform, key: str | None) -> Any:
    return _experiment(platform, key, "evaluation")


def _final_experiment(platform: Platform, key: str | None) -> Any:
    return _experiment(platform, key, "evaluation", "final")


def _final_plan(platform: Platform, key: str | None) -> Any:
    return [_plan_overrides(platform, None), _experiment(platform, key)]


def _derived(platform: Platform, name: str | None) -> Any:
    return platform.settings.derived[str(name)].model_dump(mode="json")


def _neuro_raw(platform: Platform, study: str | None) -> Any:
    """The files of one study, or of all with the mode mapping, by name, size and time of change."""
    data_dir = platform.neuro_dir
    modes = platform.settings.neuro.modes or data_dir / "modes.csv"
    below = data_dir / "raw" / (study or "")
    found = [path for path in sorted(below.rglob("*")) if path.is_file()]
    return [
        files.sha256_file(modes) if study is None and modes.is_file() else None,
        [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in found],
    ]


def _brain_raw(platform: Platform, _: str | None) -> Any:
    """The folder of slices by name, size and time of change, with its label table; nothing where batches are used."""
    settings, root = platform.settings.brain, platform.brain_dir
    if settings.source == "batches":
        return None
    labels, found = root / settings.labels, sorted((root / settings.cts).glob("*"))
    return [
        files.sha256_file(labels) if labels.is_file() else None,
        [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in found],
    ]


def _brain_weights(platform: Platform, _: str | None) -> Any:
    weights = platform.settings.brain.config.pretrained
    return files.sha256_file(weights) if weights is not None and weights.is_file() else None


DICOM = frozenset({"dicom"})
TABLE = frozenset({"parquet", "polars"})

GRAPH: dict[str, Node] = {
    "dicom_batch": Node("intake", "batch", (), external=_marker, kinds=DICOM, automated=False),
    "deid_dicom": Node("deid", "batch", ("dicom_batch",), external=_profile, kinds=DICOM, automated=False),
    "deid_audit": Node(
        "deid", "batch", ("dicom_batch",), external=_profile, kinds=frozenset({"json"}), automated=False
    ),
    "uid_map": Node("deid", "batch", ("dicom_batch",), external=_profile, kinds=TABLE, automated=False),
    "metadata_audit": Node("audits", "batch", ("deid_dicom", "deid_audit"), kinds=TABLE),
    "ct_prepro_audit": Node(
        "audits", None, ("metadata_audit",), ("audit", "conversion"), kinds=frozenset({"json", "parquet"})
    ),
    "labels": Node("cohort", None, ("uid_map",), ("labels",), _labels_csv, TABLE),
    "eligibility": Node(
        "cohort", None, ("labels", "ct_prepro_audit"), ("eligibility",), _query, frozenset({"sql", "duckdb"})
    ),
    "splits": Node("cohort", None, ("eligibility", "labels"), ("splits",), _ledger_and_given_folds, TABLE),
    "cohort_manifest": Node(
        "cohort", None, ("eligibility", "splits", "labels", "ct_prepro_audit"), ("conversion",), kinds=TABLE
    ),
    "nifti_cohort": Node(
        "volumes",
        None,
        ("cohort_manifest", "metadata_audit"),
        ("conversion", "audit"),
        kinds=frozenset({"nifti"}),
    ),
    "fold_plan": Node(
        "folds",
        "fold",
        ("nifti_cohort", "cohort_manifest", "ct_prepro_audit"),
        ("plan",),
        _plan_overrides,
        frozenset({"json"}),
    ),
    "fold_volumes": Node("folds", "fold", ("fold_plan", "nifti_cohort"), kinds=frozenset({"blosc2"})),
    "split_drift": Node(
        "folds",
        "fold",
        ("cohort_manifest", "ct_prepro_audit", "nifti_cohort"),
        ("drift",),
        kinds=frozenset({"html"}),
    ),
    "fold_model": Node(
        "training",
        "experiment_fold",
        ("fold_volumes", "fold_plan", "cohort_manifest"),
        ("labels.stages",),
        external=_experiment,
        kinds=frozenset({"pytorch", "mlflow"}),
        automated=False,
    ),
    "fold_predictions": Node(
        "training",
        "experiment_fold",
        ("fold_model", "fold_plan", "fold_volumes", "nifti_cohort", "cohort_manifest"),
        ("labels.stages",),
        external=_experiment,
        kinds=frozenset({"pytorch"}),
        automated=False,
    ),
    "cv_report": Node(
        "evaluation",
        "experiment",
        ("fold_predictions", "cohort_manifest", "nifti_cohort", "ct_prepro_audit"),
        ("labels.stages",),
        external=_evaluated_experiment,
        kinds=frozenset({"html"}),
        automated=False,
    ),
    "final_train_set": Node(
        "evaluation",
        "experiment",
        ("nifti_cohort", "cohort_manifest", "ct_prepro_audit"),
        ("plan",),
        _final_plan,
        frozenset({"nifti"}),
        automated=False,
    ),
    "final_test_set": Node(
        "evaluation",
        "experiment",
        ("final_train_set", "nifti_cohort", "cohort_manifest"),
        external=_experiment,
        kinds=frozenset({"nifti"}),
        automated=False,
    ),
    "final_model": Node(
        "evaluation",
        "experiment",
        ("cv_report", "fold_model", "fold_plan", "final_train_set", "cohort_manifest"),
        ("labels.stages",),
        external=_final_experiment,
        kinds=frozenset({"pytorch", "mlflow"}),
        automated=False,
    ),
    "test_report": Node(
        "evaluation",
        "experiment",
        ("final_model", "final_test_set", "nifti_cohort", "cohort_manifest", "ct_prepro_audit"),
        ("labels.stages",),
        external=_evaluated_experiment,
        kinds=frozenset({"html"}),
        automated=False,
    ),
    "derived_set": Node(
        "derived",
        "derived",
        ("nifti_cohort", "cohort_manifest", "ct_prepro_audit"),
        ("plan",),
        _derived,
        frozenset({"nifti"}),
        automated=False,
    ),
    "neuro_studies": Node("neuro", None, (), ("neuro",), _neuro_raw, frozenset({"json"}), automated=False),
    "neuro_cache": Node(
        "neuro",
        "study",
        ("neuro_studies",),
        ("neuro",),
        _neuro_raw,
        frozenset({"pytorch"}),
        automated=False,
    ),
    "neuro_statistics": Node("neuro", None, ("neuro_cache",), ("neuro",), kinds=TABLE, automated=False),
    "neuro_preview": Node(
        "neuro", None, ("neuro_cache",), ("neuro",), kinds=frozenset({"html"}), automated=False
    ),
    "brain_features": Node(
        "brain", None, ("metadata_audit", "labels"), ("brain", "audit"), _brain_raw, TABLE, automated=False
    ),
    "brain_first_look": Node(
        "brain", None, ("brain_features",), ("brain",), kinds=frozenset({"html"}), automated=False
    ),
    "brain_splits": Node("brain", None, ("brain_features",), ("brain",), kinds=TABLE, automated=False),
    "brain_fold_model": Node(
        "brain",
        "brain_fold",
        ("brain_splits",),
        ("brain",),
        _brain_weights,
        frozenset({"pytorch", "mlflow"}),
        automated=False,
    ),
    "brain_cv_report": Node(
        "brain",
        "brain_configuration",
        ("brain_fold_model",),
        ("brain",),
        kinds=frozenset({"html"}),
        automated=False,
    ),
    "brain_selection": Node("brain", None, ("brain_cv_report",), ("brain",), kinds=TABLE, automated=False),
    "brain_final_model": Node(
        "brain",
        None,
        ("brain_selection", "brain_splits"),
        ("brain",),
        kinds=frozenset({"pytorch", "mlflow"}),
        automated=False,
    ),
    "brain_test_report": Node(
        "brain",
        None,
        ("brain_final_model", "brain_splits"),
        ("brain",),
        kinds=frozenset({"html"}),
        automated=False,
    ),
}

for _system in registry.systems():
    if _system.graph is not None:
        GRAPH |= import_module(_system.graph).NODES

TRAINING_DOOR = ("fold_volumes", "split_drift")
"""How far the graph goes without a person."""


def asset_arguments(name: str) -> dict[str, Any]:
    """Return the arguments of `dg.asset` that the table decides."""
    node = GRAPH[name]
    return {
        **spec_arguments(name),
        "partitions_def": partitions.DEFINITIONS[node.partition],
        "op_tags": op_tags(name),
    }


def spec_arguments(name: str) -> dict[str, Any]:
    """Return the arguments of `dg.AssetSpec` that the table decides: one of several assets of a `dg.multi_asset`."""
    node = GRAPH[name]
    return {
        "group_name": node.group,
        "kinds": set(node.kinds),
        "owners": TRAINING_OWNERS if node.group in ("training", "evaluation") else OWNERS,
        "code_version": node.code_version,
        "automation_condition": automation.on_changed_inputs if node.automated else None,
        "deps": [_dep(dep, node) for dep in node.deps],
    }


def _dep(upstream: str, node: Node) -> dg.AssetDep:
    return dg.AssetDep(
        upstream, partition_mapping=partitions.mapping(GRAPH[upstream].partition, node.partition)
    )

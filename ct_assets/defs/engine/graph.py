"""The graph in one table: every asset's group, partition, inputs, and the settings that decide it.

Belongs here: the declaration, and the arguments of `dg.asset` that follow from it. What the assets do is
in the file of their stage; whether one is stale is decided in `defs.engine.provenance`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import dagster as dg

from ct_assets import registry
from ct_assets.defs.engine import external, partitions, system_rows
from ct_assets.defs.engine.node import Node
from ct_assets.defs.engine.resources import op_tags
from ct_assets.defs.operations import automation

OWNERS = ["team:data-engineering"]
TRAINING_OWNERS = ["team:machine-learning"]
TRAINING_POOL = "training"


DICOM = frozenset({"dicom"})
TABLE = frozenset({"parquet", "polars"})


def _files(*patterns: str) -> Callable[[str], tuple[str, ...]]:
    """Return outputs of which `{key}`, `{experiment}` and `{fold}` are the partition or its parts."""

    def of(key: str) -> tuple[str, ...]:
        experiment, _, fold = key.partition("|")
        return tuple(pattern.format(key=key, experiment=experiment, fold=fold) for pattern in patterns)

    return of


GRAPH: dict[str, Node] = {
    "dicom_batch": Node(
        "intake",
        "batch",
        (),
        external=external.marker,
        kinds=DICOM,
        automated=False,
        places=("inbox", "inbox_batch", "raw", "raw_batch", "superseded", "deliveries"),
    ),
    "deid_dicom": Node(
        "deid",
        "batch",
        ("dicom_batch",),
        ("profile",),
        external=external.review,
        after_files=("labels.csv",),
        after=external.clinic_rows_of_batch,
        kinds=DICOM,
        automated=False,
        places=("released", "deid_batch"),
        outputs=_files("deid/dicom_output/{key}/**/*"),
    ),
    "deid_audit": Node(
        "deid",
        "batch",
        ("dicom_batch",),
        ("profile",),
        external=external.review,
        after_files=("labels.csv",),
        after=external.clinic_rows_of_batch,
        kinds=frozenset({"json"}),
        automated=False,
        outputs=_files(
            "audits/deid/{key}/deid_audit.jsonl", "audits/deid/{key}/summary.json", "reports/deid/{key}.html"
        ),
    ),
    "uid_map": Node(
        "deid",
        "batch",
        ("dicom_batch",),
        ("profile",),
        external=external.review,
        after_files=("labels.csv",),
        after=external.clinic_rows_of_batch,
        kinds=TABLE,
        automated=False,
        places=("uid_maps", "deid_paths"),
        outputs=_files("audits/uid/{key}/*.parquet"),
    ),
    "metadata_audit": Node(
        "audits",
        "batch",
        ("deid_dicom", "deid_audit"),
        kinds=TABLE,
        places=("metadata_audit", "metadata_audits", "released"),
        outputs=_files("audits/metadata/{key}/metadata_audit.parquet"),
        is_incremental=True,
    ),
    "ct_prepro_audit": Node(
        "audits",
        None,
        ("metadata_audit",),
        ("audit", "conversion"),
        kinds=frozenset({"json", "parquet"}),
        places=("ct_prepro_dir", "ct_prepro_audit"),
        outputs=_files("audits/ct_prepro/*"),
        is_incremental=True,
    ),
    "labels": Node(
        "cohort",
        None,
        ("uid_map",),
        ("labels",),
        files=("labels.csv",),
        kinds=TABLE,
        places=("labels", "label_report"),
        outputs=_files("cohort/labels.parquet", "cohort/label_report.parquet"),
    ),
    "eligibility": Node(
        "cohort",
        None,
        ("labels", "ct_prepro_audit"),
        ("eligibility",),
        files=("eligibility.query",),
        kinds=frozenset({"sql", "duckdb"}),
        places=("eligibility", "cohort_list", "excluded"),
        outputs=_files("cohort/eligibility.parquet", "cohort/cohort_list.csv", "cohort/excluded.csv"),
    ),
    "splits": Node(
        "cohort",
        None,
        ("eligibility", "labels"),
        ("splits",),
        files=("splits.given",),
        external=external.case_numbers_of_given_folds,
        kinds=TABLE,
        places=("splits", "splits_record"),
        outputs=_files("cohort/splits.parquet", "audits/splits/splits_record.json"),
    ),
    "cohort_manifest": Node(
        "cohort",
        None,
        ("eligibility", "splits", "labels", "ct_prepro_audit"),
        ("conversion",),
        kinds=TABLE,
        places=("cohort_manifest", "case_numbers"),
        outputs=_files("cohort/cohort_manifest.parquet", "cohort/case_numbers.parquet"),
    ),
    "nifti_cohort": Node(
        "volumes",
        None,
        ("cohort_manifest", "metadata_audit"),
        ("conversion", "audit"),
        kinds=frozenset({"nifti"}),
        places=("nifti", "nifti_digests"),
        outputs=_files("nifti/**/*", "reports/cases/*"),
        is_incremental=True,
    ),
    "fold_plan": Node(
        "folds",
        "fold",
        ("nifti_cohort", "cohort_manifest", "ct_prepro_audit"),
        ("plan",),
        files=("plan.overrides",),
        kinds=frozenset({"json"}),
        places=("plan", "fold", "folds"),
        outputs=_files("folds/{key}/plan.json"),
    ),
    "fold_volumes": Node(
        "folds",
        "fold",
        ("fold_plan", "nifti_cohort", "cohort_manifest"),
        kinds=frozenset({"blosc2"}),
        places=("fold_volumes", "fold", "folds"),
        outputs=_files("folds/{key}/volumes.parquet"),
    ),
    "split_drift": Node(
        "folds",
        "fold",
        ("cohort_manifest", "ct_prepro_audit", "nifti_cohort"),
        ("drift",),
        kinds=frozenset({"html"}),
        places=("fold", "folds"),
        outputs=_files("folds/{key}/drift.json", "reports/drift/{key}/*"),
    ),
    "fold_model": Node(
        "training",
        "experiment_fold",
        ("fold_volumes", "fold_plan", "cohort_manifest"),
        ("labels.stages",),
        after=external.experiment,
        kinds=frozenset({"pytorch", "mlflow"}),
        automated=False,
        places=("experiment", "fold_model"),
        outputs=_files(
            "models/{experiment}/{fold}/best.safetensors",
            "models/{experiment}/{fold}/result.json",
            "models/{experiment}/{fold}/training.json",
        ),
    ),
    "fold_predictions": Node(
        "training",
        "experiment_fold",
        ("fold_model", "fold_plan", "fold_volumes", "nifti_cohort", "cohort_manifest"),
        ("labels.stages",),
        external=external.experiment,
        kinds=frozenset({"pytorch"}),
        automated=False,
        places=("experiment", "fold_model"),
        outputs=_files(
            "models/{experiment}/{fold}/predictions.parquet", "models/{experiment}/{fold}/predictions/*/*"
        ),
    ),
    "cv_report": Node(
        "evaluation",
        "experiment",
        ("fold_predictions", "cohort_manifest", "nifti_cohort", "ct_prepro_audit"),
        ("labels.stages",),
        external=external.evaluated_experiment,
        kinds=frozenset({"html"}),
        automated=False,
        places=("experiment",),
        outputs=_files(
            "models/{key}/cv_report.json",
            "models/{key}/calibration.json",
            "models/{key}/segmentation_scores.parquet",
        ),
    ),
    "final_train_set": Node(
        "evaluation",
        "experiment",
        ("nifti_cohort", "cohort_manifest", "ct_prepro_audit"),
        ("plan",),
        external=external.experiment,
        files=("plan.overrides",),
        kinds=frozenset({"nifti"}),
        automated=False,
        places=("experiment", "final_train", "derived"),
        outputs=_files("final/train/**/*", "derived/*/final/train/**/*"),
    ),
    "final_test_set": Node(
        "evaluation",
        "experiment",
        ("final_train_set", "nifti_cohort", "cohort_manifest"),
        external=external.experiment,
        kinds=frozenset({"nifti"}),
        automated=False,
        places=("experiment", "final_test"),
        outputs=_files("final/test/**/*", "derived/*/final/test/**/*"),
    ),
    "final_model": Node(
        "evaluation",
        "experiment",
        ("cv_report", "fold_model", "fold_plan", "final_train_set", "cohort_manifest"),
        ("labels.stages",),
        external=external.final_experiment,
        kinds=frozenset({"pytorch", "mlflow"}),
        automated=False,
        places=("experiment", "final_model"),
        outputs=_files("models/{key}/final/*.safetensors", "models/{key}/final/*.json"),
    ),
    "test_report": Node(
        "evaluation",
        "experiment",
        ("final_model", "final_test_set", "nifti_cohort", "cohort_manifest", "ct_prepro_audit"),
        ("labels.stages",),
        external=external.evaluated_experiment,
        kinds=frozenset({"html"}),
        automated=False,
        places=("experiment",),
        outputs=_files("models/{key}/test_report.json", "models/{key}/test_predictions.parquet"),
    ),
    "derived_set": Node(
        "derived",
        "derived",
        ("nifti_cohort", "cohort_manifest", "ct_prepro_audit"),
        ("plan", "derived.{partition}"),
        files=("plan.overrides",),
        kinds=frozenset({"nifti"}),
        automated=False,
        places=("derived",),
        outputs=_files("derived/{key}/**/*.parquet", "derived/{key}/**/*.json"),
    ),
    "neuro_studies": Node(
        "neuro",
        None,
        (),
        ("neuro",),
        external=external.neuro_raw,
        kinds=frozenset({"json"}),
        automated=False,
        places=("neuro",),
    ),
    "neuro_cache": Node(
        "neuro",
        "study",
        ("neuro_studies",),
        ("neuro",),
        external=external.neuro_raw,
        kinds=frozenset({"pytorch"}),
        automated=False,
        places=("neuro",),
        outputs=_files("neuro/processed/{key}/**/*"),
        is_incremental=True,
    ),
    "neuro_statistics": Node(
        "neuro",
        None,
        ("neuro_cache",),
        ("neuro",),
        kinds=TABLE,
        automated=False,
        places=("neuro",),
        outputs=_files("neuro/processed/images.parquet", "neuro/processed/streams.parquet"),
    ),
    "neuro_preview": Node(
        "neuro",
        None,
        ("neuro_cache",),
        ("neuro",),
        kinds=frozenset({"html"}),
        automated=False,
        places=("neuro",),
        outputs=_files("reports/neuro/*"),
    ),
    "brain_features": Node(
        "brain",
        None,
        ("metadata_audit", "labels"),
        ("brain", "audit"),
        external=external.brain_raw,
        kinds=TABLE,
        automated=False,
        places=("brain",),
        outputs=_files("brain/features.parquet", "brain/features_checks_summary.json"),
    ),
    "brain_first_look": Node(
        "brain",
        None,
        ("brain_features",),
        ("brain",),
        kinds=frozenset({"html"}),
        automated=False,
        places=("brain",),
        outputs=_files("reports/brain/data/*"),
    ),
    "brain_splits": Node(
        "brain",
        None,
        ("brain_features",),
        ("brain",),
        kinds=TABLE,
        automated=False,
        places=("brain",),
        outputs=_files("brain/split.parquet", "brain/splits.parquet"),
    ),
    "brain_fold_model": Node(
        "brain",
        "brain_fold",
        ("brain_splits",),
        ("brain",),
        files=("brain.config.pretrained",),
        kinds=frozenset({"pytorch", "mlflow"}),
        automated=False,
        places=("brain",),
    ),
    "brain_cv_report": Node(
        "brain",
        "brain_configuration",
        ("brain_fold_model",),
        ("brain",),
        kinds=frozenset({"html"}),
        automated=False,
        places=("brain",),
        outputs=_files("reports/brain/{key}/*"),
    ),
    "brain_selection": Node(
        "brain",
        None,
        ("brain_cv_report",),
        ("brain",),
        kinds=TABLE,
        automated=False,
        places=("brain",),
        outputs=_files("brain/selection/*", "reports/brain/selected/*"),
    ),
    "brain_final_model": Node(
        "brain",
        None,
        ("brain_selection", "brain_splits"),
        ("brain",),
        kinds=frozenset({"pytorch", "mlflow"}),
        automated=False,
        places=("brain",),
        outputs=_files("brain/final/*.safetensors", "brain/final/*.json"),
    ),
    "brain_test_report": Node(
        "brain",
        None,
        ("brain_final_model", "brain_splits"),
        ("brain",),
        kinds=frozenset({"html"}),
        automated=False,
        places=("brain",),
    ),
}

for _system in registry.systems():
    if _system.learning is not None:
        GRAPH |= system_rows.rows(_system)
    if _system.graph is not None:
        GRAPH |= import_module(_system.graph).NODES

TRAINED_GROUPS = {"training", "evaluation"} | {
    system.name for system in registry.systems() if system.learning
}
TRAINING_DOOR = ("fold_volumes", "split_drift")
"""How far the graph goes without a person."""


def asset_arguments(name: str) -> dict[str, Any]:
    """Return the arguments of `dg.asset` that the table decides."""
    node = GRAPH[name]
    return {
        **spec_arguments(name),
        "partitions_def": partitions.definition(node.partition),
        "op_tags": op_tags(name),
    }


def spec_arguments(name: str) -> dict[str, Any]:
    """Return the arguments of `dg.AssetSpec` that the table decides: one of several assets of a `dg.multi_asset`."""
    node = GRAPH[name]
    return {
        "group_name": node.group,
        "kinds": set(node.kinds),
        "owners": TRAINING_OWNERS if node.group in TRAINED_GROUPS else OWNERS,
        "code_version": node.code_version,
        "automation_condition": automation.on_changed_inputs if node.automated else None,
        "deps": [_dep(dep, node) for dep in node.deps],
    }


def _dep(upstream: str, node: Node) -> dg.AssetDep:
    return dg.AssetDep(
        upstream, partition_mapping=partitions.mapping(GRAPH[upstream].partition, node.partition)
    )

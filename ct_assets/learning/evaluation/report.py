"""Evaluation of any system: its folds together, and its final model once on the test split.

Belongs here: which scores and figures are of what, frozen decisions, the files of a report, the log of test accesses.
Does not: measuring and deciding (`System.score`, `decide`, `figures`), pages (`reports.system`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation import out_of_fold
from ct_assets.learning.evaluation.out_of_fold import FILES_DIR, PREDICTIONS_NAME
from ct_assets.learning.evaluation.test_access_log import Reading, Readings
from ct_assets.learning.experiment import Experiment
from ct_assets.learning.models import bundle_files
from ct_assets.learning.system import TEST, Config, System

CV_NAME = "cv_report.json"
TEST_NAME = "test_report.json"
SCORES_NAME = "scores.parquet"
DECISIONS_NAME = "decisions.json"
FINAL_DIR = "final"


@dataclass(frozen=True)
class Report:
    """A report's figures, and the tables that they are of."""

    path: Path
    """The report's JSON in the experiment's folder."""
    figures: dict[str, Any]
    scores: pl.DataFrame


def cv_report(system: System[Config], experiment: Experiment[Config]) -> Report:
    """Score the out-of-fold predictions of all folds; fit calibration and thresholds on the scores and freeze them.

    Writes `cv_report.json`, `decisions.json` and `scores.parquet` into the experiment's folder. Raises `UsageError`
    naming a fold that is not predicted or is stale.
    """
    parts = out_of_fold.all_folds(system, experiment)
    config, classes, folder = experiment.config, experiment.classes, experiment.folder
    scores = pl.concat(
        [
            system.score(predictions, examples, config).with_columns(fold=pl.lit(fold))
            for fold, (predictions, examples) in parts.items()
        ]
    )
    decisions = system.decide(scores, config, classes)
    patients = {patient for _, examples in parts.values() for patient in examples.table["patient_id"]}
    content = {
        "kind": "cross_validation",
        **_head(system, experiment),
        "folds": list(parts),
        "patients": len(patients),
        "examples": sum(examples.table.height for _, examples in parts.values()),
        **system.figures(scores, decisions, config, classes),
        "decisions": decisions,
    }
    _write_table(folder / SCORES_NAME, scores)
    files.write_json(folder / DECISIONS_NAME, decisions)
    files.write_json(folder / CV_NAME, content)
    return Report(folder / CV_NAME, content, scores)


def test_report(system: System[Config], experiment: Experiment[Config], *, force: bool = False) -> Report:  # noqa: PT028 - it is no test
    """Score the test split once with the experiment's final model, decisions as frozen.

    The access is logged before any label is opened, in the one log of the platform. The same access again returns its
    report; one with another model, other settings or other test patients is a `UsageError` unless `force`, and is then
    permanently marked as forced.
    """
    folder, config = experiment.folder, experiment.config
    record = bundle_files.load(folder / FINAL_DIR)
    check(record, experiment)
    examples = system.examples(experiment, TEST).of(TEST)
    if examples.table.is_empty():
        raise UsageError("the cohort has no test patients: there is nothing to score")
    log = Readings.of(experiment.layout)
    access = Reading(
        experiment=f"{system.name}/{experiment.name}",
        model_digest=record.digest,
        test_digest=examples.digest,
        settings_digest=config.evaluation.digest,
    )
    path = folder / TEST_NAME
    if log.has(access) and path.exists():
        progress.say("the test split was scored before with this model and these settings: same report")
        return Report(path, files.read_json(path), pl.read_parquet(folder / f"test_{SCORES_NAME}"))
    log.open(access, force=force)
    model = bundle_files.open_model(system, folder / FINAL_DIR, system.uses(experiment))
    predictor = system.predictor(model, out_of_fold.device_of(config))
    predictions = predictor(examples, folder / f"test_{FILES_DIR}")
    scores = system.score(predictions, examples, config)
    content = {
        "kind": "test",
        **_head(system, experiment),
        "patients": len(set(examples.table["patient_id"])),
        "examples": examples.table.height,
        **system.figures(scores, record.decisions, config, experiment.classes),
        "decisions": record.decisions,
        "model_digest": record.digest,
        "is_forced": log.is_forced(access),
        "readings": log.count(),
    }
    _write_table(folder / f"test_{PREDICTIONS_NAME}", predictions)
    _write_table(folder / f"test_{SCORES_NAME}", scores)
    files.write_json(path, content)
    return Report(path, content, scores)


def check(about: "bundle_files.BundleRecord | Mapping[str, Any]", experiment: Experiment[Config]) -> None:
    """Refuse a CV report or bundle that is not of this experiment under the settings in force."""
    is_report = isinstance(about, Mapping)
    content = about if isinstance(about, Mapping) else about.model_dump(mode="json")
    config = experiment.config
    now = {
        "config_digest": config.digest,
        "manifest_digest": experiment.manifest_digest,
        "classes": list(experiment.classes),
    }
    differing = [name for name, value in now.items() if content.get(name) != value]
    evaluation = (
        content.get("settings_digest")
        if is_report
        else type(config).model_validate(content["config"]).evaluation.digest
    )
    if evaluation != config.evaluation.digest:
        differing.append("evaluation settings")
    if differing:
        what, asset = (
            (CV_NAME, "the CV report") if is_report else ("final model", "the CV report and the final model")
        )
        raise UsageError(
            f"experiment {experiment.name}: its {what} was made under others ({', '.join(differing)}); "
            f"materialize {asset} again"
        )


def _head(system: System[Config], experiment: Experiment[Config]) -> dict[str, Any]:
    return {
        "system": system.name,
        "title": system.title,
        "experiment": experiment.name,
        "config_digest": experiment.config.digest,
        "settings_digest": experiment.config.evaluation.digest,
        "manifest_digest": experiment.manifest_digest,
        "classes": list(experiment.classes),
        "confidence": experiment.config.evaluation.confidence,
    }


def _write_table(path: Path, table: pl.DataFrame) -> None:
    with files.atomic_path(path) as partial:
        table.write_parquet(partial, compression="zstd")

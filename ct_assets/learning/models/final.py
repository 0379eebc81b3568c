"""The final model of any system's experiment: its bundle, its card, its registration.

Belongs here: what goes into the bundle. Does not: the bundle's format (`learning.models.bundle_files`).
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation import out_of_fold, report
from ct_assets.learning.experiment import Experiment
from ct_assets.learning.models import bundle_files, card, registry
from ct_assets.learning.models.bundle_files import BundleRecord
from ct_assets.learning.system import FINAL, Config, Member, System
from ct_assets.learning.training import tracking
from ct_assets.learning.training.train import RESULT_NAME, environment, train_fold
from ct_assets.settings.training import TrainingStage

SINGLE_DIR = "single"
"""Folder of the training on all patients, beside the folds'."""


@dataclass(frozen=True)
class FinalModel:
    """What was built."""

    folder: Path
    record: BundleRecord
    registered_as: str | None
    """`models:/<name>/<version>`; None where no tracking server was reached."""


def build(
    system: System[Config], experiment: Experiment[Config], *, tracking_uri: str | None = None
) -> FinalModel:
    """Build the final model from trained folds and their report, and register it with the alias `candidate`.

    By default the ensemble of the folds. `final.kind: single` trains one model on all training patients for the median
    of the folds' best epochs, with the decisions of the folds. Raises `UsageError` where folds or their report are
    missing or were made under other settings.
    """
    config, folder = experiment.config, experiment.folder
    cv = files.read_json_object(folder / report.CV_NAME)
    if cv is None:
        raise UsageError(
            f"experiment {experiment.name}: has no report over its folds yet; make the CV report first"
        )
    report.check(cv, experiment)
    decisions: Mapping[str, Any] = files.read_json(folder / report.DECISIONS_NAME)
    members = [
        out_of_fold.member_of(system, experiment, fold, system.examples(experiment, fold))
        for fold in cv["folds"]
    ]
    if config.final.kind == "single":
        epochs = [
            int(files.read_json(experiment.fold(fold) / RESULT_NAME)["best_epoch"]) for fold in cv["folds"]
        ]
        members, decisions = (
            [_train_single(system, experiment, epochs, tracking_uri)],
            system.transferred(decisions),
        )
    used = {name: bundle_files.load(path).digest for name, path in system.uses(experiment).items()}
    draft = BundleRecord(
        system=system.name,
        experiment=experiment.name,
        kind=config.final.kind,
        classes=experiment.classes,
        config=config.model_dump(mode="json"),
        config_digest=config.digest,
        manifest_digest=experiment.manifest_digest,
        members=(),
        decisions=dict(decisions),
        conventions=dict(system.conventions),
        versions={name: version for name, version in environment().items() if name != "device"},
        uses=used,
    )
    final = folder / report.FINAL_DIR
    record = bundle_files.write(final, draft, tuple(members), lambda sealed: system_card(system, sealed, cv))
    entry = registry.Entry(
        name=config.final.registered_name or system.name,
        digest=record.digest,
        experiment=experiment.name,
        experiment_dir=folder,
        manifest_digest=experiment.manifest_digest,
        figures={
            f"cv_{name}": float(value)
            for name, value in system.headline(cv).items()
            if isinstance(value, int | float)
        },
    )
    name = registry.register(final, entry, tracking_uri or tracking.default_uri(experiment.layout))
    return FinalModel(final, record, name)


def _train_single(
    system: System[Config],
    experiment: Experiment[Config],
    best_epochs: Sequence[int],
    tracking_uri: str | None,
) -> Member:
    """Train on all training patients; nobody is left to validate on."""
    epochs = max(1, round(statistics.median(best_epochs)))
    shortened = experiment.config.model_copy(update={"stages": phases_of(experiment.config.stages, epochs)})
    progress.say(f"final model: {epochs} epochs, the median of the folds' best")
    examples, folder = system.examples(experiment, FINAL), experiment.folder / SINGLE_DIR
    train_fold(
        system,
        experiment,
        fold=FINAL,
        examples=examples,
        tracking_uri=tracking_uri,
        model_dir=folder,
        config=shortened,
    )
    return out_of_fold.member_of(system, experiment, FINAL, examples, folder=folder, config=shortened)


def phases_of(phases: Sequence[TrainingStage], epochs: int) -> tuple[TrainingStage, ...]:
    """Return the training phases cut to so many epochs in all."""
    kept, left = [], epochs
    for phase in phases:
        if left <= 0:
            break
        kept.append(phase.model_copy(update={"epochs": min(left, phase.epochs)}))
        left -= phase.epochs
    return tuple(kept)


def system_card(system: System[Config], record: BundleRecord, cv: Mapping[str, Any]) -> str:
    """Return the model card as Markdown."""
    data = (
        f"{cv['patients']} training patients, {cv['examples']} examples, in {len(cv['folds'])} folds; nothing of the "
        "test patients was fitted."
    )
    metrics = (
        *(f"- {name.replace('_', ' ')}: {value}" for name, value in system.headline(cv).items()),
        *(f"- {line}" for line in cv.get("verdicts", ())),
    )
    return card.write(system, record, data=(data,), heading="Metrics, out of fold", metrics=metrics)

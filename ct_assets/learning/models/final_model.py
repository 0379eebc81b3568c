"""The final model of an experiment: the bundle that everything downstream takes, its card, its registration.

Belongs here: what goes into the bundle. Does not: its format (`learning.models.bundle`), predicting with it.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.learning.evaluation.calibration import Calibration
from ct_assets.learning.evaluation.evaluate import CALIBRATION_NAME, CV_NAME, check_report
from ct_assets.learning.experiment import Experiment
from ct_assets.learning.models import bundle, registry
from ct_assets.learning.models import lung_card as model_card
from ct_assets.learning.training import checkpoints, tracking
from ct_assets.learning.training.lung_task import LungTraining, examples_of
from ct_assets.learning.training.train import RESULT_NAME, environment, train_fold
from ct_assets.learning.volumes import derived
from ct_assets.learning.volumes.plan import FINAL, Plan
from ct_assets.settings.training import TrainingConfig, TrainingStage

SINGLE_DIR = "single"
"""Folder of the training on all patients, beside the folds'."""
CARD_NAME = "card.md"


@dataclass(frozen=True)
class FinalModel:
    """What was built."""

    folder: Path
    bundle: bundle.Bundle
    registered_as: str | None
    """`models:/<name>/<version>`; None where no tracking server was reached."""

    @property
    def digest(self) -> str:
        """The bundle's digest."""
        return self.bundle.digest

    @property
    def card(self) -> Path:
        """The model card."""
        return self.folder / CARD_NAME


def build(
    experiment: Experiment[TrainingConfig],
    *,
    tracking_uri: str | None = None,
    workers: int = 1,
) -> FinalModel:
    """Build the final model from trained folds and their report, and register it with the alias `candidate`.

    By default the ensemble of the folds. `final.kind: single` trains one model on all training patients for
    the median of the folds' best epochs; its calibration is that of the folds, marked as transferred. Raises
    `UsageError` where folds or the report over them are missing.
    """
    config, layout = experiment.config, experiment.layout
    report_path = experiment.folder / CV_NAME
    if not report_path.exists():
        raise UsageError(
            f"experiment {experiment.name}: has no report over its folds yet; make cv_report first"
        )
    report = files.read_json(report_path)
    check_report(report, experiment)
    calibration = Calibration.model_validate(files.read_json(experiment.folder / CALIBRATION_NAME))
    sources = _folds(layout, experiment.name, report["folds"], config.derived_set or derived.FULL)
    if config.final.kind == "single":
        source = _train_single(experiment, tracking_uri, [s.best_epoch for s in sources], workers)
        sources, calibration = [source], calibration.transferred()
    folder = layout.final_model(experiment.name)
    described: dict[str, Any] = {}

    def fill(partial: Path) -> None:
        described["bundle"] = _fill(partial, experiment, sources, calibration, report)

    files.replace_directory(folder, fill)
    made = described["bundle"]
    name = registry.register(
        folder, _entry(made, report, folder, layout), tracking_uri or tracking.default_uri(layout)
    )
    return FinalModel(folder, made, name)


def _entry(made: bundle.Bundle, report: dict[str, Any], folder: Path, layout: Layout) -> registry.Entry:
    final = made.config.final.model_dump(mode="json")
    return registry.Entry(
        name=made.config.final.registered_name,
        digest=made.digest,
        experiment=made.experiment,
        experiment_dir=layout.experiment(made.experiment),
        manifest_digest=made.manifest_digest,
        figures=_figures(report),
        parameters={
            "experiment": made.experiment,
            "manifest_digest": made.manifest_digest,
            **{f"final.{name}": str(value) for name, value in final.items()},
        },
        pages=tuple(path for path in folder.iterdir() if path.suffix in (".md", ".json")),
    )


def _figures(report: dict[str, Any]) -> dict[str, float]:
    figures = {}
    for group in ("segmentation", "stage"):
        for name, figure in report[group].get("model", {}).get("pooled", {}).items():
            if isinstance(figure, dict) and figure.get("value") is not None:
                figures[f"cv_{name}"] = float(figure["value"])
    return figures


@dataclass(frozen=True)
class Source:
    """A trained model that becomes a member."""

    name: str
    weights: Path
    plan: Plan
    best_epoch: int
    weights_sha256: str


def _folds(layout: Layout, experiment: str, folds: Sequence[str], data_set: str) -> list[Source]:
    """Return the folds' models with the plans that they were trained on: the full set's, or a smaller set's."""
    sources = []
    for fold in folds:
        folder = layout.fold_model(experiment, fold)
        plan = Plan.load(derived.source(layout.root, fold, data_set).plan)
        sources.append(_source(f"fold-{fold}", folder, plan))
    if not sources:
        raise UsageError(f"experiment {experiment}: no trained fold")
    return sources


def _source(name: str, folder: Path, plan: Plan) -> Source:
    path = folder / RESULT_NAME
    if not path.exists():
        raise UsageError(f"{folder}: is not trained to the end; launch its training")
    result = files.read_json(path)
    if result["identity"]["plan_digest"] != plan.digest:
        raise UsageError(
            f"stale_plan: {name} was trained on another plan than the one there now; train it again"
        )
    return Source(
        name, folder / checkpoints.WEIGHTS_NAME, plan, int(result["best_epoch"]), result["weights_sha256"]
    )


def _train_single(
    experiment: Experiment[TrainingConfig], tracking_uri: str | None, best_epochs: list[int], workers: int
) -> Source:
    """Train on all training patients under the plan of all of them; nobody is left to validate on."""
    from ct_assets.learning.volumes import fold_volumes

    config, layout = experiment.config, experiment.layout
    plan_path = derived.final_dirs(layout.root, config.derived_set or derived.FULL)[0] / "plan.json"
    if not plan_path.exists():
        raise UsageError("the final training set is not made yet: make final_train_set first")
    plan = Plan.load(plan_path)
    volumes = fold_volumes.build(experiment.manifest, FINAL, plan, layout.root, layout.store, workers)
    epochs = max(1, round(statistics.median(best_epochs)))
    shortened = config.model_copy(update={"stages": stages_of(config.stages, epochs)})
    progress.say(f"final model: {epochs} epochs, the median of the folds' best")
    folder = experiment.folder / SINGLE_DIR
    train_fold(
        LungTraining(),
        experiment,
        fold=FINAL,
        examples=examples_of(FINAL, plan, volumes, layout.store, experiment.classes),
        tracking_uri=tracking_uri,
        model_dir=folder,
        config=shortened,
    )
    return _source(SINGLE_DIR, folder, plan)


def stages_of(stages: Sequence[TrainingStage], epochs: int) -> tuple[TrainingStage, ...]:
    """Return the stages cut to so many epochs in all."""
    kept, left = [], epochs
    for stage in stages:
        if left <= 0:
            break
        kept.append(stage.model_copy(update={"epochs": min(left, stage.epochs)}))
        left -= stage.epochs
    return tuple(kept)


def _fill(
    folder: Path,
    experiment: Experiment[TrainingConfig],
    sources: Sequence[Source],
    calibration: Calibration,
    report: dict[str, Any],
) -> bundle.Bundle:
    config = experiment.config
    members = []
    for source in sources:
        weights, plan = f"{source.name}.safetensors", f"{source.name}.plan.json"
        files.write_bytes(folder / weights, source.weights.read_bytes())
        if files.sha256_file(folder / weights) != source.weights_sha256:
            raise UsageError(f"{source.weights}: was changed after its training; train it again")
        source.plan.save(folder / plan)
        members.append(
            bundle.MemberFiles(
                name=source.name,
                weights=weights,
                weights_sha256=source.weights_sha256,
                plan=plan,
                plan_digest=source.plan.digest,
            )
        )
    made = bundle.Bundle(
        experiment=experiment.name,
        kind=config.final.kind,
        stages=experiment.classes if config.stage_head is not None and len(experiment.classes) > 1 else (),
        config=config.model_copy(update={"pretrained": None}),
        config_digest=config.digest,
        manifest_digest=experiment.manifest_digest,
        members=tuple(members),
        calibration=calibration,
        conventions=bundle.CONVENTIONS,
        versions={name: version for name, version in environment().items() if name != "device"},
    ).sealed()
    files.write_json(folder / bundle.BUNDLE_NAME, made.model_dump(mode="json"))
    files.write_text(folder / CARD_NAME, model_card.write(made, experiment.manifest, report))
    return made


promote = registry.promote

"""Launching the graph from a command: as far as training's door, training, and on to the test report.

Belongs here: the order of the parts and what the person at the terminal is told. The parts themselves are
in `defs.engine.pipeline` and the assets.
"""

import time
from pathlib import Path
from typing import Literal

from ct_assets import progress
from ct_assets.defs.engine import partitions
from ct_assets.defs.engine.experiments import begin_experiment
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.pipeline import Outcome, Pipeline, run_to_the_door
from ct_assets.defs.engine.platform import Platform
from ct_assets.errors import UsageError
from ct_assets.reports import index
from ct_assets.settings import Settings
from ct_assets.settings.training import TrainingConfig, load_training_config


def run_platform(settings: Settings, until: str | None = None, training: Path | None = None) -> Outcome:
    """Do what `ct-assets run` does; raise what failed after everything else has been done."""
    config = load_training_config(training) if training else None
    Platform(settings).admit()  # before anything is opened
    with open_instance(settings) as instance:
        pipeline = Pipeline(settings, instance)
        _ = (
            pipeline.platform.key,
            pipeline.platform.profile,
        )  # what is wrong with them is told before any work
        run_to_the_door(pipeline, until)
        if config is not None and not pipeline.outcome.failed:
            _train_and_judge(pipeline, config, config.experiment)
    index.write(settings.layout)
    if not pipeline.outcome.made and not pipeline.outcome.failed:
        progress.say("nothing to do: everything is as its inputs, settings and code want it")
    pipeline.outcome.raise_failures()
    return pipeline.outcome


def train(settings: Settings, experiment: str | None, fold: str | None) -> None:
    """Launch the training partitions of one experiment, all folds or one; then its report, if all are there."""
    config = load_training_config(settings.training)
    folds = partitions.fold_names(settings)
    if fold is not None and fold not in folds:
        raise UsageError(f"--fold {fold}: the folds are {', '.join(folds)}")
    Platform(settings).admit()
    with open_instance(settings) as instance:
        pipeline = Pipeline(settings, instance)
        _train(pipeline, config, experiment or config.experiment, folds if fold is None else [fold])
        if fold is None and not pipeline.outcome.failed:
            pipeline.refresh(["cv_report"], [experiment or config.experiment])
    if not pipeline.outcome.made and not pipeline.outcome.failed:
        progress.say("nothing to do: these folds are trained on what is there")
    pipeline.outcome.raise_failures()


def steer(
    settings: Settings, experiment: str | None, fold: str | None, wish: Literal["pause", "stop"]
) -> None:
    """Ask running trainings to save everything and make way, or to end early. Raises `UsageError` if none runs."""
    from ct_assets.learning.training import control, state

    name = experiment or load_training_config(settings.training).experiment
    asked = []
    for each in [fold] if fold is not None else partitions.fold_names(settings):
        model_dir = settings.layout.fold_model(name, each)
        found = state.read(model_dir)
        if found is not None and found.is_alive:
            control.request(model_dir, wish)
            asked.append(each)
    if not asked:
        of = name if fold is None else f"{name}, fold {fold},"
        raise UsageError(
            f"nothing of {of} is being trained; `ct-assets train --status` tells where each fold stands"
        )
    progress.say(f"asked fold {', '.join(asked)} of {name} to {wish}; it does so after the step under way")


def show_training(settings: Settings, experiment: str | None) -> None:
    """Print where each fold's training stands."""
    from ct_assets.learning.training import state

    name = experiment or load_training_config(settings.training).experiment
    for fold in partitions.fold_names(settings):
        found = state.read(settings.layout.fold_model(name, fold))
        progress.say(f"{name} fold {fold}: {found.line() if found else 'not started'}")


def write_status_page(settings: Settings) -> Path:
    """Write the page and the metrics of the last day; return the page's path."""
    from ct_assets.defs.operations.alerts import write_pages

    with open_instance(settings) as instance:
        return write_pages(instance, Platform(settings), now=time.time())


def _train_and_judge(pipeline: Pipeline, config: TrainingConfig, experiment: str) -> None:
    _train(pipeline, config, experiment, partitions.fold_names(pipeline.platform.settings))
    if not pipeline.outcome.failed:
        pipeline.refresh([name for name, node in GRAPH.items() if node.group == "evaluation"], [experiment])


def _train(pipeline: Pipeline, config: TrainingConfig, experiment: str, folds: list[str]) -> None:
    begin_experiment(pipeline.platform, experiment, config)
    pipeline.add_experiment(experiment)
    pipeline.refresh(
        ["fold_model", "fold_predictions"], [partitions.join_key(experiment, fold) for fold in folds]
    )

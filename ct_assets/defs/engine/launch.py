"""Launching the graph from a command: as far as training's door, training, and on to the test report.

Belongs here: the order of the parts and what the person at the terminal is told. The parts themselves are
in `defs.engine.pipeline` and the assets.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ct_assets import progress, registry
from ct_assets.defs.engine import partitions, system_rows
from ct_assets.defs.engine.experiments import begin_experiment
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.pipeline import Outcome, Pipeline, run_to_the_door
from ct_assets.defs.engine.platform import Platform
from ct_assets.errors import UsageError
from ct_assets.reports import index
from ct_assets.settings import Settings
from ct_assets.settings.training import TrainingConfig, load_training_config

if TYPE_CHECKING:
    from ct_assets.learning.system import System

LUNG = "lung"


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


def train_system(
    settings: Settings,
    system: str,
    experiment: str | None = None,
    fold: str | None = None,
    *,
    configuration: Path | None = None,
    to_the_test: bool = False,
) -> Outcome:
    """Launch the training partitions of one experiment of a system, all folds or one; then its report, if all are there.

    What its trainings are made of is brought up to date first. `configuration` is a training configuration file.
    `to_the_test` goes on to final model and test report.
    """
    from ct_assets.defs.assets.systems import begin_experiment
    from ct_assets.learning.system import load

    loaded, entry = load(system), registry.find(system)
    folds = partitions.fold_names(settings)
    if fold is not None and fold not in folds:
        raise UsageError(f"--fold {fold}: the folds are {', '.join(folds)}")
    Platform(settings).admit()
    with open_instance(settings) as instance:
        pipeline = Pipeline(settings, instance)
        for upstream in _own_upstream(system, entry.inputs if entry is not None else ()):
            pipeline.refresh([upstream])
        if not pipeline.outcome.failed:
            name = experiment or _experiment_of(loaded, settings, configuration)
            opened = begin_experiment(pipeline.platform, loaded, name, configuration)
            of_folds = [
                system_rows.name_of(system, part) for part in (system_rows.MODEL, system_rows.PREDICTIONS)
            ]
            pipeline.add_experiment(name, GRAPH[of_folds[0]].partition or "")
            wanted = [each for each in opened.folds if fold in (None, each)]
            pipeline.refresh(of_folds, [partitions.join_key(name, each) for each in wanted])
            further = (system_rows.FINAL_MODEL, system_rows.TEST_REPORT) if to_the_test else ()
            parts = (system_rows.CV_REPORT, *further)
            if fold is None and not pipeline.outcome.failed:
                pipeline.refresh([system_rows.name_of(system, part) for part in parts], [name])
    if not pipeline.outcome.made and not pipeline.outcome.failed:
        progress.say("nothing to do: these folds are trained on what is there")
    pipeline.outcome.raise_failures()
    return pipeline.outcome


def _own_upstream(group: str, names: Sequence[str]) -> list[str]:
    """Return those of the assets and of what they are made of that a system makes itself, in order."""
    ordered: list[str] = []
    for name in names:
        if GRAPH[name].group == group:
            ordered += [*_own_upstream(group, GRAPH[name].deps), name]
    return list(dict.fromkeys(ordered))


def _experiment_of(system: "System[Any]", settings: Settings, configuration: Path | None) -> str:
    from ct_assets.settings.load import read_section

    config = read_section(configuration, system.config) if configuration else system.default_config(settings)
    return str(config.experiment)


def steer(
    settings: Settings,
    experiment: str | None,
    fold: str | None,
    wish: Literal["pause", "stop"],
    system: str = LUNG,
) -> None:
    """Ask running trainings to save everything and make way, or to end early. Raises `UsageError` if none runs."""
    from ct_assets.learning.training import control, state

    home = _folder(settings, system, experiment)
    name, asked = home.name, []
    for each in [fold] if fold is not None else partitions.fold_names(settings):
        model_dir = home / each
        found = state.read(model_dir)
        if found is not None and state.is_alive(model_dir, found):
            control.request(model_dir, wish)
            asked.append(each)
    if not asked:
        of = name if fold is None else f"{name}, fold {fold},"
        raise UsageError(
            f"nothing of {of} is being trained; `ct-assets train --status` tells where each fold stands"
        )
    progress.say(f"asked fold {', '.join(asked)} of {name} to {wish}; it does so after the step under way")


def show_training(settings: Settings, experiment: str | None, system: str = LUNG) -> None:
    """Print where each fold's training stands."""
    from ct_assets.learning.training import state

    home = _folder(settings, system, experiment)
    for fold in partitions.fold_names(settings):
        found = state.read(home / fold)
        line = found.line(is_alive=state.is_alive(home / fold, found)) if found else "not started"
        progress.say(f"{home.name} fold {fold}: {line}")


def _folder(settings: Settings, system: str, experiment: str | None) -> Path:
    """Return the folder of a system's experiment; by default of the one that its configuration names."""
    from ct_assets.learning.experiment import folder_of

    if system == LUNG:
        name = experiment or load_training_config(settings.training).experiment
    else:
        from ct_assets.learning.system import load

        name = experiment or _experiment_of(load(system), settings, None)
    return folder_of(name, settings.layout, system)


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

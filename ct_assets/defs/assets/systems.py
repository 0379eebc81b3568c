"""The five assets of a system that is trained by folds, made by one factory. Wiring only.

Belongs here: trainings, predictions, reports and final model of any registered system whose entry names its `learning`
module. What is a system's own stands in its own module of assets.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ct_assets import files, registry
from ct_assets.defs.engine import system_rows
from ct_assets.defs.engine.graph import TRAINING_POOL, asset_arguments
from ct_assets.defs.engine.partitions import split_key
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, link, running
from ct_assets.settings.load import read_section

if TYPE_CHECKING:
    from ct_assets.learning.experiment import Experiment
    from ct_assets.learning.system import System


@dataclass(frozen=True)
class SystemAssets:
    """The assets of one system, and the check on its test report."""

    assets: tuple[dg.AssetsDefinition, ...]
    test_check: dg.AssetChecksDefinition


class SystemLaunch(dg.Config):
    """What a person may choose about a training in the launchpad."""

    configuration: str | None = None
    """A training configuration file; by default the one the experiment began with, or the system's default."""


class SystemTestAccess(dg.Config):
    """What a person may choose about the one evaluation on the test set."""

    force: bool = False
    """Score it again under other settings; the report is then permanently marked."""


def begin_experiment(
    platform: Platform, system: "System[Any]", name: str, configuration: Path | None = None
) -> "Experiment[Any]":
    """Begin an experiment of a system, or open it, with the configuration of a file in force where one is named.

    Raises `UsageError` naming what differs from what the experiment was begun with.
    """
    from ct_assets.learning.experiment import Experiment, folder_of, read_record

    settings, layout = platform.settings, platform.layout
    if configuration is None:
        if read_record(folder_of(name, layout, system.name)) is not None:
            return open_experiment(platform, system, name)
        config = system.default_config(settings)
    else:
        config = read_section(configuration, system.config)
    return Experiment.begin(
        name,
        config,
        manifest=system.cohort(layout, settings, config.data_set),
        classes=system.classes(settings),
        layout=layout,
        system=system.name,
    )


def open_experiment(platform: Platform, system: "System[Any]", name: str) -> "Experiment[Any]":
    """Open an experiment that has begun. Raises `UsageError` where cohort or classes are others now."""
    from ct_assets.learning.experiment import Experiment, folder_of, read_record

    record = read_record(folder_of(name, platform.layout, system.name))
    return Experiment.open(
        name,
        manifest=system.cohort(
            platform.layout, platform.settings, None if record is None else record.derived_set
        ),
        classes=system.classes(platform.settings),
        layout=platform.layout,
        config=system.config,
        system=system.name,
    )


def assets(entry: registry.System) -> SystemAssets:
    """Return the five assets of a registered system."""
    names = {
        part: system_rows.name_of(entry.name, part)
        for part in (*system_rows.OUTPUTS, system_rows.TEST_REPORT)
    }

    @dg.asset(
        name=names[system_rows.MODEL],
        description=f"The {entry.name} model of one fold: stopped and resumed at will, tracked in MLflow.",
        pool=TRAINING_POOL,
        **asset_arguments(names[system_rows.MODEL]),
    )
    def model(
        context: dg.AssetExecutionContext, config: SystemLaunch, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        from ct_assets.learning.system import load
        from ct_assets.learning.training.control import TrainingPaused
        from ct_assets.learning.training.train import train_fold

        experiment, fold = split_key(context.partition_key)
        recorder, system = Recorder(context, platform), load(entry.name)
        with running(context):
            named = Path(config.configuration) if config.configuration else None
            opened = begin_experiment(platform, system, experiment, named)
            try:
                result = train_fold(
                    system,
                    opened,
                    fold=fold,
                    examples=system.examples(opened, fold),
                    tracking_uri=platform.tracking_uri,
                )
            except TrainingPaused:
                raise dg.Failure(
                    description=f"fold {fold} of {experiment} is paused with everything saved; launch it again to go on",
                    allow_retries=False,
                ) from None
        return recorder.result(
            names[system_rows.MODEL],
            result.digest,
            {
                "epochs": result.epochs,
                "best_epoch": result.best_epoch,
                **{f"validation_{name}": value for name, value in result.metrics.items()},
                "mlflow_run": result.run_id,
                "folder": link(platform, opened.fold(fold)),
            },
        )

    @dg.asset(
        name=names[system_rows.PREDICTIONS],
        description=f"Out-of-fold predictions of {entry.name}: the fold's validation examples.",
        **asset_arguments(names[system_rows.PREDICTIONS]),
    )
    def predictions(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        from ct_assets.learning.evaluation import out_of_fold
        from ct_assets.learning.system import load

        experiment, fold = split_key(context.partition_key)
        recorder, system = Recorder(context, platform), load(entry.name)
        with running(context):
            opened = open_experiment(platform, system, experiment)
            table = out_of_fold.predict(system, opened, fold)
        return recorder.result(
            names[system_rows.PREDICTIONS],
            files.sha256_file(opened.fold(fold) / out_of_fold.PREDICTIONS_NAME),
            {"rows": table.height, "folder": link(platform, opened.fold(fold))},
        )

    @dg.asset(
        name=names[system_rows.CV_REPORT],
        description=f"Out-of-fold figures of {entry.name}; calibration and thresholds fitted and frozen.",
        **asset_arguments(names[system_rows.CV_REPORT]),
    )
    def cv_report(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        from ct_assets.learning.evaluation import report
        from ct_assets.learning.system import load
        from ct_assets.reports import system as page

        recorder, system = Recorder(context, platform), load(entry.name)
        with running(context):
            result = report.cv_report(system, open_experiment(platform, system, context.partition_key))
            written = page.write(
                result.figures, _pages(platform, entry, "experiments", context.partition_key)
            )
        return recorder.result(
            names[system_rows.CV_REPORT],
            files.digest_of(result.figures),
            {**system.headline(result.figures), "page": link(platform, written)},
        )

    @dg.asset(
        name=names[system_rows.FINAL_MODEL],
        description=f"The {entry.name} bundle that `ct-assets predict` takes, with decisions and card.",
        pool=TRAINING_POOL,
        **asset_arguments(names[system_rows.FINAL_MODEL]),
    )
    def final_model(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        from ct_assets.learning.models import final
        from ct_assets.learning.system import load

        recorder, system = Recorder(context, platform), load(entry.name)
        with running(context):
            opened = open_experiment(platform, system, context.partition_key)
            built = final.build(system, opened, tracking_uri=platform.tracking_uri)
        return recorder.result(
            names[system_rows.FINAL_MODEL],
            built.record.digest,
            {"registered_as": built.registered_as, "bundle": link(platform, built.folder)},
        )

    @dg.asset(
        name=names[system_rows.TEST_REPORT],
        description=f"The one evaluation of {entry.name} on the test patients, decisions frozen before.",
        **asset_arguments(names[system_rows.TEST_REPORT]),
    )
    def test_report(
        context: dg.AssetExecutionContext, config: SystemTestAccess, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        from ct_assets.learning.evaluation import report
        from ct_assets.learning.system import load
        from ct_assets.reports import system as page

        recorder, system = Recorder(context, platform), load(entry.name)
        with running(context):
            opened = open_experiment(platform, system, context.partition_key)
            result = report.test_report(system, opened, force=config.force)
            written = page.write(result.figures, _pages(platform, entry, "tests", context.partition_key))
        return recorder.result(
            names[system_rows.TEST_REPORT],
            files.digest_of(result.figures),
            {**system.headline(result.figures), "page": link(platform, written)},
        )

    @dg.asset_check(
        asset=names[system_rows.TEST_REPORT],
        name="test_set_was_scored_once",
        blocking=True,
        description="The test set was scored once by this system; a forced second evaluation is permanently marked.",
    )
    def scored_once(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        from ct_assets.learning.evaluation.test_access_log import readings

        own = [
            reading
            for reading in readings(platform.layout)
            if reading.experiment.startswith(f"{entry.name}/")
        ]
        forced = sum(reading.forced for reading in own)
        return dg.AssetCheckResult(passed=not forced, metadata={"evaluations": len(own), "forced": forced})

    return SystemAssets((model, predictions, cv_report, final_model, test_report), scored_once)


def _pages(platform: Platform, entry: registry.System, kind: str, experiment: str) -> Path:
    return platform.layout.reports / entry.name / kind / experiment

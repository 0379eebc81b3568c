"""Assembles the Definitions object from the stages; nothing is declared here.

Tests hand in settings of their own; the static partitions stay those of the settings in force at import.
"""

from importlib import import_module
from typing import Any

import dagster as dg

from ct_assets import registry
from ct_assets.defs.assets import (
    audits,
    cohort,
    deid,
    evaluation,
    folds,
    intake,
    systems,
    training,
    volumes,
)
from ct_assets.defs.engine import schemas
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.lost_runs import giving_signs
from ct_assets.defs.engine.partitions import SETTINGS
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.resources import refuse_unknown
from ct_assets.defs.operations import alerts, jobs, sensors
from ct_assets.defs.operations.serving_batch import serving_batch_job
from ct_assets.settings import Settings

STAGES = (
    *(intake, deid, audits, cohort, volumes, folds, training, evaluation),
    *(import_module(system.assets) for system in registry.systems() if system.assets),
)
SYSTEMS = tuple(systems.assets(system) for system in registry.systems() if system.learning)
PRELOAD = [
    "ct_assets.definitions",
    "polars",
    "pydicom",
    # What every step's process opens the instance with; with it, alembic, the dearest import of all.
    "dagster._core.storage.sqlite_storage",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.launcher.default_run_launcher",
    "dagster._core.run_coordinator.queued_run_coordinator",
    "upath.core",
]
"""What the fork server imports once, so that a step starts in a fraction of a second."""


def build_definitions(settings: Settings = SETTINGS) -> dg.Definitions:
    """Return the whole graph over the platform that `settings` describe."""
    refuse_unknown(settings.execution.resources, GRAPH)
    heavy = {job.name: job for job in jobs.heavy_jobs(settings)}
    return dg.Definitions(
        assets=[*dg.load_assets_from_modules(STAGES), *(asset for made in SYSTEMS for asset in made.assets)],
        asset_checks=[
            *dg.load_asset_checks_from_modules(STAGES),
            *schemas.checks,
            *(made.test_check for made in SYSTEMS),
        ],
        jobs=[
            jobs.ingest_job,
            jobs.deidentify_job,
            jobs.labels_job,
            jobs.cohort_refresh_job,
            *heavy.values(),
            jobs.verify_job,
            serving_batch_job,
        ],
        sensors=[
            sensors.inbox_sensor,
            sensors.clinic_table_sensor,
            sensors.settings_sensor(heavy["folds"]),
            _automation_sensor(),
            alerts.watch,
        ],
        schedules=[sensors.nightly_verification],
        resources={"platform": Platform(settings)},
        executor=_executor(settings),
    )


def _automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """Return the sensor behind the automation conditions, running from the start."""
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes again what stands behind an input whose content changed; people launch training.",
    )


def _executor(settings: Settings) -> Any:
    """Return the executor: one process for all steps, or a fork server that has loaded the definitions."""
    if settings.execution.executor == "in_process":
        return giving_signs(dg.in_process_executor, settings.layout)
    return giving_signs(dg.multiprocess_executor, settings.layout).configured(
        {"start_method": {"forkserver": {"preload_modules": PRELOAD}}}
    )

"""Runs and steps on a Ray cluster: the launcher and the executor of `dagster-ray` under our settings.

Belongs here: their configuration, and what makes a step safe to run a second time there. The tags by which
single assets ask for resources are in `defs.engine.resources`; the cluster itself is made by others (`ray up`,
KubeRay; see docs/operate.md).
"""

from typing import Any

import dagster as dg

from ct_assets.defs.engine.lost_runs import giving_signs
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.settings.service import RaySettings

RUN_CPUS = 1
"""What a run takes itself, beside its steps; resources of the executor would override those of the assets."""
LOST_STEP = dg.RetryPolicy(max_retries=2, delay=5)
"""A step whose node is gone is begun anew on another; failures meant for people are never retried
(`defs.engine.stage.running`). An orphan that still works on the old node holds the step's lock
(`defs.engine.step_lock`)."""


def launcher_config(ray: RaySettings) -> dict[str, Any]:
    """Return `run_launcher` of `dagster.yaml`: each run is a job of the cluster."""
    _require()
    return {
        "module": "dagster_ray",
        "class": "RayRunLauncher",
        "config": {"ray": {"address": ray.address, "num_cpus": RUN_CPUS, "env_vars": _names(ray)}},
    }


def step_executor(ray: RaySettings, layout: Layout) -> dg.ExecutorDefinition:
    """Return the executor of the heavy jobs: each step is a job of the cluster, sized by its asset's tags."""
    _require()
    from dagster_ray.core.executor import ray_executor

    return giving_signs(ray_executor, layout).configured(
        {"ray": {"address": ray.address, "env_vars": _names(ray)}}
    )


def _names(ray: RaySettings) -> list[str]:
    """Return the environment variables that a job needs to load the definitions: none of them is a secret."""
    return ["CT_ASSETS_CONFIG", "CT_ASSETS_DATA", "CT_ASSETS_LABELS", "CT_ASSETS_DATABASE", *ray.environment]


def _require() -> None:
    """Refuse where the extra is not installed, before a first run would find out."""
    from importlib.util import find_spec

    missing = [module for module in ("dagster_ray", "ray") if find_spec(module) is None]
    if missing:
        raise UsageError("service.ray needs the extra `ray`: pip install 'ct-assets[ray]'")

"""What the steps of each asset ask of a cluster, as the tags that Ray and Kubernetes read.

Belongs here: figures an asset, their override by the settings (`execution.resources`), and the two renderings.
On one machine they mean nothing: there the queue's limits and the pool `training` hold things apart.
"""

import json
from collections.abc import Mapping
from typing import Any

from ct_assets import registry
from ct_assets.defs.engine import partitions, system_rows
from ct_assets.errors import UsageError
from ct_assets.settings.service import Resources

RAY_TAG, K8S_TAG = "dagster-ray/config", "dagster-k8s/config"
GIB = 1 << 30

SMALL = Resources(cpus=1, memory_gb=2)
DEFAULTS: dict[str, Resources] = {
    "deid_dicom": Resources(cpus=4, memory_gb=8),
    "metadata_audit": Resources(cpus=4, memory_gb=4),
    "nifti_cohort": Resources(cpus=4, memory_gb=8),
    "fold_plan": Resources(cpus=4, memory_gb=8),
    "fold_volumes": Resources(cpus=4, memory_gb=8),
    "split_drift": Resources(cpus=2, memory_gb=8),
    "fold_model": Resources(cpus=4, memory_gb=24),
    "fold_predictions": Resources(cpus=2, memory_gb=16),
    "final_train_set": Resources(cpus=4, memory_gb=8),
    "final_test_set": Resources(cpus=4, memory_gb=8),
    "final_model": Resources(cpus=4, memory_gb=24),
    "test_report": Resources(cpus=2, memory_gb=16),
    "derived_set": Resources(cpus=4, memory_gb=8),
    "brain_features": Resources(cpus=4, memory_gb=4),
    "brain_fold_model": Resources(cpus=4, memory_gb=8),
    "brain_selection": Resources(cpus=4, memory_gb=8),
    "brain_final_model": Resources(cpus=4, memory_gb=8),
    "brain_test_report": Resources(cpus=2, memory_gb=8),
}
"""Where one processor and two gigabytes are not enough. No asset asks for a GPU by itself: a cluster without
one would keep the step waiting for ever. `execution: {resources: {fold_model: {gpus: 1, …}}}` asks for it."""


def of(name: str, overrides: Mapping[str, Resources]) -> Resources:
    """Return what the steps of asset `name` ask for."""
    return overrides.get(name) or DEFAULTS.get(name) or _of_system(name)


def _of_system(name: str) -> Resources:
    """Return what the assets of a system that is trained by folds ask for."""
    for system in registry.systems():
        if system.learning and (part := system_rows.part_of(system, name)):
            return system_rows.RESOURCES.get(part, SMALL)
    return SMALL


def op_tags(name: str) -> dict[str, Any]:
    """Return an asset's tags under the settings in force when the definitions were loaded."""
    asked = of(name, partitions.SETTINGS.execution.resources)
    return {RAY_TAG: json.dumps(for_ray(asked)), K8S_TAG: for_kubernetes(asked)}


def for_ray(asked: Resources) -> dict[str, Any]:
    """Return the part of `dagster-ray/config`; memory in bytes."""
    wanted: dict[str, Any] = {"num_cpus": asked.cpus, "memory": round(asked.memory_gb * GIB)}
    return wanted | ({"num_gpus": asked.gpus} if asked.gpus else {})


def for_kubernetes(asked: Resources) -> dict[str, Any]:
    """Return the part of `dagster-k8s/config`: requests, and limits on memory and GPU (not on processors)."""
    memory = f"{round(asked.memory_gb * 1024)}Mi"
    gpus = {"nvidia.com/gpu": str(asked.gpus)} if asked.gpus else {}
    requests = {"cpu": f"{round(asked.cpus * 1000)}m", "memory": memory}
    return {
        "container_config": {
            "resources": {"requests": {**requests, **gpus}, "limits": {"memory": memory, **gpus}}
        }
    }


def refuse_unknown(overrides: Mapping[str, Resources], assets: Mapping[str, Any]) -> None:
    """Raise `UsageError` where the settings give resources to an asset that does not exist."""
    if unknown := sorted(overrides.keys() - assets.keys()):
        raise UsageError(f"execution.resources: no asset {', '.join(unknown)}; there are {', '.join(assets)}")

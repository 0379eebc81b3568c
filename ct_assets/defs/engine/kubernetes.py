"""Runs and steps as Kubernetes jobs: the launcher and the executor of `dagster-k8s` under our settings.

Belongs here: what every pod that works gets (image, account, settings, secrets, data). What single assets ask
for (processors, memory, GPUs) is in `defs.engine.resources`; the standing parts are the manifests of `deploy/k8s`.
"""

from importlib.util import find_spec
from typing import Any

import dagster as dg

from ct_assets.errors import UsageError
from ct_assets.settings.service import KubernetesSettings

DATA_ROOT = "/data"
SETTINGS_FOLDER = "/etc/ct-assets"
POD_HOME = "/opt/dagster/home"
USER = 10001
"""The user of the image (`deploy/Dockerfile`)."""
LOST_STEP = dg.RetryPolicy(max_retries=2, delay=5)
"""A step whose pod is gone is begun anew; failures meant for people are never retried."""


def launcher_config(kubernetes: KubernetesSettings) -> dict[str, Any]:
    """Return `run_launcher` of `dagster.yaml`: each run is a job of the cluster."""
    _require()
    inside = kubernetes.kubeconfig is None
    return {
        "module": "dagster_k8s",
        "class": "K8sRunLauncher",
        "config": {
            "job_namespace": kubernetes.namespace,
            "service_account_name": kubernetes.service_account,
            "job_image": kubernetes.image,
            "image_pull_policy": kubernetes.pull_policy,
            "dagster_home": POD_HOME,
            "instance_config_map": kubernetes.instance_config_map,
            "load_incluster_config": inside,
            **({} if inside else {"kubeconfig_file": kubernetes.kubeconfig}),
            "env_secrets": [kubernetes.secret],
            "env_vars": [f"CT_ASSETS_CONFIG={SETTINGS_FOLDER}/settings.yaml", f"CT_ASSETS_DATA={DATA_ROOT}"],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": kubernetes.data_claim}},
                {"name": "settings", "configMap": {"name": kubernetes.settings_config_map}},
            ],
            "volume_mounts": [
                {"name": "data", "mountPath": DATA_ROOT},
                {"name": "settings", "mountPath": SETTINGS_FOLDER, "readOnly": True},
            ],
            "run_k8s_config": {
                # What a namespace of the standard "restricted" asks of every pod.
                "pod_spec_config": {
                    "security_context": {
                        "run_as_non_root": True,
                        "run_as_user": USER,
                        "fs_group": USER,
                        "seccomp_profile": {"type": "RuntimeDefault"},
                    }
                },
                "container_config": {
                    "security_context": {
                        "allow_privilege_escalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    }
                },
                "job_spec_config": {"ttl_seconds_after_finished": 86400},
            },
            "fail_pod_on_run_failure": True,
        },
    }


def step_executor() -> dg.ExecutorDefinition:
    """Return the executor of the heavy jobs: each step is a job of the cluster, sized by its asset's tags."""
    _require()
    from dagster_k8s import k8s_job_executor

    return k8s_job_executor


def _require() -> None:
    """Refuse where the extra is not installed, before a first run would find out."""
    if find_spec("dagster_k8s") is None:
        raise UsageError("service.kubernetes needs the extra `k8s`: pip install 'ct-assets[k8s]'")

"""The jobs: named selections of the graph, and the nightly verification.

Belongs here: what can be launched by name.
"""

from collections import Counter
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import running
from ct_assets.settings import Settings


def _of_groups(*groups: str) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*(name for name, node in GRAPH.items() if node.group in groups))


ingest_job = dg.define_asset_job(
    "ingest",
    dg.AssetSelection.assets(*(name for name, node in GRAPH.items() if node.partition == "batch")),
    description="Register one batch, de-identify it, audit its headers.",
)
deidentify_job = dg.define_asset_job(
    "deidentify_again",
    _of_groups("deid"),
    description="De-identify one batch again; what follows from it is made by itself.",
)
labels_job = dg.define_asset_job(
    "labels_refresh", dg.AssetSelection.assets("labels"), description="Read the clinic's table again."
)
cohort_refresh_job = dg.define_asset_job(
    "cohort_refresh",
    dg.AssetSelection.assets(
        *(name for name, node in GRAPH.items() if node.partition is None and node.automated)
    ),
    description="Audit, judge and convert the cohort as it is now.",
)
HEAVY_JOBS = {
    "folds": ("folds", "Plan, volumes and drift of one fold."),
    "cross_validation": ("training", "Train and predict one fold of one experiment."),
    "final_training": (
        "evaluation",
        "Report over the folds, final model, and the one evaluation on the test set.",
    ),
}
"""Jobs whose steps are worth a machine of their own: the group of assets and what the job is for."""


def heavy_jobs(settings: Settings) -> list[UnresolvedAssetJobDefinition]:
    """Return the heavy jobs; on a cluster each step is a job of its own, begun anew if it is lost."""
    ray = settings.service.ray
    elsewhere: dict[str, Any] = {}
    if ray is not None and ray.launch in ("steps", "both"):
        from ct_assets.defs.engine.ray import LOST_STEP, step_executor

        elsewhere = {"executor_def": step_executor(ray, settings.layout), "op_retry_policy": LOST_STEP}
    elif settings.service.kubernetes is not None:
        from ct_assets.defs.engine import kubernetes

        elsewhere = {"executor_def": kubernetes.step_executor(), "op_retry_policy": kubernetes.LOST_STEP}
    return [
        dg.define_asset_job(name, _of_groups(group), description=description, **elsewhere)
        for name, (group, description) in HEAVY_JOBS.items()
    ]


@dg.op(description="Hold every released file against the digest that the audit gives.")
def verify_released_files(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    """Fail where files are altered, missing or unknown, with their number a batch; the command names them."""
    from ct_assets.deid.proof.verify import verify_store

    with running(context):
        verified = verify_store(platform.layout, platform.workers)
    by_kind = Counter((fault.batch, fault.kind) for fault in verified.faults)
    for (batch, kind), count in sorted(by_kind.items()):
        context.log.error(f"batch {batch}: {count} released files {kind}")
    if verified.faults:
        raise dg.Failure(
            description=f"{len(verified.faults)} released files do not match the audit: run `ct-assets verify`",
            allow_retries=False,
        )
    context.log.info(f"{verified.files} released files are as the audit says")


@dg.job(name="verify", description="Hold the store of released files against the audit.")
def verify_job() -> None:
    """Hold the store of released files against the audit."""
    verify_released_files()

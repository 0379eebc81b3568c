"""The jobs: named selections of the graph, and the nightly verification.

Belongs here: what can be launched by name.
"""

from collections import Counter

import dagster as dg

from ct_assets.defs.graph import GRAPH
from ct_assets.defs.platform import Platform
from ct_assets.defs.stage import running


def _of_groups(*groups: str) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*(name for name, node in GRAPH.items() if node.group in groups))


ingest_job = dg.define_asset_job(
    "ingest",
    dg.AssetSelection.assets(*(name for name, node in GRAPH.items() if node.partition == "batch")),
    description="Register one batch, de-identify it, audit its headers.",
)
cohort_refresh_job = dg.define_asset_job(
    "cohort_refresh",
    dg.AssetSelection.assets(
        *(name for name, node in GRAPH.items() if node.partition is None and node.automated)
    ),
    description="Audit, judge and convert the cohort as it is now.",
)
fold_job = dg.define_asset_job(
    "folds", _of_groups("folds"), description="Plan, volumes and drift of one fold."
)
cross_validation_job = dg.define_asset_job(
    "cross_validation", _of_groups("training"), description="Train and predict one fold of one experiment."
)
final_training_job = dg.define_asset_job(
    "final_training",
    _of_groups("evaluation"),
    description="Report over the folds, final model, and the one evaluation on the test set.",
)


@dg.op(description="Hold every released file against the digest that the audit gives.")
def verify_released_files(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
    """Fail where files are altered, missing or unknown, with their number a batch; the command names them."""
    from ct_assets.deid.verify import verify_store

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

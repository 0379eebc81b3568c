"""Intake assets: a batch is registered. Wiring only; the work is in `ct_assets.intake`."""

import dagster as dg

from ct_assets.defs.engine.graph import asset_arguments
from ct_assets.defs.engine.partitions import BATCH
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, link


@dg.asset(
    **asset_arguments("dicom_batch"),
    check_specs=[
        dg.AssetCheckSpec(
            "complete_and_unaltered",
            asset="dicom_batch",
            blocking=True,
            description="Every file of the marker is there, and its digest is the one the marker gives.",
        )
    ],
)
def dicom_batch(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """One delivery of a hospital, verified against its marker and moved out of the inbox, never changed after."""
    from ct_assets.intake.batches import NothingLeftError, register

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        try:
            registered = register(inputs.layout, context.partition_key, inputs.withdrawn)
        except NothingLeftError:
            context.instance.delete_dynamic_partition(BATCH, context.partition_key)
            raise
    return recorder.result(
        "dicom_batch",
        registered.marker_digest,
        {
            "files": registered.files,
            "megabytes": round(registered.bytes / 1e6, 1),
            "folder": link(platform, platform.layout.raw_batch(context.partition_key)),
        },
        [
            dg.AssetCheckResult(
                check_name="complete_and_unaltered", passed=True, metadata={"files": registered.files}
            )
        ],
    )

"""Audit assets: the header table of a batch, the CT preprocessing audit of the cohort. Wiring only."""

import dagster as dg

from ct_assets import files
from ct_assets.defs.engine.graph import asset_arguments
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, counts, link, table_metadata
from ct_assets.tables.audits import MetadataAudit, PatientAudit


@dg.asset(**asset_arguments("metadata_audit"))
def metadata_audit(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The headers of a batch's released instances: a row an instance, typed columns with units in their names."""
    from ct_assets.cohort.metadata_audit import write_batch

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        layout = inputs.layout
        table = write_batch(layout, context.partition_key, workers=inputs.workers)
    path = layout.metadata_audit(context.partition_key)
    return recorder.result(
        "metadata_audit",
        files.sha256_file(path),
        {**table_metadata(table, MetadataAudit), "file": link(platform, path)},
    )


@dg.asset(**asset_arguments("ct_prepro_audit"))
def ct_prepro_audit(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Series, geometry and masks of the whole cohort: principal series, decisions and reason codes."""
    from ct_assets.cohort.ct_prepro_audit import build, remembered
    from ct_assets.cohort.metadata_audit import read_cohort

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        layout = inputs.layout
        audit = build(
            read_cohort(layout),
            layout.released,
            inputs.setting("audit"),
            inputs.setting("conversion.masks"),
            before=remembered(layout.ct_prepro_dir),
            workers=inputs.workers,
        )
        audit.write(layout.ct_prepro_dir)
    return recorder.result(
        "ct_prepro_audit",
        audit.digest,
        {
            "patients": audit.patients.height,
            "series": audit.series.height,
            "masks": audit.masks.height,
            "decisions": counts(dict(audit.series.group_by("decision").len().iter_rows())),
            **table_metadata(audit.patients, PatientAudit),
            "file": link(platform, layout.ct_prepro_audit),
        },
    )

"""The NIfTI cache of the cohort. Wiring only; the work is in `ct_assets.imaging.nifti_cohort`."""

import dagster as dg
import polars as pl

from ct_assets import files, tables
from ct_assets.defs.assets.folds import read_manifest
from ct_assets.defs.engine.graph import asset_arguments
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import VIEWER_URL, Recorder, link, table_metadata
from ct_assets.tables.volumes import NiftiDigests


@dg.asset(**asset_arguments("nifti_cohort"))
def nifti_cohort(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Image and mask of every case as NIfTI, HU exact, positions proven; only what changed is made again."""
    from ct_assets.cohort.metadata_audit import read_cohort
    from ct_assets.imaging.nifti_cohort import build
    from ct_assets.reports.cases import write_pages

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        layout = inputs.layout
        summary = build(
            inputs.table("cohort_manifest"),
            read_cohort(layout),
            layout.released,
            layout,
            inputs.setting("conversion"),
            inputs.setting("audit"),
            workers=inputs.workers,
        )
        write_pages(layout, summary.digests, made=summary.made_cases, workers=inputs.workers)
    return recorder.result(
        "nifti_cohort",
        files.sha256_file(layout.nifti_digests),
        {
            "cases": summary.cases,
            "made": summary.made,
            "unchanged": summary.unchanged,
            "refused": summary.refused,
            **table_metadata(summary.digests, NiftiDigests),
            "folder": link(platform, layout.nifti),
            "viewer": dg.MetadataValue.url(f"{VIEWER_URL}/"),
            "contact_sheet": link(platform, summary.contact_sheet),
        },
    )


@dg.asset_check(
    asset="nifti_cohort",
    blocking=True,
    description="Every case of the manifest has its image and its mask, or a refusal with its reason; nothing is lost.",
)
def every_case_has_its_pair(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    """Look for every file that the manifest names, and for the refusal of those that are not there."""
    refused = set(_digests(platform).filter(pl.col("status") == "refused")["case_id"])
    manifest = read_manifest(platform)
    missing = [
        row["case_id"]
        for row in manifest.iter_rows(named=True)
        if row["case_id"] not in refused
        and not all((platform.layout.root / row[column]).is_file() for column in ("image", "label"))
    ]
    return dg.AssetCheckResult(passed=not missing, metadata={"missing": missing, "cases": manifest.height})


@dg.asset_check(
    asset="nifti_cohort",
    description="No eligible case was refused when its pixels were read; a refused one takes part in no fold.",
)
def no_case_is_refused(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    """Warn of cases whose headers promised what their pixels did not hold."""
    refused = _digests(platform).filter(pl.col("status") == "refused")
    return dg.AssetCheckResult(
        passed=refused.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "refused": refused.height,
            "reasons": sorted(set(refused["reasons"].explode().drop_nulls())),
        },
    )


def _digests(platform: Platform) -> pl.DataFrame:

    return tables.read_table(platform.layout.nifti_digests, NiftiDigests)

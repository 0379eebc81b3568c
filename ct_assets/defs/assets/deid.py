"""De-identification assets, made in one pass over a batch. Wiring only; the work is in `ct_assets.deid`."""

from collections.abc import Iterator

import dagster as dg

from ct_assets import files
from ct_assets.defs.engine.graph import asset_arguments, spec_arguments
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, counts, link
from ct_assets.errors import SafetyError, UsageError

LEAK_SCAN = "leak_scan_finds_nothing"
NOTHING_LOST = "every_file_has_a_disposition"
UIDS_REPLACED = "no_original_uid_is_left"
REFERENCES = "references_resolve_within_the_batch"

DESCRIPTIONS = {
    "deid_dicom": "Released instances: de-identified by PS3.15 Annex E, pixel data untouched, UIDs and dates consistent.",
    "deid_audit": "One line an instance: what became of every element, by which rule; no original value.",
    "uid_map": "The crosswalk (restricted): UID graph, patients and files, old to new.",
}


def _specs() -> list[dg.AssetSpec]:
    specs = []
    for name, description in DESCRIPTIONS.items():
        specs.append(dg.AssetSpec(name, description=description, skippable=True, **spec_arguments(name)))
    return specs


@dg.multi_asset(
    name="deidentify",
    specs=_specs(),
    partitions_def=asset_arguments("deid_dicom")["partitions_def"],
    op_tags=asset_arguments("deid_dicom")["op_tags"],
    check_specs=[
        dg.AssetCheckSpec(
            LEAK_SCAN,
            asset="deid_dicom",
            blocking=True,
            description="No identifier and no original UID of the batch stands in anything that is released.",
        ),
        dg.AssetCheckSpec(
            NOTHING_LOST,
            asset="deid_audit",
            blocking=True,
            description="Every file of the delivery is released, quarantined or rejected, with reason codes.",
        ),
        dg.AssetCheckSpec(
            UIDS_REPLACED,
            asset="uid_map",
            blocking=True,
            description="The map is one-to-one, and no released object bears an original UID.",
        ),
        dg.AssetCheckSpec(
            REFERENCES,
            asset="uid_map",
            description="UIDs that are referenced but not in this batch; the cohort judges them over all batches.",
        ),
    ],
)
def deidentify(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """De-identify one batch: engine, UID graph, burned-in text, leak scan; on a leak nothing is released."""
    from ct_assets.deid.batch.run import deidentify as run
    from ct_assets.deid.proof.checks import lost_files, uid_map_faults
    from ct_assets.intake.retired import is_retired

    batch = context.partition_key
    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        layout = inputs.layout
        raw, paths = layout.raw_batch(batch), layout.deid_paths(batch)
        if is_retired(layout, batch):
            raise UsageError(
                f"batch {batch}: its originals went when their time was over (keeping.raw_days); to make it anew, "
                "have it delivered again"
            )
        files.require_space(layout.root, files.tree_size(raw), f"de-identifying {batch}")
        try:
            summary = run(
                raw,
                paths,
                inputs.setting("profile"),
                inputs.key,
                labels_csv=inputs.file("labels.csv"),
                refused=inputs.withdrawn,
                workers=inputs.workers,
            )
        except SafetyError:
            yield dg.AssetCheckResult(asset_key="deid_dicom", check_name=LEAK_SCAN, passed=False)
            raise
    lost = lost_files(raw, paths)
    faults = uid_map_faults(paths)
    checks = {
        "deid_dicom": [dg.AssetCheckResult(asset_key="deid_dicom", check_name=LEAK_SCAN, passed=True)],
        "deid_audit": [
            dg.AssetCheckResult(
                asset_key="deid_audit", check_name=NOTHING_LOST, passed=not lost, metadata={"lost": len(lost)}
            )
        ],
        "uid_map": [
            dg.AssetCheckResult(
                asset_key="uid_map", check_name=UIDS_REPLACED, passed=not faults, metadata={"faults": faults}
            ),
            dg.AssetCheckResult(
                asset_key="uid_map",
                check_name=REFERENCES,
                passed=summary.dangling_references == 0,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"unresolved": summary.dangling_references},
            ),
        ],
    }
    if lost or faults:
        for results in checks.values():
            yield from results
        raise dg.Failure(description="a safety check of the de-identification failed", allow_retries=False)
    common = {
        "released": summary.released,
        "quarantined": summary.quarantined,
        "rejected": summary.rejected,
        "reasons": counts(summary.reasons),
        "patients": summary.patients,
        "page": link(platform, paths.report),
    }
    shown = {key: common[key] for key in ("released", "quarantined", "rejected", "patients")}
    files.write_json(paths.audit.with_name("summary.json"), {**shown, "reasons": dict(summary.reasons)})
    yield recorder.result(
        "deid_dicom",
        files.sha256_file(paths.audit),
        {**common, "folder": link(platform, paths.dicom)},
        checks["deid_dicom"],
    )
    yield recorder.result(
        "deid_audit",
        files.sha256_file(paths.audit),
        {**common, "file": link(platform, paths.audit)},
        checks["deid_audit"],
    )
    yield recorder.result(
        "uid_map",
        files.digest_of([files.sha256_file(paths.uid_map), files.sha256_file(paths.patient_map)]),
        {"unresolved_references": summary.dangling_references, "patients": summary.patients},
        checks["uid_map"],
    )

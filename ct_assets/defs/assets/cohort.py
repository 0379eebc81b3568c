"""Cohort assets: labels, eligibility, splits, manifest. Wiring only; the rules are in `ct_assets.cohort`."""

from datetime import UTC, datetime

import dagster as dg
import polars as pl

from ct_assets import files, tables
from ct_assets.defs.assets.folds import read_manifest
from ct_assets.defs.engine.graph import asset_arguments
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, counts, link, table_metadata
from ct_assets.errors import SafetyError
from ct_assets.layout import Layout
from ct_assets.tables.cohort import CohortManifest, Eligibility, Labels


@dg.asset(**asset_arguments("labels"))
def labels(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    """The clinic's labels keyed by pseudonym; every row of the table is used or reported, none guessed."""
    from ct_assets.cohort.labels import build, write

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        layout, settings = inputs.layout, inputs.setting("labels")
        table, report = build(settings, inputs.key, read_patient_maps(layout))
        write(table, report, layout, settings)
    return recorder.result(
        "labels",
        files.sha256_file(layout.labels),
        {
            "patients": table.height,
            "labelled": table.height - int(table["stage"].null_count()),
            "rows": report.height,
            "reasons": counts(_by_code(report, "reasons")),
            **table_metadata(table, Labels),
        },
    )


@dg.asset(**asset_arguments("eligibility"))
def eligibility(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Who may enter the cohort: each condition of `eligibility.sql` met or not met, and why not."""
    from ct_assets.cohort.eligibility import judge, write

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        layout = inputs.layout
        judged = judge(
            {
                "labels": inputs.table("labels", site_columns=True),
                **{name: inputs.table(name) for name in ("label_report", "patients", "series", "masks")},
            },
            inputs.setting("eligibility"),
        )
        write(judged, layout)
    return recorder.result(
        "eligibility",
        files.sha256_file(layout.eligibility),
        {
            "eligible": int(judged["is_eligible"].sum()),
            "excluded": int((~judged["is_eligible"]).sum()),
            "reasons": counts(_by_code(judged, "reasons")),
            **table_metadata(judged, Eligibility),
            "excluded_list": link(platform, layout.excluded),
        },
    )


@dg.asset(**asset_arguments("splits"))
def splits(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    """The append-only ledger: who is tested, which fold validates whom; nobody ever moves."""
    from ct_assets.cohort import splits_record
    from ct_assets.cohort.manifest import patients_to_split
    from ct_assets.cohort.splits import extend
    from ct_assets.cohort.splits_given import from_file
    from ct_assets.identity.withdrawn import tombstone_of
    from ct_assets.tables.cohort import SplitLedger

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        layout = inputs.layout
        ledger = inputs.table("splits") if layout.splits.exists() else None
        patients = patients_to_split(inputs.table("eligibility"), inputs.table("labels"))
        chosen, now = inputs.setting("splits"), datetime.now(UTC)
        given = inputs.file("splits.given")
        faults = splits_record.faults(layout.splits_record, ledger)
        if faults and ledger is None:
            raise SafetyError(f"{faults[0].code}: {faults[0].sentence}")
        if faults and ledger is not None:
            # Left as it is: adding rows would chain it anew. The blocking check tells what is wrong.
            extended = ledger
        elif given is None:
            extended = extend(ledger, patients, chosen, now, tombstone=tombstone_of(inputs.key))
        else:
            extended = from_file(given, _with_case_ids(patients, layout), chosen, now, ledger)
        if ledger is None or extended.height > ledger.height:
            tables.write_table(layout.splits, extended, SplitLedger)
        if not faults:
            splits_record.write(layout.splits_record, extended)
    before = 0 if ledger is None else ledger.height
    return recorder.result(
        "splits",
        files.digest_of(extended["row_digest"].to_list()),
        {
            "patients": extended.height,
            "added": extended.height - before,
            "sizes": counts(
                {
                    f"{split} {fold if fold is not None else ''}".strip(): size
                    for split, fold, size in extended.group_by("split", "fold").len().iter_rows()
                }
            ),
        },
    )


@dg.asset_check(
    asset="splits",
    blocking=True,
    description="No patient, study, frame of reference or pixel digest stands in two splits.",
)
def no_patient_in_two_splits(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    """Look for identities on both sides of a split."""
    from ct_assets.cohort.metadata_audit import read_identities
    from ct_assets.cohort.splits_checks import IDENTITIES, leakage
    from ct_assets.tables.cohort import SplitLedger

    ledger = tables.read_table(platform.layout.splits, SplitLedger)
    findings = leakage(ledger, read_identities(platform.layout, IDENTITIES))
    return dg.AssetCheckResult(passed=findings.is_empty(), metadata={"kinds": sorted(set(findings["kind"]))})


@dg.asset_check(asset="splits", blocking=True, description="The ledger was only ever added to.")
def ledger_was_not_rewritten(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    """Hold the chain of row digests, and each row against what is remembered of it outside the ledger."""
    from ct_assets.cohort import splits_record
    from ct_assets.tables.cohort import SplitLedger

    layout = platform.layout
    faults = splits_record.faults(layout.splits_record, tables.read_table(layout.splits, SplitLedger))
    return dg.AssetCheckResult(
        passed=not faults,
        metadata={"faults": len(faults), "first": [f"{one.code}: {one.sentence}" for one in faults[:5]]},
    )


@dg.asset_check(
    asset="splits", description="Every training part holds every class, and the folds asked for are possible."
)
def splits_are_workable(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    """Warn of training parts without a class, of too few patients, of corrected labels."""
    from ct_assets.cohort.splits_checks import warnings
    from ct_assets.tables.cohort import SplitLedger

    layout = platform.layout
    found = warnings(
        tables.read_table(layout.splits, SplitLedger),
        tables.read_table(layout.labels, Labels),
    )
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"warnings": [warned.sentence for warned in found]},
    )


@dg.asset(**asset_arguments("cohort_manifest"))
def cohort_manifest(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The cases that training may use: eligible patients with their case number, split, image and mask."""
    from ct_assets.cohort.manifest import build, write
    from ct_assets.identity.withdrawn import tombstone_of

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        layout = inputs.layout
        built = build(
            eligibility=inputs.table("eligibility"),
            labels=inputs.table("labels"),
            splits=inputs.table("splits"),
            patients=inputs.table("patients"),
            series=inputs.table("series"),
            masks=inputs.table("masks"),
            layout=layout,
            tombstone=tombstone_of(inputs.key),
        )
        write(built, layout)
    manifest = built.manifest
    return recorder.result(
        "cohort_manifest",
        files.sha256_file(layout.cohort_manifest),
        {
            "cases": manifest.height,
            "splits": counts(dict(manifest.group_by("split").len().iter_rows())),
            "stages": counts(
                {str(stage): size for stage, size in manifest.group_by("stage").len().iter_rows()}
            ),
            **table_metadata(manifest, CohortManifest),
        },
    )


@dg.asset_check(
    asset="cohort_manifest",
    blocking=True,
    description="Manifest and eligibility agree, case numbers never changed, no patient stands in two splits.",
)
def manifest_is_consistent(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    """Hold the manifest against eligibility, ledger and case numbers."""
    from ct_assets.tables.cohort import CaseNumbers, SplitLedger

    layout = platform.layout
    manifest = read_manifest(platform)
    eligible = tables.read_table(layout.eligibility, Eligibility).filter("is_eligible")
    numbers = tables.read_table(layout.case_numbers, CaseNumbers)
    ledger = tables.read_table(layout.splits, SplitLedger)
    faults = {
        "not eligible": manifest.join(eligible, on="patient_id", how="anti").height,
        "eligible, not in the manifest": eligible.join(manifest, on="patient_id", how="anti").height,
        "other case number": manifest.join(numbers, on=["patient_id", "case_id"], how="anti").height,
        "other split": manifest.join(ledger, on=["patient_id", "split"], how="anti").height,
        "two splits": int(
            (manifest.group_by("patient_id").agg(pl.col("split").n_unique())["split"] > 1).sum()
        ),
    }
    return dg.AssetCheckResult(passed=not any(faults.values()), metadata={"faults": counts(faults)})


@dg.asset_check(
    asset="ct_prepro_audit",
    description="References that no batch resolves: judged over the cohort, since CT and SEG may come apart.",
)
def references_resolve_over_the_cohort(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    """Warn of mask objects whose series no batch delivered."""
    from ct_assets.tables.audits import MaskAudit

    masks = tables.read_table(platform.layout.ct_prepro_dir / "masks.parquet", MaskAudit)
    dangling = masks.filter(~pl.col("is_referenced_series_present")).height
    return dg.AssetCheckResult(
        passed=dangling == 0, severity=dg.AssetCheckSeverity.WARN, metadata={"unresolved": dangling}
    )


def read_patient_maps(layout: Layout) -> pl.DataFrame:
    """Return the patient maps of all batches (restricted): who has which pseudonym."""
    from ct_assets.tables.deid import PatientMap

    found = sorted(layout.uid_maps.glob("*/patient_map.parquet"))
    maps = [tables.read_table(path, PatientMap) for path in found]
    joined = pl.concat(maps).unique(maintain_order=True) if maps else tables.frame([], PatientMap)
    return joined.sort(["new_patient_id", "old_patient_id"])


def _with_case_ids(patients: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Return the patients with the case numbers that they have; who has none yet goes by the pseudonym."""
    from ct_assets.tables.cohort import CaseNumbers

    if not layout.case_numbers.exists():
        return patients.with_columns(case_id=pl.col("patient_id"))
    numbers = tables.read_table(layout.case_numbers, CaseNumbers).select("patient_id", "case_id")
    joined = patients.join(numbers, on="patient_id", how="left")
    return joined.with_columns(pl.col("case_id").fill_null(pl.col("patient_id")))


def _by_code(table: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(table.select(pl.col(column).explode()).drop_nulls().to_series().value_counts().iter_rows())

"""What each fold knows: plan, volumes, drift. Wiring only; the work is in `ct_assets.learning` and `cohort.drift`."""

import dagster as dg
import polars as pl

from ct_assets import files, tables
from ct_assets.defs.engine.graph import asset_arguments
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, link, table_metadata

PARTITION_NAME_TAG = "dagster/partition"


def read_manifest(platform: Platform) -> pl.DataFrame:
    """Return the cohort manifest."""
    from ct_assets.tables.cohort import CohortManifest

    return tables.read_table(platform.layout.cohort_manifest, CohortManifest)


def read_header_factors(platform: Platform, manifest: pl.DataFrame) -> pl.DataFrame:
    """Return the header factors of each case's CT series: a row a case."""
    from ct_assets.cohort.drift import header_factors
    from ct_assets.tables.audits import SeriesAudit

    series = tables.read_table(platform.layout.ct_prepro_dir / "series.parquet", SeriesAudit)
    return header_factors(manifest, series)


@dg.asset(**asset_arguments("fold_plan"))
def fold_plan(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Target spacing, intensities, crop and patch: a function of this fold's training patients and settings."""
    from ct_assets.cohort.drift import header_factors
    from ct_assets.learning.volumes.plan import build_plan

    recorder = Recorder(context, platform)
    fold = context.partition_key
    with recorder.running() as inputs:
        layout, manifest = inputs.layout, inputs.table("cohort_manifest")
        plan = build_plan(
            manifest,
            fold,
            layout.root,
            layout.store,
            inputs.setting("plan"),
            workers=inputs.workers,
            header_factors=header_factors(manifest, inputs.table("series")),
        )
        plan.save(layout.plan(fold))
    return recorder.result(
        "fold_plan",
        plan.digest,
        {
            "training_patients": plan.training_patients,
            "target_spacing_mm": list(plan.target_spacing_mm),
            "intensity": plan.intensity.model_dump(mode="json"),
            "patch_size": list(plan.patch_size),
            "file": link(platform, layout.plan(fold)),
        },
    )


@dg.asset_check(
    asset="fold_plan",
    blocking=True,
    description="Made anew from the files of the training patients alone, the plan is the same.",
)
def plan_knows_training_patients_only(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    """Recompute the fold's plan from a manifest that holds only its training patients.

    In a run over one partition that fold is judged: plans of other folds may be waiting to be made again.
    """
    from ct_assets.learning.volumes.plan import Plan, build_plan, training_rows

    layout = platform.layout
    manifest = read_manifest(platform)
    fold_of_run = context.run.tags.get(PARTITION_NAME_TAG)
    folds = (
        [fold_of_run]
        if fold_of_run
        else sorted(path.parent.name for path in layout.folds.glob("*/plan.json"))
    )
    differing = []
    for fold in folds:
        training = training_rows(manifest, fold)
        again = build_plan(
            training,
            fold,
            layout.root,
            layout.store,
            platform.settings,
            workers=1,
            header_factors=read_header_factors(platform, training),
        )
        if again.digest != Plan.load(layout.plan(fold)).digest:
            differing.append(fold)
    return dg.AssetCheckResult(passed=not differing, metadata={"folds": folds, "differing": differing})


@dg.asset(**asset_arguments("fold_volumes"))
def fold_volumes(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The fold's volumes at its plan's spacing, in a store that folds share by content (ephemeral)."""
    from ct_assets.learning.volumes.fold_volumes import build
    from ct_assets.learning.volumes.plan import Plan
    from ct_assets.tables.folds import FoldVolumes

    recorder = Recorder(context, platform)
    fold = context.partition_key
    with recorder.running() as inputs:
        layout = inputs.layout
        volumes = build(
            inputs.table("cohort_manifest"),
            fold,
            Plan.load(layout.plan(fold)),
            layout.root,
            layout.store,
            workers=inputs.workers,
        )
        tables.write_table(layout.fold(fold) / "volumes.parquet", volumes, FoldVolumes)
    return recorder.result(
        "fold_volumes",
        files.digest_of(volumes.to_dicts()),
        {**table_metadata(volumes, FoldVolumes), "roles": dict(volumes.group_by("role").len().iter_rows())},
    )


@dg.asset(**asset_arguments("split_drift"))
def split_drift(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Whether this fold's parts differ, and whether headers alone tell the stage: one plain verdict a finding."""
    from ct_assets.cohort.drift import assess, header_factors
    from ct_assets.learning.volumes import fingerprint
    from ct_assets.learning.volumes.preprocess import image_factors
    from ct_assets.reports.drift import write

    recorder = Recorder(context, platform)
    fold = context.partition_key
    with recorder.running() as inputs:
        layout, manifest = inputs.layout, inputs.table("cohort_manifest")
        # Voxels of training patients only: over the test set, drift looks at headers.
        training = manifest.filter(pl.col("split") == "train")
        checked = fingerprint.check(training, layout.root, layout.store, inputs.workers)
        report = assess(
            manifest,
            header_factors(manifest, inputs.table("series")),
            fold,
            inputs.setting("drift"),
            image_factors=image_factors(checked)[1],
        )
        files.write_json(layout.fold(fold) / "drift.json", report.to_json())
        page = write(report, layout.reports / "drift" / fold)
    return recorder.result(
        "split_drift",
        files.digest_of(report.to_json()),
        {"findings": len(report.findings), "page": link(platform, page)},
    )


@dg.asset_check(
    asset="split_drift", description="Parts of the cohort are alike, and no header tells the stage."
)
def splits_do_not_drift(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    """Warn of what the drift reports of the folds found."""
    found = []
    for path in sorted(platform.layout.folds.glob("*/drift.json")):
        found += [f"{path.parent.name}: {line}" for line in files.read_json(path)["verdicts"]]
    return dg.AssetCheckResult(
        passed=not found, severity=dg.AssetCheckSeverity.WARN, metadata={"verdicts": found}
    )


@dg.asset(**asset_arguments("derived_set"))
def derived_set(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """A smaller set of training patients for home or GPU trials: stratified, seeded, within its size budget."""
    from ct_assets.cohort.drift import header_factors
    from ct_assets.learning.volumes.derived import build

    recorder = Recorder(context, platform)
    name = context.partition_key
    with recorder.running() as inputs:
        layout, manifest = inputs.layout, inputs.table("cohort_manifest")
        summary = build(
            name,
            inputs.setting(f"derived.{name}"),
            manifest,
            layout.root,
            layout.derived(name),
            layout.store,
            workers=inputs.workers,
            plan_settings=inputs.setting("plan"),
            header_factors=header_factors(manifest, inputs.table("series")),
        )
    return recorder.result(
        "derived_set",
        summary.digest,
        {
            "patients": summary.patients,
            "megabytes": summary.megabytes,
            "folder": link(platform, layout.derived(name)),
        },
    )

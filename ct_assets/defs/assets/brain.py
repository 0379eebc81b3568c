"""Brain CT classification assets: features, splits, folds by configuration, selection, final model, the one test.

Wiring only; the work is in `ct_assets.systems.brain`. Launched by a person, as every training is.
"""

from collections import Counter
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from ct_assets import files
from ct_assets.defs.engine.graph import TRAINING_POOL, asset_arguments
from ct_assets.defs.engine.partitions import split_key
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, counts, link_or_path, running, table_metadata

if TYPE_CHECKING:
    from ct_assets.systems.brain.features import Item
    from ct_assets.systems.brain.stages import Place


def place_of(platform: Platform) -> "Place":
    """Return where brain CT classification lies on this platform."""
    from ct_assets.systems.brain.stages import Place

    layout, settings = platform.layout, platform.settings.brain
    images = layout.released if settings.source == "batches" else platform.brain_dir / settings.cts
    return Place(layout.brain, images, layout.reports, settings, platform.workers, platform.tracking_uri)


def batch_items(platform: Platform) -> "list[Item] | None":
    """Return the slices of the platform's batches; None where a folder is the source."""
    settings = platform.settings.brain
    if settings.source == "folder":
        return None
    from ct_assets.cohort.metadata_audit import read_cohort
    from ct_assets.systems.brain.batches import items

    return items(
        read_cohort(platform.layout),
        pl.read_parquet(platform.layout.labels),
        label_column=settings.label_column,
        body_parts=settings.body_parts,
        audit=platform.settings.audit,
    )


@dg.asset(
    **asset_arguments("brain_features"),
    check_specs=[dg.AssetCheckSpec("every_slice_has_a_row", asset="brain_features", blocking=True)],
)
def brain_features(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """A row a labelled slice of head CT: header, values, skull box; what cannot be used has its reason."""
    from ct_assets.systems.brain import stages

    recorder = Recorder(context, platform)
    with running(context):
        place, given = place_of(platform), batch_items(platform)
        made = stages.make_features(place, given)
    wanted = made.table.height if given is None else len(given)
    return recorder.result(
        "brain_features",
        files.sha256_file(place.features),
        {
            **table_metadata(made.table.drop("id", "group_id", "study_id", "series_id")),
            "errors": counts(Counter(made.checks["errors"])),
            "warnings": counts(Counter(made.checks["warnings"])),
            "file": link_or_path(platform, place.features),
        },
        [
            dg.AssetCheckResult(
                passed=made.table.height == wanted,
                check_name="every_slice_has_a_row",
                metadata={"slices_lost": wanted - made.table.height},
            )
        ],
    )


@dg.asset(**asset_arguments("brain_first_look"))
def brain_first_look(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """A page on the data before any training: what is there, what is odd, what the network will see."""
    from ct_assets.systems.brain import stages

    recorder = Recorder(context, platform)
    with running(context):
        page = stages.first_look(place_of(platform))
    return recorder.result(
        "brain_first_look", files.sha256_file(page), {"page": link_or_path(platform, page)}
    )


@dg.asset(
    **asset_arguments("brain_splits"),
    check_specs=[dg.AssetCheckSpec("no_patient_in_two_splits", asset="brain_splits", blocking=True)],
)
def brain_splits(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Which slices test and which fold validates which, patients and studies whole, kept for ever in a ledger."""
    from ct_assets.systems.brain import stages

    recorder = Recorder(context, platform)
    with running(context):
        place = place_of(platform)
        placed, findings = stages.make_splits(place)
    parts = placed.group_by("test", "fold", "label").len().sort("test", "fold", "label", nulls_last=True)
    return recorder.result(
        "brain_splits",
        files.digest_of(placed.select("id", "label", "test", "fold", "file_sha256").rows()),
        {**table_metadata(parts), "slices": placed.height, "file": link_or_path(platform, place.split)},
        [
            dg.AssetCheckResult(
                passed=findings.is_empty(),
                check_name="no_patient_in_two_splits",
                metadata={"identities_shared": findings.height},
            )
        ],
    )


@dg.asset(pool=TRAINING_POOL, **asset_arguments("brain_fold_model"))
def brain_fold_model(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """One fold of one configuration: head first, then fine-tuning; its validation slices predicted."""
    from ct_assets.learning.training.control import TrainingPaused
    from ct_assets.systems.brain import stages

    configuration, fold = split_key(context.partition_key)
    recorder = Recorder(context, platform)
    with running(context):
        place = place_of(platform)
        try:
            result = stages.train_fold(place, configuration, int(fold))
        except TrainingPaused:
            raise dg.Failure(
                description=f"fold {fold} of {configuration} is paused; launch it again to go on",
                allow_retries=False,
            ) from None
    return recorder.result(
        "brain_fold_model",
        files.digest_of([files.sha256_file(result.weights), result.predictions.rows()]),
        {
            "val_auprc": "undefined" if result.metric is None else result.metric,
            "epochs": len(result.history),
            "slices": result.predictions.height,
            "folder": link_or_path(platform, place.fold(configuration, fold)),
        },
    )


@dg.asset(**asset_arguments("brain_cv_report"))
def brain_cv_report(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """One configuration out of fold: curves, thresholds, calibration, figures with intervals."""
    from ct_assets.systems.brain import stages

    recorder = Recorder(context, platform)
    with running(context):
        metrics, selection, page = stages.report_cv(place_of(platform), context.partition_key)
    mean = metrics["mean_metric"]
    return recorder.result(
        "brain_cv_report",
        files.digest_of([metrics, selection]),
        {
            "mean_val_auprc": "undefined" if mean is None else mean,
            "threshold": selection["threshold"],
            "page": link_or_path(platform, page),
        },
    )


@dg.asset(pool=TRAINING_POOL, **asset_arguments("brain_selection"))
def brain_selection(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The best of the cross-validated configurations, judged anew on other folds, and its frozen threshold."""
    from ct_assets.systems.brain import stages

    recorder = Recorder(context, platform)
    with running(context):
        place = place_of(platform)
        results, best, selection = stages.select(place)
    return recorder.result(
        "brain_selection",
        files.digest_of(files.read_json(place.selection / "selection.json")),
        {
            **table_metadata(results.drop("config", "seconds")),
            "configuration": best,
            "threshold": selection["threshold"],
            "fallback": str(selection.get("fallback")),
        },
    )


@dg.asset(pool=TRAINING_POOL, **asset_arguments("brain_final_model"))
def brain_final_model(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The bundle that `ct-assets predict` takes, trained on all training patients, with card and registration."""
    from ct_assets.systems.brain import stages

    recorder = Recorder(context, platform)
    with running(context):
        place = place_of(platform)
        made, registered_as = stages.build_final(place)
    return recorder.result(
        "brain_final_model",
        made.digest,
        {"registered_as": str(registered_as), "bundle": link_or_path(platform, place.bundle)},
    )


class BrainTestReading(dg.Config):
    """What a person may choose about the one reading of the test set."""

    __test__ = False  # not a test case, whatever collectors think of the name

    force: bool = False
    """Read it again under other settings; the report then says so for ever."""


@dg.asset(**asset_arguments("brain_test_report"))
def brain_test_report(
    context: dg.AssetExecutionContext, config: BrainTestReading, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The one evaluation on the test slices, with threshold and calibration frozen before."""
    from ct_assets.systems.brain import stages

    recorder = Recorder(context, platform)
    with running(context):
        metrics, page = stages.read_test(place_of(platform), force=config.force)
    shown = {
        name: "undefined" if metrics[name] is None else metrics[name]
        for name in ("test_roc_auc", "test_auprc", "sensitivity", "specificity", "ppv")
    }
    return recorder.result(
        "brain_test_report", files.digest_of(metrics), {**shown, "page": link_or_path(platform, page)}
    )


@dg.asset_check(
    asset="brain_test_report",
    blocking=True,
    description="The test set was scored once; a forced second reading is marked for ever.",
)
def brain_test_set_was_read_once(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    """Look into the ledger of readings."""
    from ct_assets.learning.evaluation.test_access_log import readings

    lines = [reading for reading in readings(platform.layout) if reading.experiment.startswith("brain/")]
    forced = sum(reading.forced for reading in lines)
    return dg.AssetCheckResult(passed=not forced, metadata={"readings": len(lines), "forced": forced})

"""Evaluation assets: report over the folds, final sets, final model, the one test. Wiring only."""

import dagster as dg

from ct_assets import files
from ct_assets.defs.assets.folds import read_header_factors
from ct_assets.defs.engine.experiments import experiment_set, manifest_of_set, open_experiment
from ct_assets.defs.engine.graph import TRAINING_POOL, asset_arguments
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, link, running


@dg.asset(**asset_arguments("cv_report"))
def cv_report(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Out-of-fold figures with intervals, baselines beside them; calibration and thresholds fitted and frozen."""
    from ct_assets.learning.evaluation.evaluate import cv_report as report

    layout, experiment = platform.layout, context.partition_key
    recorder = Recorder(context, platform)
    with running(context):
        result = report(open_experiment(platform, experiment))
    return recorder.result(
        "cv_report",
        files.digest_of(result.figures),
        {
            **result.headline,
            "page": link(platform, result.page),
            "figures": link(platform, layout.reports / "cv_report.json"),
        },
    )


@dg.asset(**asset_arguments("final_train_set"))
def final_train_set(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """All training patients as hard data under the plan of all training patients."""
    from ct_assets.learning.volumes.derived import FULL, final_dirs, source
    from ct_assets.learning.volumes.final_sets import build_train
    from ct_assets.learning.volumes.plan import FINAL, Plan, build_plan

    layout, experiment = platform.layout, context.partition_key
    recorder = Recorder(context, platform)
    with running(context):
        smaller = experiment_set(platform, experiment)
        manifest = manifest_of_set(platform, smaller)
        folder, _ = final_dirs(layout.root, smaller or FULL)
        if smaller:  # planned with the set, under the set's own spacing and crop
            plan = Plan.load(source(layout.root, FINAL, smaller).plan)
        else:
            plan = build_plan(
                manifest,
                FINAL,
                layout.root,
                layout.store,
                platform.settings,
                workers=platform.workers,
                header_factors=read_header_factors(platform, manifest),
            )
        table = build_train(manifest, plan, layout.root, folder, layout.store, workers=platform.workers)
    return recorder.result(
        "final_train_set",
        files.digest_of([plan.digest, table.to_dicts()]),
        {"cases": table.height, "folder": link(platform, folder)},
    )


@dg.asset(**asset_arguments("final_test_set"))
def final_test_set(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The test patients under the very plan of the training set; nothing of theirs is fitted."""
    from ct_assets.learning.volumes.derived import FULL, final_dirs
    from ct_assets.learning.volumes.final_sets import build_test
    from ct_assets.learning.volumes.plan import Plan

    layout, experiment = platform.layout, context.partition_key
    recorder = Recorder(context, platform)
    with running(context):
        smaller = experiment_set(platform, experiment)
        trained_on, folder = final_dirs(layout.root, smaller or FULL)
        plan = Plan.load(trained_on / "plan.json")
        table = build_test(
            manifest_of_set(platform, smaller),
            plan,
            layout.root,
            folder,
            layout.store,
            workers=platform.workers,
        )
    return recorder.result(
        "final_test_set",
        files.digest_of([plan.digest, table.to_dicts()]),
        {"cases": table.height, "folder": link(platform, folder)},
    )


@dg.asset(pool=TRAINING_POOL, **asset_arguments("final_model"))
def final_model(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The bundle that `ct-assets predict` takes: fold ensemble or one model, with plan, calibration and card."""
    from ct_assets.learning.models.final_model import build

    layout, experiment = platform.layout, context.partition_key
    recorder = Recorder(context, platform)
    with running(context):
        model = build(open_experiment(platform, experiment), tracking_uri=platform.tracking_uri)
    return recorder.result(
        "final_model",
        model.digest,
        {
            "registered_as": model.registered_as,
            "bundle": link(platform, layout.final_model(experiment)),
            "card": link(platform, model.card),
        },
    )


class TestReading(dg.Config):
    """What a person may choose about the one reading of the test set."""

    __test__ = False  # not a test case, whatever collectors think of the name

    force: bool = False
    """Read it again under other settings; the report then says so for ever."""


@dg.asset(**asset_arguments("test_report"))
def test_report(
    context: dg.AssetExecutionContext, config: TestReading, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The one evaluation on the test patients, with thresholds and calibration frozen before."""
    from ct_assets.learning.evaluation.evaluate import test_report as report

    layout, experiment = platform.layout, context.partition_key
    recorder = Recorder(context, platform)
    with running(context):
        result = report(open_experiment(platform, experiment), force=config.force)
    return recorder.result(
        "test_report",
        files.digest_of(result.figures),
        {
            **result.headline,
            "page": link(platform, result.page),
            "figures": link(platform, layout.reports / "test_report.json"),
        },
    )


@dg.asset_check(
    asset="test_report",
    blocking=True,
    description="The test set was scored once; a forced second reading is marked for ever.",
)
def test_set_was_read_once(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    """Look into the ledger of readings."""
    from ct_assets.learning.evaluation.test_access_log import readings

    found = [reading for reading in readings(platform.layout) if "/" not in reading.experiment]
    forced = [reading for reading in found if reading.forced]
    return dg.AssetCheckResult(passed=not forced, metadata={"readings": len(found), "forced": len(forced)})

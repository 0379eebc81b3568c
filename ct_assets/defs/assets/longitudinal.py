"""Longitudinal nodules: tables, registrations, crops, models and their test report. Wiring only.

The work is in `ct_assets.systems.longitudinal`; each asset's body is one of its functions on the folder of the system.
"""

from pathlib import Path
from typing import Any

import dagster as dg

from ct_assets import files
from ct_assets.defs.engine.graph import asset_arguments
from ct_assets.defs.engine.inputs import Inputs
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stage import Recorder, counts, link
from ct_assets.errors import UsageError

AUTOENCODER = "autoencoder"


def _blocking(check: str, asset: str) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(check, asset=asset, blocking=True)]


def _digest_of(folder: Path, *patterns: str) -> str:
    """Return a digest of the files that match, by name and content."""
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
    return files.digest_of([[path.name, files.sha256_file(path)] for path in paths])


def _needed(path: Path | None, name: str) -> Path:
    if path is None:
        raise UsageError(f"longitudinal.inputs.{name}: is not set; name the file or folder in the settings")
    return path


def _experiment(inputs: Inputs) -> Path:
    return inputs.layout.longitudinal / "models" / str(inputs.setting("longitudinal.experiment"))


@dg.asset(
    **asset_arguments("longitudinal_tables"),
    check_specs=_blocking("no_patient_in_two_splits", "longitudinal_tables"),
)
def longitudinal_tables(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """One exam a timepoint, pairs of exams and nodules with their growth, and every row left out with its reasons."""
    import polars as pl

    from ct_assets.systems.longitudinal import build_tables

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        folder = inputs.layout.longitudinal / "tables"
        written = build_tables.run(
            _needed(inputs.file("longitudinal.inputs.exams"), "exams"),
            _needed(inputs.file("longitudinal.inputs.tracking"), "tracking"),
            folder,
            bad_exams=inputs.file("longitudinal.inputs.bad_exams"),
            policy=inputs.setting("longitudinal.inputs.policy"),
        )
        exams = pl.read_parquet(folder / "single_timepoints.parquet")
    splits = exams.group_by("pid").agg(pl.col("split").n_unique().alias("splits"))
    crossing = splits.filter(pl.col("splits") > 1).height
    return recorder.result(
        "longitudinal_tables",
        _digest_of(folder, "*.parquet"),
        {"rows": counts(written.rows)},
        [
            dg.AssetCheckResult(
                passed=crossing == 0, check_name="no_patient_in_two_splits", metadata={"patients": crossing}
            )
        ],
    )


@dg.asset(
    **asset_arguments("longitudinal_registrations"),
    check_specs=_blocking("every_later_exam_has_a_result", "longitudinal_registrations"),
)
def longitudinal_registrations(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """Every later exam registered to the patient's first one, or refused with its reason; a killed run goes on."""
    from ct_assets.systems.longitudinal import registrations

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        home = inputs.layout.longitudinal
        folder = home / "registrations"
        written = registrations.write(
            home / "tables",
            folder,
            images=inputs.setting("longitudinal.inputs.images"),
            workers=inputs.workers,
        )
    left = written.statuses.get("open", 0)
    return recorder.result(
        "longitudinal_registrations",
        _digest_of(folder, "*.parquet"),
        {"status": counts(written.statuses), "registered_now": written.registered_now},
        [
            dg.AssetCheckResult(
                passed=left == 0, check_name="every_later_exam_has_a_result", metadata={"open": left}
            )
        ],
    )


@dg.asset(
    **asset_arguments("longitudinal_patches"),
    check_specs=_blocking("every_pair_is_cut_or_listed", "longitudinal_patches"),
)
def longitudinal_patches(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The crops of every pair of a nodule in the space of the first exam; pairs that cannot be used are listed."""
    import polars as pl

    from ct_assets.systems.longitudinal import patch_store

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        home = inputs.layout.longitudinal
        written = patch_store.write(
            home / "tables",
            home / "registrations",
            _needed(inputs.file("longitudinal.inputs.tracking"), "tracking"),
            _needed(inputs.setting("longitudinal.inputs.images"), "images"),
            home / "patches",
            inputs.setting("longitudinal.patches"),
            workers=inputs.workers,
        )
        pairs = pl.read_parquet(home / "tables/paired_nodules.parquet").height
        digest = patch_store.read(home / "patches").digest
    lost = pairs - written.pairs - written.unusable
    return recorder.result(
        "longitudinal_patches",
        digest,
        {"pairs": written.pairs, "unusable": written.unusable, "cut_now": written.cut_now},
        [
            dg.AssetCheckResult(
                passed=lost == 0, check_name="every_pair_is_cut_or_listed", metadata={"pairs_lost": lost}
            )
        ],
    )


@dg.asset(**asset_arguments("longitudinal_autoencoder"))
def longitudinal_autoencoder(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """An autoencoder of crops, and whether it keeps nodules well enough for flows of its latents."""
    from ct_assets.systems.longitudinal import training

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        folder = _experiment(inputs).parent / f"{_experiment(inputs).name}-{AUTOENCODER}"
        gate = training.train_autoencoder(
            inputs.layout.longitudinal / "patches", folder, inputs.setting("longitudinal.autoencoder")
        )
    return recorder.result(
        "longitudinal_autoencoder", files.sha256_file(folder / training.WEIGHTS_NAME), gate.json()
    )


@dg.asset(
    **asset_arguments("longitudinal_model"),
    check_specs=[
        *_blocking("the_interval_is_trained", "longitudinal_model"),
        *_blocking("latents_are_of_the_autoencoder", "longitudinal_model"),
    ],
)
def longitudinal_model(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """A flow model from the earlier exam to the later one, or from noise to nodules."""
    from ct_assets.systems.longitudinal import training

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        folder = _experiment(inputs)
        fitted = training.train_flow(
            inputs.layout.longitudinal / "patches",
            folder,
            inputs.setting("longitudinal.flow"),
            encoder_dir=folder.parent / f"{folder.name}-{AUTOENCODER}",
        )
        outcomes = {
            "the_interval_is_trained": _refusal(
                lambda: training.require_interval_in_optimizer(training.open_flow(folder).field)
            ),
            "latents_are_of_the_autoencoder": _refusal(lambda: training.open_flow(folder)),
        }
    return recorder.result(
        "longitudinal_model",
        fitted.weights_sha256,
        {"epochs": fitted.epochs, "best_epoch": fitted.best_epoch, **fitted.metrics},
        [
            dg.AssetCheckResult(passed=not refusal, check_name=name, metadata={"refusal": refusal or "none"})
            for name, refusal in outcomes.items()
        ],
    )


def _refusal(function: Any) -> str:
    """Return why a call refuses, or an empty text."""
    try:
        function()
    except UsageError as error:
        return str(error)
    return ""


@dg.asset(
    **asset_arguments("longitudinal_test_report"),
    check_specs=_blocking("test_set_was_read_once", "longitudinal_test_report"),
)
def longitudinal_test_report(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:
    """The model's later volumes of the test patients beside every baseline; the page says where it loses."""
    from ct_assets.learning.evaluation.test_access_log import Reading, Readings
    from ct_assets.systems.longitudinal import evaluation, page, patch_store, training

    recorder = Recorder(context, platform)
    with recorder.running() as inputs:
        home, folder = inputs.layout.longitudinal, _experiment(inputs)
        crops = patch_store.read(home / "patches", "test")
        reading = Reading(
            experiment=f"longitudinal/{folder.name}",
            model_digest=files.sha256_file(folder / training.WEIGHTS_NAME),
            test_digest=files.digest_of([[row["key_a"], row["key_b"]] for row in crops.rows]),
            settings_digest=files.digest_of("longitudinal"),
        )
        log = Readings.of(inputs.layout)
        log.open(reading, force=False)
        done = evaluation.run(home / "patches", folder)
        reports = inputs.layout.reports / "longitudinal" / folder.name
        evaluation.write(done, reports)
        gate = files.read_json_object(folder.parent / f"{folder.name}-{AUTOENCODER}" / training.GATE_NAME)
        path = page.write(done, crops, reports, gate)
    return recorder.result(
        "longitudinal_test_report",
        files.digest_of(done.report),
        {
            "pairs": done.report["pairs"],
            "verdicts": "\n".join(page.summary(done.report)),
            "page": link(platform, path),
        },
        [
            dg.AssetCheckResult(
                passed=not log.is_forced(reading),
                check_name="test_set_was_read_once",
                metadata={"readings": log.count()},
            )
        ],
    )

"""`ct-assets brain run`: from a folder of slices to a threshold, a model and its one test, in one folder.

Belongs here: the order of the steps and the files of a run. The steps are the functions that the assets
call, one after the other.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import torch

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation.calibration import Calibration
from ct_assets.learning.evaluation.test_access_log import Reading, Readings
from ct_assets.learning.training import checkpoints
from ct_assets.settings.brain import BrainConfig, RunOptions
from ct_assets.systems.brain import (
    bundle,
    cv,
    dataset,
    features,
    final,
    gradcam,
    grid,
    images,
    pages,
    plots,
    splits,
    thresholds,
    train,
)
from ct_assets.systems.brain import network as networks
from ct_assets.systems.brain.cv import CvResult

ARTIFACTS = (
    "run_args.json",
    "effective_config.json",
    "features_df.pkl",
    "features_checks_summary.json",
    "features_df_split.pkl",
    "preprocessing_examples_label0.png",
    "preprocessing_examples_label1.png",
    "grid_results.csv",
    "cv_thresholds_by_fold.csv",
    "cv_thresholds_summary.csv",
    "cv_mean_roc.png",
    "cv_mean_pr.png",
    "threshold_selection.json",
    "cv_metrics.json",
    "final_model_state_dict.pt",
    "test_predictions.csv",
    "test_roc_curve.png",
    "test_pr_curve.png",
    "test_metrics.json",
)
"""What every run leaves; `grid_results.csv` where a grid was asked for."""
SAMPLES, CONFIDENCE = 1000, 0.95


@dataclass(frozen=True)
class Run:
    """One run of the pipeline."""

    data_root: Path
    options: RunOptions
    config: BrainConfig
    candidates: Mapping[str, BrainConfig] | None = None
    """The grid; none where none was asked for."""
    arguments: Mapping[str, Any] | None = None
    """The command's arguments as given, for `run_args.json`."""
    keep_fold_models: bool = False
    tracking_uri: str | None = None
    threads: int | None = None


def run(job: Run, outputs: Path, timings: progress.Timings | None = None) -> Path:
    """Run everything; return the folder `run_YYYYMMDD_HHMMSS` below `outputs`.

    Raises `UsageError` for input that cannot be used, `SafetyError` where a patient would cross splits.
    """
    timings = timings or progress.Timings()
    options, config = job.options, job.config
    structure = dataset.validate_dataset_structure(
        job.data_root, options.cts, options.labels, config.expected_num_dicoms
    )
    for one in structure.warnings:
        progress.say(f"{one.code}: {one.count}, {', '.join(one.examples)}")
    # Published weights that do not fit are told before hours of reading, not after them.
    networks.build(config)
    folder = new_folder(outputs)
    work = folder / ".work"
    progress.say(f"run {folder.name}: {len(structure.labels)} slices")
    files.write_json(folder / "run_args.json", dict(job.arguments or options.model_dump(mode="json")))
    files.write_json(folder / "validation.json", structure.json())
    with timings.step("features") as step:
        table = features.features(
            features.folder_items(structure),
            structure.ct_dir,
            group_by=config.group_by,
            skull_percentile=config.skull_percentile,
            workers=max(1, options.num_workers),
        )
        step.items = table.height
    checks = features.checks(table)
    write_frame(folder / "features_df", table)
    files.write_json(folder / "features_checks_summary.json", checks)
    with timings.step("splits") as step:
        placed, ledger = splits.assign(table, options)
        splits.require_no_leakage(placed, config.group_by)
        step.items = placed.height
    write_frame(folder / "features_df_split", placed)
    ledger.write_parquet(folder / "splits.parquet")
    _write_pictures(folder, table, checks, structure.json(), structure.ct_dir, config, options)
    training = splits.training_part(placed)
    # What cannot be trained is told before anything is.
    cv.require_both_labels(training)
    final.parts(placed, options)
    tracked = None
    if job.tracking_uri is not None:
        tracked = train.Tracked(job.tracking_uri, "brain", "", work)
    results = None
    if job.candidates:
        with timings.step("grid") as step:
            results = grid.sweep(
                training, job.candidates, options, structure.ct_dir, work / "prepared", work / "grid",
                workers=max(1, options.num_workers), tracked=tracked, threads=job.threads,
            )  # fmt: skip
            step.items = results.height
        results.write_csv(folder / "grid_results.csv")
        best = grid.winner(results)
        progress.say(f"candidate {best} wins; it is cross-validated anew on other folds")
        config = job.candidates[best]
        training = splits.redealt(training, options.k_folds, options.seed)
    files.write_json(folder / "effective_config.json", config.model_dump(mode="json"))
    prepared = images.prepare(
        placed,
        structure.ct_dir,
        config,
        options.out_size,
        work / "prepared",
        workers=max(1, options.num_workers),
    )
    with timings.step("cross_validation") as step:
        told = None if tracked is None else train.Tracked(**{**vars(tracked), "run": "cross-validation"})
        result = cv.run_cv(
            training, config, options, prepared, work / "cv", tracked=told, threads=job.threads
        )
        step.items = len(result.fold_metrics)
    metrics, selection = judge(result, config, options, samples=SAMPLES, confidence=CONFIDENCE)
    write_cv(folder, result, metrics, selection, options)
    pages.cross_validation(
        folder / "cv_report.html", result, metrics, selection, title="Brain CT: cross-validation",
        grid_results=results,
    )  # fmt: skip
    if job.keep_fold_models:
        for fold, weights in enumerate(result.weights):
            files.write_bytes(folder / "fold_models" / f"fold_{fold}.safetensors", weights.read_bytes())
    with timings.step("final_model") as step:
        told = None if tracked is None else train.Tracked(**{**vars(tracked), "run": "final model"})
        trained = final.train_final(
            placed, config, options, prepared, work / "final", tracked=told, threads=job.threads
        )
        step.items = trained.training_slices
    fitted = final.fit_calibration(result.predictions)
    made = bundle.build(
        folder / "bundle",
        config=config,
        options=options,
        weights=trained.result.weights,
        selection=selection,
        study=metrics["study"],
        fitted=fitted,
        metrics=metrics,
        training=placed,
        experiment=folder.name,
    )
    network = train.load(config, trained.result.weights)
    _save_state_dict(folder / "final_model_state_dict.pt", network)
    with timings.step("test") as step:
        reading = reading_of(placed, folder.name, made.digest, selection)
        Readings(folder).open(reading, force=False)
        predictions = final.score_test(placed, config, trained.result.weights, prepared)
        step.items = predictions.height
    test_metrics = judge_test(
        result.predictions, predictions, selection, config, options, samples=SAMPLES, confidence=CONFIDENCE
    )
    write_test(folder, predictions, test_metrics, final.fit_calibration(result.predictions))
    chosen = gradcam.worth_a_look(predictions, selection["threshold"])
    gallery = plots.gallery(gradcam.pictures(network, prepared, chosen))
    files.write_bytes(folder / "gradcam_gallery.png", gallery)
    pages.one_test(
        folder / "test_report.html", predictions, test_metrics, gallery, title="Brain CT: the one test"
    )
    timings.write(folder)
    shutil.rmtree(work, ignore_errors=True)
    return folder


def new_folder(outputs: Path) -> Path:
    """Make and return `run_YYYYMMDD_HHMMSS`; two runs of one second are a second apart."""
    while True:
        folder = outputs / f"run_{datetime.now().strftime('%Y%m%d_%H%M%S')}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            time.sleep(0.2)
            continue
        return folder


def judge(
    result: CvResult, config: BrainConfig, options: RunOptions, *, samples: int, confidence: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return `cv_metrics.json` and `threshold_selection.json` of a cross-validation."""
    selection = thresholds.select(result.df_summary, options.threshold_strategy, options.sens_target)
    exact = thresholds.select(result.df_exact, options.threshold_strategy, options.sens_target)
    selection["exact"] = {
        "threshold": exact["threshold"], "row": exact["row"], "fallback": exact.get("fallback")
    }  # fmt: skip
    fitted = final.fit_calibration(result.predictions)
    metrics = {
        "mean_metric": result.mean_metric,
        "std_metric": result.std_metric,
        "fold_metrics": result.fold_metrics,
        "metric": "val_auprc",
        "config": config.model_dump(mode="json"),
        "batch_size": options.batch_size,
        "k_folds": len(result.fold_metrics),
        "seed": options.seed,
        "histories": result.histories,
        "oof": final.figures(
            result.predictions, selection["threshold"], fitted, samples=samples, confidence=confidence,
            seed=options.seed,
        ),
        "study": final.study_figures(
            result.predictions, None, config, options, samples=samples, confidence=confidence
        ),
    }  # fmt: skip
    return metrics, selection


def judge_test(
    out_of_fold: pl.DataFrame,
    predictions: pl.DataFrame,
    selection: Mapping[str, Any],
    config: BrainConfig,
    options: RunOptions,
    *,
    samples: int,
    confidence: float,
) -> dict[str, Any]:
    """Return `test_metrics.json`: thresholds and calibration are those of the cross-validation."""
    fitted = final.fit_calibration(out_of_fold)
    told = final.figures(
        predictions, selection["threshold"], fitted, samples=samples, confidence=confidence, seed=options.seed
    )
    plain = {
        name: told["intervals"][name]["value"] for name in ("sensitivity", "specificity", "ppv", "npv", "f1")
    }
    study = final.study_figures(
        out_of_fold, predictions, config, options, samples=samples, confidence=confidence
    )
    return {
        "test_roc_auc": told["intervals"]["roc_auc"]["value"],
        "test_auprc": told["intervals"]["auprc"]["value"],
        **plain,
        **told,
        "study": study,
    }


def write_cv(
    folder: Path,
    result: CvResult,
    metrics: Mapping[str, Any],
    selection: Mapping[str, Any],
    options: RunOptions,
) -> None:
    """Write the files of a cross-validation."""
    folder.mkdir(parents=True, exist_ok=True)
    result.df_all.write_csv(folder / "cv_thresholds_by_fold.csv")
    result.df_summary.write_csv(folder / "cv_thresholds_summary.csv")
    result.df_exact.write_csv(folder / "cv_thresholds_exact.csv")
    result.predictions.write_parquet(folder / "oof_predictions.parquet")
    files.write_bytes(folder / "cv_mean_roc.png", plots.cv_mean_roc(result.y_true_fold, result.y_score_fold))
    files.write_bytes(folder / "cv_mean_pr.png", plots.cv_mean_pr(result.y_true_fold, result.y_score_fold))
    files.write_json(folder / "threshold_selection.json", dict(selection))
    files.write_json(folder / "cv_metrics.json", {**metrics, "test_size": options.test_size})


def write_test(
    folder: Path, predictions: pl.DataFrame, metrics: Mapping[str, Any], fitted: Calibration
) -> None:
    """Write the files of the test."""
    folder.mkdir(parents=True, exist_ok=True)
    truth, p = predictions["label"].to_numpy(), predictions["prob"].to_numpy()
    told = predictions.with_columns(
        (pl.col("prob") >= metrics["threshold"]).cast(pl.Int64).alias("pred"),
        pl.Series("prob_calibrated", final.calibrated(p, fitted)),
    )
    told.select("id", "prob", "pred", "label", "prob_calibrated", "logit", "study_id").write_csv(
        folder / "test_predictions.csv"
    )
    intervals = metrics["intervals"]
    files.write_bytes(folder / "test_roc_curve.png", plots.test_roc(truth, p, intervals["roc_auc"]))
    files.write_bytes(folder / "test_pr_curve.png", plots.test_pr(truth, p, intervals["auprc"]))
    files.write_json(folder / "test_metrics.json", dict(metrics))


def reading_of(
    placed: pl.DataFrame, experiment: str, model_digest: str, selection: Mapping[str, Any]
) -> Reading:
    """Return the reading of the test split that a model and a frozen threshold make."""
    test = splits.test_part(placed).select("id", "label").sort("id")
    return Reading(
        experiment=experiment,
        model_digest=model_digest,
        test_digest=files.digest_of(test.rows()),
        settings_digest=files.digest_of(
            {"threshold": selection["threshold"], "strategy": selection["strategy"]}
        ),
    )


def write_frame(path: Path, table: pl.DataFrame) -> None:
    """Write a table as pickled pandas frame, indexed by ID, and as parquet beside it, which others should read."""
    frame = table.to_pandas().set_index("id")
    with files.atomic_path(path.with_suffix(".pkl")) as partial:
        frame.to_pickle(partial)
    with files.atomic_path(path.with_suffix(".parquet")) as partial:
        table.write_parquet(partial)


def read_config(path: Path, base: BrainConfig) -> BrainConfig:
    """Return `base` overridden by a JSON file. Raises `UsageError` naming file and key."""
    try:
        content = files.read_json(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; name one with --config-json") from None
    except ValueError as error:
        raise UsageError(f"{path}: is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: an object of keys is expected, found {type(content).__name__}")
    return base.overridden(content, str(path)).resolved_against(path.resolve().parent)


def _write_pictures(
    folder: Path,
    table: pl.DataFrame,
    checks: Mapping[str, Any],
    structure: Mapping[str, Any],
    root: Path,
    config: BrainConfig,
    options: RunOptions,
) -> None:
    for label in (0, 1):
        picture = plots.preparation(
            table, root, label, config, count=options.prep_plot_n, seed=options.seed + label
        )
        files.write_bytes(folder / f"preprocessing_examples_label{label}.png", picture)
    pages.first_look(
        folder / "first_look.html", table, checks, structure, root, config,
        count=options.prep_plot_n, seed=options.seed,
    )  # fmt: skip


def _save_state_dict(path: Path, network: torch.nn.Module) -> None:
    with files.atomic_path(path) as partial:
        torch.save({name: value.cpu() for name, value in network.state_dict().items()}, partial)
    checkpoints.load(path)

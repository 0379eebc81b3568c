"""Cross-validation: every training slice is predicted once, by a model that never saw its patient.

Belongs here: one fold, all folds, what comes of them. Does not: the training itself (`brain.train`), which
threshold follows (`brain.thresholds`), the grid over configurations (`brain.grid`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import files, tables
from ct_assets.errors import UsageError
from ct_assets.settings.brain import BrainConfig, RunOptions
from ct_assets.systems.brain import thresholds, train
from ct_assets.systems.brain.images import Prepared
from ct_assets.systems.brain.task import predict_logits, probabilities
from ct_assets.tables.brain import BrainPredictions

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PREDICTIONS_NAME = "predictions.parquet"
FOLD_NAME = "fold.json"


@dataclass(frozen=True, eq=False)
class FoldResult:
    """One fold, trained and predicted."""

    fold: int
    metric: float | None
    """AUPRC on the validation slices of the kept epoch."""
    auc_trn: float
    """AUROC on its own training slices, without augmentation."""
    history: list[dict[str, Any]]
    predictions: pl.DataFrame
    """The validation slices (`BrainPredictions`)."""
    weights: Path


@dataclass(frozen=True, eq=False)
class CvResult:
    """What a cross-validation returns."""

    mean_metric: float | None
    std_metric: float | None
    fold_metrics: list[float | None]
    histories: list[list[dict[str, Any]]]
    oof_true: Ints
    oof_prob: Floats
    oof_ids: list[str]
    y_true_fold: list[Ints]
    y_score_fold: list[Floats]
    df_all: pl.DataFrame
    """A row a fold and threshold of the grid."""
    df_summary: pl.DataFrame
    """A row a threshold of the grid."""
    df_exact: pl.DataFrame
    """A row a score that occurs, as a finer table of thresholds."""
    predictions: pl.DataFrame
    """All out-of-fold predictions, sorted by ID."""
    weights: list[Path]
    """The best model of each fold."""


def run_cv(
    training: pl.DataFrame,
    config: BrainConfig,
    options: RunOptions,
    prepared: Prepared,
    folder: Path,
    *,
    tracked: train.Tracked | None = None,
    threads: int | None = None,
) -> CvResult:
    """Train and predict every fold of the training slices (`BrainSplit`, no test slices) into `folder`.

    Raises `UsageError` where a test slice is among them.
    """
    require_both_labels(training)
    results = [
        run_fold(
            training, fold, config, options, prepared, folder / str(fold), tracked=tracked, threads=threads
        )
        for fold in train.folds_of(training)
    ]
    return gather(results, training["id"].to_list())


def run_fold(
    training: pl.DataFrame,
    fold: int,
    config: BrainConfig,
    options: RunOptions,
    prepared: Prepared,
    folder: Path,
    *,
    tracked: train.Tracked | None = None,
    threads: int | None = None,
) -> FoldResult:
    """Train one fold and predict its validation slices. Raises `UsageError` where test slices are among them."""
    if "test" in training.columns and training["test"].any():
        raise UsageError("a test slice among the training slices: the test set is read once, at the end")
    require_both_labels(training, [fold])
    held = training.filter(pl.col("fold") == fold).sort("id")
    rest = training.filter(pl.col("fold") != fold).sort("id")
    trained = train.train(
        config,
        prepared,
        rest,
        held,
        folder,
        seed=options.seed + fold,
        fold=str(fold),
        batch_size=options.batch_size,
        workers=options.num_workers,
        tracked=tracked,
        threads=threads,
    )
    network = train.load(config, trained.weights)
    logits = predict_logits(network, prepared, held["id"].to_list())
    seen = predict_logits(network, prepared, rest["id"].to_list())
    predictions = prediction_table(held, logits, fold)
    result = FoldResult(
        fold=fold,
        metric=train.metric_of(trained),
        auc_trn=thresholds.auroc(rest["label"].to_numpy(), seen),
        history=train.history_of(folder),
        predictions=predictions,
        weights=trained.weights,
    )
    tables.write_table(folder / PREDICTIONS_NAME, predictions, BrainPredictions)
    files.write_json(folder / FOLD_NAME, {"fold": fold, "metric": result.metric, "auc_trn": result.auc_trn})
    return result


def require_both_labels(training: pl.DataFrame, folds: Sequence[int] | None = None) -> None:
    """Raise `UsageError` where a fold's training or validation slices are all of one label."""
    for fold in train.folds_of(training) if folds is None else folds:
        for name, part in (
            ("training", training.filter(pl.col("fold") != fold)),
            ("validation", training.filter(pl.col("fold") == fold)),
        ):
            if part["label"].n_unique() < 2:
                raise UsageError(f"fold {fold}: its {name} slices are all of one label; use fewer folds")


def read_fold(folder: Path) -> FoldResult:
    """Return a fold that `run_fold` left in `folder`. Raises `UsageError` where it is not complete."""
    if not (folder / FOLD_NAME).exists():
        raise UsageError(f"fold {folder.name} is not trained yet; materialize it first")
    record = files.read_json(folder / FOLD_NAME)
    return FoldResult(
        fold=record["fold"],
        metric=record["metric"],
        auc_trn=float("nan") if record["auc_trn"] is None else record["auc_trn"],
        history=train.history_of(folder),
        predictions=tables.read_table(folder / PREDICTIONS_NAME, BrainPredictions),
        weights=folder / train.WEIGHTS_NAME,
    )


def prediction_table(part: pl.DataFrame, logits: Floats, fold: int | None) -> pl.DataFrame:
    """Return predicted slices as `BrainPredictions`."""
    rows = part.select("id", "study_id", "group_id", "label").with_columns(
        pl.lit(fold, dtype=pl.Int64).alias("fold"),
        pl.Series("logit", logits, dtype=pl.Float64),
        pl.Series("prob", probabilities(logits), dtype=pl.Float64),
    )
    return rows.select(BrainPredictions.column_names()).sort("id")


def gather(results: list[FoldResult], identifiers: list[str]) -> CvResult:
    """Return what folds say together. Raises `ValueError` unless every slice is predicted exactly once."""
    predictions = pl.concat([result.predictions for result in results]).sort("id")
    if sorted(predictions["id"]) != sorted(identifiers):
        raise ValueError("out-of-fold predictions do not hold every training slice exactly once")
    truth = [result.predictions["label"].to_numpy() for result in results]
    scores = [result.predictions["prob"].to_numpy() for result in results]
    seen = [result.auc_trn for result in results]
    metrics = [result.metric for result in results]
    defined = [value for value in metrics if value is not None]
    everything = thresholds.by_fold(truth, scores, seen)
    exact = thresholds.by_fold(truth, scores, seen, thresholds.exact_candidates(scores))
    return CvResult(
        mean_metric=float(np.mean(defined)) if defined else None,
        std_metric=float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
        fold_metrics=metrics,
        histories=[result.history for result in results],
        oof_true=predictions["label"].to_numpy(),
        oof_prob=predictions["prob"].to_numpy(),
        oof_ids=predictions["id"].to_list(),
        y_true_fold=truth,
        y_score_fold=scores,
        df_all=everything,
        df_summary=thresholds.summary(everything),
        df_exact=thresholds.summary(exact),
        predictions=predictions,
        weights=[result.weights for result in results],
    )

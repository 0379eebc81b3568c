"""The final model: all training patients but a small holdout that only ends the training; then the one test.

Belongs here: what is trained, how the test slices are scored, the figures of the test. Does not: the bundle
(`brain.bundle`), who may read the test split and how often (`learning.evaluation.test_access_log`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import progress
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation import bootstrap, calibration, intervals
from ct_assets.learning.evaluation import classification as metrics_stage
from ct_assets.learning.evaluation.calibration import Calibration
from ct_assets.learning.evaluation.intervals import Estimate
from ct_assets.learning.training.train import TrainingResult
from ct_assets.settings.brain import BrainConfig, RunOptions
from ct_assets.settings.training import EvaluationSettings
from ct_assets.systems.brain import aggregate, cv, splits, thresholds, train
from ct_assets.systems.brain.images import Prepared
from ct_assets.systems.brain.task import predict_logits

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CLASSES = ("0", "1")
ECE_BINS = 10


@dataclass(frozen=True, eq=False)
class FinalTraining:
    """The final model's training."""

    result: TrainingResult
    training_slices: int
    holdout_slices: int


def train_final(
    placed: pl.DataFrame,
    config: BrainConfig,
    options: RunOptions,
    prepared: Prepared,
    folder: Path,
    *,
    tracked: train.Tracked | None = None,
    threads: int | None = None,
) -> FinalTraining:
    """Train on every slice outside the test set, a holdout of `holdout_frac` kept back to end the training early.

    Raises `UsageError` where a part lacks a label.
    """
    rest, held = parts(placed, options)
    progress.say(f"final model: {rest.height} slices, {held.height} held out to end the training")
    result = train.train(
        config,
        prepared,
        rest.sort("id"),
        held.sort("id"),
        folder,
        seed=options.seed,
        batch_size=options.batch_size,
        workers=options.num_workers,
        tracked=tracked,
        threads=threads,
    )
    return FinalTraining(result, rest.height, held.height)


def parts(placed: pl.DataFrame, options: RunOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the final model's training slices and its holdout. Raises `UsageError` where a part lacks a label."""
    rest, held = splits.with_holdout(splits.training_part(placed), options.holdout_frac, options.seed)
    for name, part in (("training", rest), ("holdout", held)):
        if part["label"].n_unique() < 2:
            raise UsageError(
                f"final model: its {name} slices are all of one label; change --holdout-frac or add data"
            )
    return rest, held


def score_test(placed: pl.DataFrame, config: BrainConfig, weights: Path, prepared: Prepared) -> pl.DataFrame:
    """Return the predictions of the test slices, and of no other. Raises `UsageError` without test slices."""
    test = splits.test_part(placed).sort("id")
    if test.is_empty():
        raise UsageError("there is no test slice to score")
    logits = predict_logits(train.load(config, weights), prepared, test["id"].to_list())
    return cv.prediction_table(test, logits, None)


def train_final_and_score_test(
    placed: pl.DataFrame,
    config: BrainConfig,
    options: RunOptions,
    prepared: Prepared,
    folder: Path,
    *,
    tracked: train.Tracked | None = None,
    threads: int | None = None,
) -> tuple[FinalTraining, pl.DataFrame]:
    """Train the final model and score the test slices with it."""
    trained = train_final(placed, config, options, prepared, folder, tracked=tracked, threads=threads)
    return trained, score_test(placed, config, trained.result.weights, prepared)


def fit_calibration(out_of_fold: pl.DataFrame) -> Calibration:
    """Return the temperature fitted on out-of-fold probabilities; the test set is not asked."""
    p = out_of_fold["prob"].to_numpy()
    settings = EvaluationSettings(calibration="temperature")
    fitted = calibration.fit(_both(p), out_of_fold["label"].to_numpy(), CLASSES, settings)
    return fitted.transferred()


def calibrated(p: Floats, fitted: Calibration) -> Floats:
    """Return calibrated probabilities of class 1."""
    return np.asarray(fitted.apply(_both(p))[:, 1]) if len(p) else p


def figures(
    predictions: pl.DataFrame,
    threshold: float,
    fitted: Calibration,
    *,
    samples: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """Return every figure of predicted slices or studies, with patient-level intervals.

    `predictions` has `label`, `prob` and `group_id`. Threshold figures use the raw probability, as the
    threshold was chosen on raw ones; Brier and calibration error are given for both.
    """
    truth, p = predictions["label"].to_numpy(), predictions["prob"].to_numpy()
    patients = predictions["group_id"].to_list()
    positive = truth == 1
    called = p >= threshold
    after = calibrated(p, fitted)

    error, error_after = ((_both(one) - np.eye(2)[truth]) ** 2 for one in (p, after))

    def share(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Estimate:
        return intervals.bounded_ratio(above, below, patients, confidence=confidence)

    def calibration_error(probability: Floats) -> Estimate:
        value = metrics_stage.calibration_error(truth, _both(probability), np.ones(len(truth)), ECE_BINS)
        return Estimate(float(value), None, None, len(set(patients)), intervals.BIASED)

    estimates = {
        "roc_auc": intervals.auroc(positive, p, patients, confidence=confidence),
        "auprc": intervals.average_precision(positive, p, patients, confidence=confidence),
        "sensitivity": share(called & positive, positive),
        "specificity": share(~called & ~positive, ~positive),
        "ppv": share(called & positive, called),
        "npv": share(~called & ~positive, ~called),
        "f1": bootstrap.estimate(
            bootstrap.weighted_ratio(2 * (called & positive), called.astype(int) + positive),
            patients,
            samples=samples,
            confidence=confidence,
            seed=seed,
        ),
        "brier": intervals.bounded_mean(error[:, 1], patients, confidence=confidence),
        "brier_calibrated": intervals.bounded_mean(error_after[:, 1], patients, confidence=confidence),
        "ece": calibration_error(p),
        "ece_calibrated": calibration_error(after),
    }
    counts = thresholds.rates(truth, p, [threshold]).select(thresholds.COUNTS).row(0, named=True)
    return {
        "threshold": threshold,
        "count": len(truth),
        "patients": len(set(patients)),
        "prevalence": float(positive.mean()) if len(truth) else None,
        **counts,
        "calibration_temperature": fitted.temperature,
        "confidence": confidence,
        "intervals": {name: estimate.json() for name, estimate in estimates.items()},
    }


def study_figures(
    out_of_fold: pl.DataFrame,
    test: pl.DataFrame | None,
    config: BrainConfig,
    options: RunOptions,
    *,
    samples: int,
    confidence: float,
) -> dict[str, Any] | None:
    """Return figures a study, with a threshold of its own; None where every study has one slice.

    Temperature and threshold come from the out-of-fold studies; with `test` the figures are the test's.
    """
    if not aggregate.has_several(out_of_fold if test is None else pl.concat([out_of_fold, test])):
        return None
    temperature = aggregate.fitted_temperature(out_of_fold, config.aggregation)
    known = aggregate.studies(out_of_fold, config.aggregation, temperature)
    folds = [part for _, part in known.group_by("fold", maintain_order=True)]
    table = thresholds.summary(
        thresholds.by_fold(
            [part["label"].to_numpy() for part in folds],
            [part["prob"].to_numpy() for part in folds],
            [float("nan")] * len(folds),
        )
    )
    chosen = thresholds.select(table, options.threshold_strategy, options.sens_target)
    judged = known if test is None else aggregate.studies(test, config.aggregation, temperature)
    told = figures(
        judged, chosen["threshold"], fit_calibration(known), samples=samples, confidence=confidence,
        seed=options.seed,
    )  # fmt: skip
    return {"aggregation": config.aggregation, "temperature": temperature, "selection": chosen, **told}


def _both(p: Floats) -> Floats:
    return np.stack([1 - p, p], axis=1)

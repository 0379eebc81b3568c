"""Stage figures with their intervals, over patients.

Belongs here: which interval each stage measure gets. The measures are in `classification`, the methods in `intervals`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ct_assets.learning.evaluation import bootstrap, classification, intervals
from ct_assets.learning.evaluation.intervals import Comparison, Estimate
from ct_assets.settings.training import EvaluationSettings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CHANCE = 0.5
"""AUROC of a model that knows nothing."""


def figures(
    truth: Ints,
    probabilities: Floats,
    stages: tuple[str, ...],
    patients: Sequence[str],
    settings: EvaluationSettings,
    *,
    seed: int,
) -> dict[str, Estimate]:
    """Return every stage measure by name, each with its interval or the reason why it has none."""
    level = settings.confidence
    present = [c for c in range(len(stages)) if (truth == c).any() and (truth != c).any()]
    found: dict[str, Estimate] = {}
    for name, function in (("auroc", intervals.auroc), ("auprc", intervals.average_precision)):
        of_class = {
            f"{name}_{stages[c]}": function(truth == c, probabilities[:, c], patients, confidence=level)
            for c in present
        }
        found |= of_class
        found[f"{name}_macro"] = intervals.mean_of_classes(list(of_class.values()))
    found["quadratic_kappa"] = bootstrap.estimate(
        lambda weights: classification.quadratic_kappa(truth, probabilities, weights),
        patients,
        samples=settings.bootstrap_samples,
        confidence=level,
        seed=seed,
    )
    found["balanced_accuracy"] = _balanced_accuracy(truth, probabilities.argmax(1), patients, level)
    error = ((probabilities - np.eye(len(stages))[truth]) ** 2).sum(1)
    found["brier"] = intervals.bounded_mean(error, patients, confidence=level, highest=2.0)
    ece = classification.calibration_error(truth, probabilities, np.ones(len(truth)), settings.ece_bins)
    found["ece"] = Estimate(float(ece), None, None, len(set(patients)), intervals.BIASED)
    return found


def compare_auroc(
    truth: Ints,
    first: Floats,
    second: Floats,
    stages: tuple[str, ...],
    patients: Sequence[str],
    settings: EvaluationSettings,
) -> tuple[Comparison, bool]:
    """Return the difference of two models' macro AUROC, and whether the first is better than chance at all.

    Pooled out-of-fold predictions of a baseline that knows nothing lie below 0.5, because each fold's training labels
    miss what the fold has; being above them is no merit of a model that is not above chance.
    """
    ours, theirs = (
        classification.measures(truth, p, stages, ece_bins=settings.ece_bins)["auroc_macro"]
        for p in (first, second)
    )
    counts = np.bincount(truth, minlength=len(stages))
    rarest = int(counts[counts > 0].min()) if (counts > 0).sum() > 1 else 0
    level = settings.confidence
    against_chance = intervals.difference(
        lambda weights: ours(weights) - CHANCE, patients, confidence=level, least_in_class=rarest
    )
    found = intervals.difference(
        lambda weights: ours(weights) - theirs(weights), patients, confidence=level, least_in_class=rarest
    )
    return found, against_chance.low is not None and against_chance.low > 0


def _balanced_accuracy(truth: Ints, called: Ints, patients: Sequence[str], confidence: float) -> Estimate:
    names = np.asarray(patients, dtype=object)
    recalls = [
        intervals.bounded_mean(called[truth == c] == c, names[truth == c].tolist(), confidence=confidence)
        for c in np.unique(truth)
    ]
    return intervals.mean_of_separate(recalls)

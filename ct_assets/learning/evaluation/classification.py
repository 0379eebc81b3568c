"""How well stage probabilities fit, over patients.

Belongs here: each measure as a function of truth, probabilities and patient weights. Weights are counts of
bootstrap resamples (or ones): with weights (resamples, patients) a measure gives a value a resample, all at
once, and equals what it gives for the rows repeated. What a resample cannot define is NaN.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def auroc(is_class: Bools, score: Floats, weights: Floats) -> Floats:
    """Return the area under the ROC curve (ties count half), (...,) for weights (..., patients)."""
    order = np.argsort(score, kind="stable")
    starts = _tie_starts(score[order])
    positive = np.add.reduceat(weights[..., order] * is_class[order], starts, axis=-1)
    negative = np.add.reduceat(weights[..., order] * ~is_class[order], starts, axis=-1)
    below = np.cumsum(negative, axis=-1) - negative
    wins = (positive * (below + negative / 2)).sum(-1)
    return _ratio(wins, positive.sum(-1) * negative.sum(-1))


def auprc(is_class: Bools, score: Floats, weights: Floats) -> Floats:
    """Return the average precision: the sum of precision over steps of recall, ties as one step."""
    order = np.argsort(-score, kind="stable")
    starts = _tie_starts(-score[order])
    positive = np.add.reduceat(weights[..., order] * is_class[order], starts, axis=-1)
    called = np.cumsum(np.add.reduceat(weights[..., order], starts, axis=-1), axis=-1)
    hits = np.cumsum(positive, axis=-1)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return _ratio((precision * positive).sum(-1), positive.sum(-1))


def brier(truth: Ints, probabilities: Floats, weights: Floats) -> Floats:
    """Return the mean over patients of the squared error summed over classes (0 … 2)."""
    error = ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(1)
    return _ratio(weights @ error, weights.sum(-1))


def calibration_error(truth: Ints, probabilities: Floats, weights: Floats, bins: int) -> Floats:
    """Return the expected calibration error of the called class over equally wide bins of confidence."""
    confidence = probabilities.max(1)
    right = (probabilities.argmax(1) == truth).astype(float)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.zeros(weights.shape[:-1])
    for which in np.unique(place):
        inside = place == which
        gap = gap + np.abs(weights[..., inside] @ (right - confidence)[inside])
    return _ratio(gap, weights.sum(-1))


def balanced_accuracy(truth: Ints, probabilities: Floats, weights: Floats) -> Floats:
    """Return the mean recall of the classes that occur."""
    matrix = confusion(truth, probabilities.argmax(1), weights, probabilities.shape[1])
    total = matrix.sum(-1)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    recall = np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)
    return _ratio(recall.sum(-1), (total > 0).sum(-1).astype(float))


def quadratic_kappa(truth: Ints, probabilities: Floats, weights: Floats) -> Floats:
    """Return Cohen's kappa with squared distance between classes (Cohen 1968); NaN without disagreement by chance."""
    classes = probabilities.shape[1]
    matrix = confusion(truth, probabilities.argmax(1), weights, classes)
    distance = np.subtract.outer(np.arange(classes), np.arange(classes)).astype(float) ** 2
    expected = matrix.sum(-1)[..., :, None] * matrix.sum(-2)[..., None, :]
    observed_cost = (matrix * distance).sum((-2, -1))
    expected_cost = _ratio((expected * distance).sum((-2, -1)), matrix.sum((-2, -1)))
    return 1 - _ratio(observed_cost, expected_cost)


def confusion(truth: Ints, called: Ints, weights: Floats, classes: int) -> Floats:
    """Return weights summed by (true, called) class, (..., classes, classes)."""
    cells = np.eye(classes * classes)[truth * classes + called]
    return (weights @ cells).reshape(*weights.shape[:-1], classes, classes)


Measure = Callable[[Floats], Floats]


def measures(
    truth: Ints, probabilities: Floats, stages: tuple[str, ...], *, ece_bins: int
) -> dict[str, Measure]:
    """Return every stage measure by name, as a function of weights.

    AUROC and AUPRC are one-vs-rest for each class that occurs, and their means over these classes (`macro`).
    """
    present = [c for c in range(len(stages)) if (truth == c).any() and (truth != c).any()]
    named: dict[str, Measure] = {}
    for name, function in (("auroc", auroc), ("auprc", auprc)):
        for c in present:
            named[f"{name}_{stages[c]}"] = _one_vs_rest(function, truth == c, probabilities[:, c])
        named[f"{name}_macro"] = _mean_of([named[f"{name}_{stages[c]}"] for c in present])
    named["quadratic_kappa"] = lambda weights: quadratic_kappa(truth, probabilities, weights)
    named["balanced_accuracy"] = lambda weights: balanced_accuracy(truth, probabilities, weights)
    named["brier"] = lambda weights: brier(truth, probabilities, weights)
    named["ece"] = lambda weights: calibration_error(truth, probabilities, weights, ece_bins)
    return named


def _one_vs_rest(
    function: Callable[[Bools, Floats, Floats], Floats], is_class: Bools, score: Floats
) -> Measure:
    return lambda weights: function(is_class, score, weights)


def _mean_of(parts: list[Measure]) -> Measure:
    def mean(weights: Floats) -> Floats:
        if not parts:
            return np.full(weights.shape[:-1], np.nan)
        return np.mean([part(weights) for part in parts], axis=0)

    return mean


def _tie_starts(ordered: Floats) -> Ints:
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _ratio(above: Floats, below: Floats) -> Floats:
    above, below = np.asarray(above, float), np.asarray(below, float)
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)

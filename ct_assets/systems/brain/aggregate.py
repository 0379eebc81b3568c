"""From the slices of a study to the study: one probability, and the slices that made it.

Belongs here: the three ways to pool, and the one number that the third learns. A slice's probability is
how sure the model is of a lesion in it; a study is positive where any of its slices is.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets.settings.brain import Aggregation
from ct_assets.systems.brain.task import probabilities

Floats = npt.NDArray[np.float64]

TEMPERATURES = tuple(float(value) for value in np.geomspace(0.05, 20.0, 61))
"""Candidates of the attention's temperature: from nearly the maximum to nearly the mean."""


def pool(logits: Floats, how: Aggregation, temperature: float = 1.0) -> float:
    """Return one probability of a study's logits.

    `max`: the surest slice. `noisy_or`: 1 - prod(1 - p), as if slices were independent, which many slices of
    one healthy head make too sure. `attention`: the mean of p weighted by softmax(logit / temperature).
    """
    values = np.asarray(logits, dtype=np.float64)
    p = probabilities(values)
    if how == "max":
        return float(p.max())
    if how == "noisy_or":
        return float(-np.expm1(np.log1p(-np.minimum(p, 1 - 1e-12)).sum()))
    return float(np.sum(attention_weights(values, temperature) * p))


def attention_weights(logits: Floats, temperature: float) -> Floats:
    """Return softmax(logits / temperature)."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    raised = np.exp(scaled - scaled.max())
    return np.asarray(raised / raised.sum())


def studies(predictions: pl.DataFrame, how: Aggregation, temperature: float = 1.0) -> pl.DataFrame:
    """Return a row a study of slice predictions (`BrainPredictions`): label, probability, slices, the surest slice."""
    rows = []
    for (study,), part in predictions.sort("id").group_by("study_id", maintain_order=True):
        logits = part["logit"].to_numpy()
        rows.append(
            {
                "study_id": study,
                "group_id": part["group_id"][0],
                "label": int(part["label"].to_numpy().max()),
                "fold": part["fold"][0],
                "prob": pool(logits, how, temperature),
                "slices": part.height,
                "surest_slice": part["id"][int(logits.argmax())],
            }
        )
    schema = {
        "study_id": pl.String, "group_id": pl.String, "label": pl.Int64, "fold": pl.Int64,
        "prob": pl.Float64, "slices": pl.Int64, "surest_slice": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row").sort("study_id")


def fit_temperature(logits: Sequence[Floats], labels: Sequence[int]) -> float:
    """Return the attention's temperature of least log loss over studies, from out-of-fold logits."""
    truth = np.asarray(labels, dtype=np.float64)

    def loss(temperature: float) -> float:
        p = np.clip([pool(one, "attention", temperature) for one in logits], 1e-7, 1 - 1e-7)
        return float(-(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean())

    return min(TEMPERATURES, key=loss)


def fitted_temperature(predictions: pl.DataFrame, how: Aggregation) -> float:
    """Return the temperature for a table of out-of-fold predictions; 1 where no attention is asked for."""
    if how != "attention" or predictions.is_empty():
        return 1.0
    by_study = predictions.group_by("study_id", maintain_order=True).agg("logit", pl.col("label").max())
    return fit_temperature([np.asarray(one) for one in by_study["logit"]], by_study["label"].to_list())


def has_several(predictions: pl.DataFrame) -> bool:
    """Tell whether any study has more than one slice."""
    return bool(predictions.height > predictions["study_id"].n_unique())

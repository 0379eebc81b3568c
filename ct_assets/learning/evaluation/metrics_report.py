"""From scores of cases to the figures of a report: pooled, by fold, by stratum, each with its interval.

Belongs here: which figures there are, over whom, and the plain verdicts. Does not: how a case is scored, or
where predictions come from (`learning.evaluation.evaluate`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets.learning.evaluation import classification as metrics_stage
from ct_assets.learning.evaluation import intervals, stage_intervals
from ct_assets.learning.evaluation.calibration import OperatingPoint
from ct_assets.settings.training import EvaluationSettings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEAST_IN_STRATUM = 2
"""Strata of fewer patients are counted, not measured."""


@dataclass(frozen=True)
class StageData:
    """Stage predictions of several models on the same patients."""

    rows: pl.DataFrame
    """A row a patient: patient_id, fold, site, scanner."""
    truth: Ints
    models: dict[str, Floats]
    """Probabilities (patients, classes) by model; `model` is ours, the others baselines or variants."""
    stages: tuple[str, ...]
    operating_points: tuple[OperatingPoint, ...] = ()
    """Frozen thresholds to be judged, if any."""


def build(
    scores: pl.DataFrame, stage: StageData | None, settings: EvaluationSettings, *, seed: int, model: str
) -> dict[str, Any]:
    """Return `segmentation`, `stage`, `comparisons`, `verdicts` and `case_scores` of a report."""
    judge = _Judge(settings, seed)
    segmentation = {
        name: judge.segmentation(scores.filter(pl.col("model") == name))
        for name in scores["model"].unique(maintain_order=True)
    }
    comparisons: dict[str, Any] = {}
    for name in segmentation:
        if name != model:
            comparisons[f"dice_{model}_minus_{name}"] = judge.compare_dice(scores, model, name)
    staged: dict[str, Any] = {}
    if stage is not None:
        staged = {name: judge.stage(stage, p) for name, p in stage.models.items()}
        for name in ("prevalence", "headers_only"):
            if name in stage.models:
                comparisons |= judge.compare_stage(stage, model, name)
    content: dict[str, Any] = {
        "segmentation": segmentation,
        "stage": staged,
        "comparisons": comparisons,
        "verdicts": verdicts(comparisons, model),
        "case_scores": _plain(scores.filter(pl.col("model") == model).sort("dice").drop("model").to_dicts()),
    }
    if stage is not None and stage.operating_points:
        content["operating_points"] = judge.operating_points(stage, model)
    if stage is not None:
        content["stage_predictions"] = [
            {
                "patient_id": patient,
                "truth": stage.stages[t],
                "probabilities": [round(float(v), 6) for v in p],
            }
            for patient, t, p in zip(stage.rows["patient_id"], stage.truth, _shown(stage, model), strict=True)
        ]
    return content


def _shown(stage: StageData, model: str) -> Floats:
    return stage.models.get("model_calibrated", stage.models[model])


def verdicts(comparisons: dict[str, Any], model: str) -> list[str]:
    """Return one plain sentence a comparison: does the model beat the baseline?

    None is drawn from fewer than `intervals.LEAST_FOR_VERDICT` patients, or `LEAST_IN_CLASS` of a class.
    """
    lines = []
    for name, found in comparisons.items():
        measure, _, baseline = name.partition(f"_{model}_minus_")
        difference, low, high = found["difference"], found["low"], found["high"]
        if difference is None:
            lines.append(f"{measure} against {baseline}: cannot be compared on these patients.")
            continue
        shown = "no interval" if low is None else f"interval {low:.3f} to {high:.3f}"
        if not found["is_decidable"]:
            lines.append(
                f"{measure} against {baseline}: no verdict from {found['patients']} patients, at least "
                f"{intervals.LEAST_FOR_VERDICT} and {intervals.LEAST_IN_CLASS} of each class are needed: "
                f"difference {difference:.3f} ({shown})."
            )
        elif low > 0 and found.get("is_above_chance", True):
            lines.append(f"{measure}: the model beats {baseline} by {difference:.3f} ({shown}).")
        else:
            lines.append(
                f"{measure}: the model does NOT beat {baseline}: difference {difference:.3f} ({shown})."
            )
    return lines


class _Judge:
    """Figures under one set of settings."""

    def __init__(self, settings: EvaluationSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed

    def segmentation(self, scores: pl.DataFrame) -> dict[str, Any]:
        by_size = scores.with_columns(lesion_size=self._size_band(scores["reference_ml"]))
        return {
            "pooled": self._segmentation_figures(scores),
            "folds": self._by(scores, "fold"),
            "strata": {name: self._by(by_size, name) for name in ("stage", "site", "scanner", "lesion_size")},
        }

    def _by(self, scores: pl.DataFrame, column: str) -> dict[str, Any]:
        groups = sorted({str(value) for value in scores[column].drop_nulls()})
        return {
            group: self._segmentation_figures(scores.filter(pl.col(column).cast(pl.String) == group))
            for group in groups
        }

    def _segmentation_figures(self, scores: pl.DataFrame) -> dict[str, Any]:
        level = self.settings.confidence
        patients = scores["patient_id"].to_list()
        figures: dict[str, Any] = {}
        for name in ("dice", "nsd", "lesion_f1"):
            figures[name] = intervals.bounded_mean(scores[name].to_list(), patients, confidence=level)
        for name in ("hd95_mm", "volume_error_ml"):
            figures[name] = intervals.mean(scores[name].to_list(), patients, confidence=level)
        with_volume = scores.filter(pl.col("volume_error_share").is_not_null())
        figures["volume_error_share"] = intervals.mean(
            with_volume["volume_error_share"].to_list(), with_volume["patient_id"].to_list(), confidence=level
        )
        missed = (scores["lesions"] - scores["lesions_found"]).to_list()
        figures["lesion_miss_rate"] = intervals.bounded_ratio(
            missed, scores["lesions"].to_list(), patients, confidence=level
        )
        figures["false_lesions_a_case"] = intervals.mean(
            scores["lesions_false"].to_list(), patients, confidence=level, least=0.0
        )
        figures["case_miss_rate"] = intervals.bounded_mean(
            scores["is_missed"].cast(pl.Float64).to_list(), patients, confidence=level
        )
        return {name: _plain_estimate(figure) for name, figure in figures.items()}

    def _size_band(self, volumes: pl.Series) -> pl.Series:
        borders = self.settings.lesion_size_ml
        edges = ("0", *[f"{border:g}" for border in borders])
        names = [
            f"{place}: {low} to {high} ml" if high else f"{place}: above {low} ml"
            for place, (low, high) in enumerate(zip(edges, (*edges[1:], None), strict=True))
        ]
        place = np.digitize(volumes.to_numpy(), borders)
        return pl.Series("lesion_size", [names[p] for p in place], dtype=pl.String)

    def stage(self, stage: StageData, probabilities: Floats) -> dict[str, Any]:
        return {
            "pooled": self._stage_figures(stage, probabilities, np.arange(len(stage.truth))),
            "folds": self._stage_by(stage, probabilities, "fold"),
            "strata": {name: self._stage_by(stage, probabilities, name) for name in ("site", "scanner")},
            "confusion": metrics_stage.confusion(
                stage.truth, probabilities.argmax(1), np.ones(len(stage.truth)), len(stage.stages)
            )
            .astype(int)
            .tolist(),
        }

    def _stage_by(self, stage: StageData, probabilities: Floats, column: str) -> dict[str, Any]:
        values = stage.rows[column].cast(pl.String).to_numpy()
        groups = sorted({value for value in values if value is not None})
        return {
            group: self._stage_figures(stage, probabilities, np.flatnonzero(values == group))
            for group in groups
        }

    def _stage_figures(self, stage: StageData, probabilities: Floats, rows: Ints) -> dict[str, Any]:
        patients = stage.rows["patient_id"].gather(rows).to_list()
        if len(set(patients)) < LEAST_IN_STRATUM:
            return {"patients": len(set(patients))}
        estimates = stage_intervals.figures(
            stage.truth[rows], probabilities[rows], stage.stages, patients, self.settings, seed=self.seed
        )
        figures: dict[str, Any] = {name: _plain_estimate(found) for name, found in estimates.items()}
        figures["prevalence"] = {
            name: _round(float((stage.truth[rows] == c).mean())) for c, name in enumerate(stage.stages)
        }
        return figures

    def operating_points(self, stage: StageData, model: str) -> list[dict[str, Any]]:
        """Judge frozen thresholds: what each class's call is worth on these patients."""
        judged = []
        patients = stage.rows["patient_id"].to_list()
        for c, point in enumerate(stage.operating_points):
            row: dict[str, Any] = {"stage": point.stage, "threshold": point.threshold, "rule": point.rule}
            if point.threshold is not None:
                called = stage.models[model][:, c] >= point.threshold
                is_class = stage.truth == c
                hits = called & is_class
                level = self.settings.confidence
                row["sensitivity"] = _plain_estimate(
                    intervals.bounded_ratio(hits, is_class, patients, confidence=level)
                )
                row["ppv"] = _plain_estimate(
                    intervals.bounded_ratio(hits, called, patients, confidence=level)
                )
            judged.append(row)
        return judged

    def compare_dice(self, scores: pl.DataFrame, model: str, baseline: str) -> dict[str, Any]:
        ours = scores.filter(pl.col("model") == model).sort("case_id")
        theirs = scores.filter(pl.col("model") == baseline).sort("case_id")
        both = ours.join(theirs, on="case_id", suffix="_other", maintain_order="left")
        found = intervals.difference_of_means(
            both["dice"].to_list(),
            both["dice_other"].to_list(),
            both["patient_id"].to_list(),
            confidence=self.settings.confidence,
        )
        return {name: _round(value) for name, value in found.json().items()}

    def compare_stage(self, stage: StageData, model: str, baseline: str) -> dict[str, Any]:
        found, is_above_chance = stage_intervals.compare_auroc(
            stage.truth,
            stage.models[model],
            stage.models[baseline],
            stage.stages,
            stage.rows["patient_id"].to_list(),
            self.settings,
        )
        told = {name: _round(value) for name, value in found.json().items()}
        return {f"auroc_macro_{model}_minus_{baseline}": {**told, "is_above_chance": is_above_chance}}


def _plain_estimate(found: intervals.Estimate) -> dict[str, Any]:
    return {name: _round(value) for name, value in found.json().items()}


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: _round(value) for name, value in row.items()} for row in rows]


def _round(value: Any) -> Any:
    """Round figures for reports: six digits are more than any of them is worth, and the same everywhere."""
    if isinstance(value, float):
        return round(value, 6) if np.isfinite(value) else None
    return value

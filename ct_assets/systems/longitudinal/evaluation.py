"""Evaluation of a trained flow model on the pairs of a split: predicted crops, their volumes, and images.

Belongs here: predicting, measuring, a row a pair, and `report.json`. Does not: comparing volumes with baselines
(`evaluate`), the page (`page`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import files, tables
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation import bootstrap, image
from ct_assets.systems.longitudinal import baselines, evaluate, measure, patch_store, training
from ct_assets.systems.longitudinal.baselines import Pair
from ct_assets.systems.longitudinal.patch_store import PatchSet
from ct_assets.systems.longitudinal.training import FlowModel
from ct_assets.tables import longitudinal as schemas

Row = dict[str, Any]
Crops = npt.NDArray[Any]

REPORT_NAME, PREDICTIONS_NAME = "report.json", "predictions.parquet"
RANGE_HU = (-1000.0, 400.0)
"""PSNR and SSIM are over values clipped to it."""
OUTSIDE_MARGIN = 2
"""Voxels between the nodule's boxes and what counts as outside."""
FEATURES = (
    "mean",
    "deviation",
    "p5",
    "p25",
    "p50",
    "p75",
    "p95",
    "p99",
    "roughness_k",
    "roughness_j",
    "roughness_i",
)
"""Features of a crop for distances of distributions: moments, percentiles, mean steps along each axis, in HU."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gave."""

    rows: list[Row]
    report: Row
    predicted: Crops
    """HU, (pairs, slices, rows, columns)."""


def pairs_of(crops: PatchSet) -> tuple[list[Pair | None], list[measure.Contrast | None]]:
    """Return each pair with measured volumes and its contrast; null where its nodule is not found on an exam.

    The earlier volume is the tracked one, the later one is measured with the earlier exam's contrast.
    """
    pairs: list[Pair | None] = []
    contrasts = []
    for row, earlier, later in zip(crops.rows, crops.earlier, crops.later, strict=True):
        contrast = measure.contrast_of(earlier, row["box_a"], crops.settings.spacing_mm, row["volume_a"])
        seen = contrast and measure.measure(later, row["box_a"], crops.settings.spacing_mm, contrast)
        contrasts.append(contrast)
        pairs.append(
            Pair(
                pid=row["pid"],
                nodule_group=row["nodule_group"],
                exam_a=row["exam_a"],
                exam_b=row["exam_b"],
                volume_a=row["volume_a"],
                volume_b=seen.volume_mm3,
                delta_days=row["delta_days"],
                nodule_type=row["nodule_type"],
                volume_before=row["volume_before"],
                days_before=row["days_before"],
            )
            if seen
            else None
        )
    return pairs, contrasts


def run(patches_dir: Path, experiment_dir: Path, *, split: str = "test", seed: int = 0) -> Evaluation:
    """Evaluate a trained paired flow model on the pairs of a split. Raises `UsageError` naming what lacks."""
    model = training.open_flow(experiment_dir)
    if model.config.kind != "paired":
        raise UsageError(
            f"{experiment_dir}: an unconditional model predicts no later exam; evaluate a paired one"
        )
    crops, learned = patch_store.read(patches_dir, split), patch_store.read(patches_dir, "train")
    if crops.digest != model.crops_digest:
        raise UsageError(
            f"{patches_dir}: holds other crops than {experiment_dir.name} was trained on; train it again"
        )
    if not crops.rows:
        raise UsageError(f"{patches_dir}: no pair of the split {split}")
    pairs, contrasts = pairs_of(crops)
    usable = [number for number, pair in enumerate(pairs) if pair is not None]
    rates = baselines.learn([pair for pair in pairs_of(learned)[0] if pair is not None])
    predicted = model.predict(crops)
    measured = _measured(predicted, crops, contrasts)
    rows = evaluate.rows(
        [pair for pair in pairs if pair is not None], [_volume(measured[number]) for number in usable], rates
    )
    withheld = _without_interval(model, crops, contrasts, seed)
    for row, number in zip(rows, usable, strict=True):
        row |= _image_row(crops, predicted, measured, contrasts, number)
        row["timepoints_skipped"] = crops.rows[number]["timepoints_skipped"]
        row["tracked_volume_b"] = crops.rows[number]["volume_b"]
        low, high = model.interval_days
        row["reasons"] = [
            code
            for code, holds in (
                ("interval_beyond_training", not low <= row["delta_days"] <= high),
                ("prediction_without_nodule", measured[number] is None),
            )
            if holds
        ]
        row |= {name: volumes[number] for name, volumes in withheld.items()}
    report = evaluate.report(rows, seed=seed) | {
        "experiment": experiment_dir.name,
        "split": split,
        "weights_sha256": model.weights_sha256,
        "training_interval_days": list(model.interval_days),
        "not_measured": len(pairs) - len(usable),
        "interval_withheld": _withheld_report(rows, seed),
        "images": _image_report(rows, crops, predicted),
        "memorisation": memorisation(predicted, crops.later, learned.later),
    }
    return Evaluation(rows, report, predicted)


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write the rows and the report of an evaluation."""
    frame = pl.DataFrame(
        [
            {name: row.get(name) for name in schemas.NodulePredictions.column_names()}
            for row in evaluation.rows
        ],
        schema=tables.dtypes(schemas.NodulePredictions),
        orient="row",
    )
    tables.write_table(folder / PREDICTIONS_NAME, frame, schemas.NodulePredictions)
    files.write_json(folder / REPORT_NAME, evaluation.report)


def memorisation(predicted: Crops, real: Crops, learned: Crops) -> Row:
    """Compare how near predictions lie to training crops with how near real later crops do (root mean square, HU).

    A model that copies training crops makes a ratio well below 1.
    """
    nearest = {
        name: float(np.median(_nearest(some, learned)))
        for name, some in (("predicted", predicted), ("real", real))
    }
    ratio = nearest["predicted"] / nearest["real"] if nearest["real"] else None
    return {f"{name}_nearest_training_hu": value for name, value in nearest.items()} | {"ratio": ratio}


def features(crops: Crops) -> npt.NDArray[np.float64]:
    """Return `FEATURES` of crops (n, slices, rows, columns), clipped to `RANGE_HU`."""
    clipped = np.clip(np.asarray(crops, np.float64), *RANGE_HU)
    flat = clipped.reshape(len(clipped), -1)
    steps = [np.abs(np.diff(clipped, axis=axis)).reshape(len(clipped), -1).mean(axis=1) for axis in (1, 2, 3)]
    percentiles = np.percentile(flat, (5, 25, 50, 75, 95, 99), axis=1)
    return np.stack([flat.mean(axis=1), flat.std(axis=1), *percentiles, *steps], axis=1)


def _measured(
    predicted: Crops, crops: PatchSet, contrasts: Sequence[measure.Contrast | None]
) -> list[measure.Measured | None]:
    return [
        None if contrast is None else measure.measure(crop, row["box_a"], crops.settings.spacing_mm, contrast)
        for crop, row, contrast in zip(predicted, crops.rows, contrasts, strict=True)
    ]


def _volume(measured: measure.Measured | None) -> float | None:
    return None if measured is None else measured.volume_mm3


def _without_interval(
    model: FlowModel,
    crops: PatchSet,
    contrasts: Sequence[measure.Contrast | None],
    seed: int,
) -> dict[str, list[float]]:
    """Return volumes predicted without the true interval: intervals of other pairs, and the shortest one trained."""
    days = np.array([row["delta_days"] for row in crops.rows])
    variants = {
        "predicted_shuffled_interval": np.random.default_rng([seed, 53]).permutation(days),
        "predicted_shortest_interval": np.full(len(days), model.interval_days[0]),
    }
    return {
        name: [_volume(one) or 0.0 for one in _measured(model.predict(crops, some), crops, contrasts)]
        for name, some in variants.items()
    }


def _withheld_report(rows: Sequence[Row], seed: int) -> Row:
    """Return how much of the gain over copying is lost without the interval, on growing nodules."""
    growing = [row for row in rows if row["growth_class"] == "growing"]
    if not growing:
        return {"pairs": 0}
    truth = np.array([row["volume_b"] for row in growing])
    errors = {
        name: np.abs(np.array([row[name] for row in growing]) - truth)
        for name in ("copy_input", "predicted", "predicted_shuffled_interval", "predicted_shortest_interval")
    }
    gain = errors["copy_input"] - errors["predicted"]
    result: Row = {
        "pairs": len(growing),
        **{f"{name}_mae_mm3": float(some.mean()) for name, some in errors.items()},
    }
    for name in ("predicted_shuffled_interval", "predicted_shortest_interval"):
        lost = errors[name] - errors["predicted"]
        result[f"{name}_lost_share"] = bootstrap.estimate(
            bootstrap.weighted_ratio(lost, gain),
            [row["pid"] for row in growing],
            samples=evaluate.SAMPLES,
            confidence=evaluate.CONFIDENCE,
            seed=seed,
        ).json()
    return result


def _image_row(
    crops: PatchSet,
    predicted: Crops,
    measured: Sequence[measure.Measured | None],
    contrasts: Sequence[measure.Contrast | None],
    number: int,
) -> Row:
    row, spacing = crops.rows[number], crops.settings.spacing_mm
    contrast = contrasts[number]
    assert contrast is not None
    region = _region(row, crops.settings.shape, 0)
    outside = ~_region(row, crops.settings.shape, OUTSIDE_MARGIN)
    real, copied, made = (
        np.clip(np.asarray(some[number], np.float64), *RANGE_HU)
        for some in (crops.later, crops.earlier, predicted)
    )
    reach = RANGE_HU[1] - RANGE_HU[0]
    later = measure.measure(crops.later[number], row["box_a"], spacing, contrast)
    found = measured[number]
    return {
        "dice": measure.dice(found.mask, later.mask) if found and later else 0.0,
        "psnr_region": image.psnr(made[region], real[region], reach),
        "psnr_region_copy": image.psnr(copied[region], real[region], reach),
        "psnr_whole": image.psnr(made, real, reach),
        "psnr_whole_copy": image.psnr(copied, real, reach),
        "ssim_region": image.ssim(made, real, reach, region),
        "ssim_region_copy": image.ssim(copied, real, reach, region),
        "outside_change_hu": float(np.abs(made - copied)[outside].mean()) if outside.any() else None,
        "outside_change_real_hu": float(np.abs(real - copied)[outside].mean()) if outside.any() else None,
    }


def _image_report(rows: Sequence[Row], crops: PatchSet, predicted: Crops) -> Row:
    names = ("dice", "psnr_region", "psnr_region_copy", "psnr_whole", "psnr_whole_copy", "ssim_region",
             "ssim_region_copy", "outside_change_hu", "outside_change_real_hu")  # fmt: skip
    result: Row = {}
    for name in names:
        values = [row[name] for row in rows if row[name] is not None and np.isfinite(row[name])]
        result[f"mean_{name}"] = float(np.mean(values)) if values else None
    result["range_hu"] = list(RANGE_HU)
    result["features"] = list(FEATURES)
    result["features_digest"] = hashlib.sha256("|".join(FEATURES).encode()).hexdigest()[:16]
    if len(rows) > len(FEATURES):
        real = features(crops.later)
        centre, spread = real.mean(axis=0), real.std(axis=0) + 1e-9
        for name, some in (("model", predicted), ("copy_input", crops.earlier)):
            made = (features(some) - centre) / spread
            result[f"frechet_{name}"] = image.frechet_distance(made, (real - centre) / spread)
            result[f"mmd2_{name}"] = image.mmd2(made, (real - centre) / spread)
    return result


def _region(row: Row, shape: tuple[int, int, int], margin: int) -> npt.NDArray[np.bool_]:
    region = np.zeros(shape, bool)
    low = np.minimum(row["box_a"][:3], row["box_b"][:3]) - margin
    high = np.maximum(row["box_a"][3:], row["box_b"][3:]) + margin
    i, j, k = (slice(max(0, int(a)), int(b) + 1) for a, b in zip(low, high, strict=True))
    region[k, j, i] = True
    return region


def _nearest(some: Crops, learned: Crops) -> npt.NDArray[np.float64]:
    """Return the root mean square distance of each crop to its nearest training crop."""
    a, b = (np.clip(crops.reshape(len(crops), -1).astype(np.float64), *RANGE_HU) for crops in (some, learned))
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    nearest: npt.NDArray[np.float64] = np.sqrt(np.maximum(squared, 0).min(axis=1) / a.shape[1])
    return nearest

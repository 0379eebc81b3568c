"""Evaluation of a nodule detector: FROC and CPM, centre, size, triage and masks, all by strata; two detectors compared.

Belongs here: which figures a report has, and its text. Does not: rules of hits (`learning.evaluation.detection`), CSV
evaluation (`froc`). Centre, size and triage are those of findings that were hit (by their mark of the highest score), so
the share of missed findings stands beside them.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ct_assets.learning.evaluation import bootstrap, classification, intervals
from ct_assets.learning.evaluation.detection import FALSE_MARKS_PER_SCAN
from ct_assets.systems.nodules import froc, mark_calibration
from ct_assets.systems.nodules import marks as rows
from ct_assets.systems.nodules.marks import Evaluated

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CONFIDENCE = 0.95
SIZES_MM = (4.0, 8.0, 12.0, 20.0)
"""Limits of the strata of size; a limit belongs to the stratum above."""
URGENT_FROM = 7
"""The triage head gives the probability of a score from here on."""
SCORE_BANDS, PROBABILITY_BANDS = (4, URGENT_FROM), (0.3, 0.7)
"""Low, middle and high: of scores 1 to 10, and of that probability. A limit belongs to the band above."""
LEAST_FOR_CORRELATION = 3


def evaluate(
    data: Evaluated,
    *,
    overlaps: Mapping[str, tuple[float, float]] | None = None,
    folds: Mapping[str, int] | None = None,
    calibration: mark_calibration.Kind = "temperature",
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the report. `overlaps` is `overlap` of each scan; with `folds` of scans the scores' calibration is measured.

    Raises `ValueError` where no finding is counted.
    """
    matching = data.matching()
    best, kinds = rows.pairs(data)
    counted = np.array([not truth.is_excluded for truth in data.truths], dtype=bool)
    sensitivity = matching.sensitivity()
    report: dict[str, Any] = {
        "scans": len(data.scans),
        "patients": len(set(data.patients)),
        "findings": int(counted.sum()),
        "marks": len(data.marks),
        "cpm": float(sensitivity.mean()),
        "sensitivity_at": {
            f"{rate:g}": float(value) for rate, value in zip(FALSE_MARKS_PER_SCAN, sensitivity, strict=True)
        },
        "cpm_interval": bootstrap.estimate(
            matching.cpm, data.patients, samples=samples, confidence=CONFIDENCE, seed=seed
        ).json(),
        "luna16_interval": froc.interval(matching, data.scans, samples=samples, seed=seed),
        **_of_matched(data, best, counted),
        "masks": _masks(overlaps or {}, data),
        "by_size": {
            name: _stratum(data, best, counted & members) for name, members in _size_strata(data).items()
        },
        "by_type": {
            name: _stratum(data, best, counted & members) for name, members in _type_strata(data).items()
        },
    }
    if folds is not None:
        report["calibration"] = _calibration(data, kinds, folds, calibration)
    return report


def compare(first: Evaluated, second: Evaluated, *, samples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Return the CPM of the first less that of the second, paired by scan, with its interval over patients.

    Raises `ValueError` where the two are not about the same scans and findings.
    """
    if list(first.scans) != list(second.scans) or list(first.truths) != list(second.truths):
        raise ValueError("the detectors were not evaluated on the same scans and findings")
    one, other = first.matching(), second.matching()
    difference = bootstrap.estimate(
        lambda weights: one.cpm(weights) - other.cpm(weights),
        first.patients,
        samples=samples,
        confidence=CONFIDENCE,
        seed=seed,
    )
    return {"first_cpm": float(one.cpm()), "second_cpm": float(other.cpm()), "difference": difference.json()}


def overlap(predicted: Bools, reference: Bools) -> tuple[float, float]:
    """Return Dice and IoU of two masks; 1 where both are empty, 0 where one is."""
    both, sizes = int((predicted & reference).sum()), int(predicted.sum()) + int(reference.sum())
    return (2 * both / sizes, both / (sizes - both)) if sizes else (1.0, 1.0)


def text(report: Mapping[str, Any]) -> str:
    """Return the report in lines for a terminal."""
    interval = report["cpm_interval"]
    size, triage, masks = report["size"], report["triage"], report["masks"]
    lines = [
        f"CPM {_shown(report['cpm'])}{_range(interval)} on {report['findings']} findings in {report['scans']} scans",
        "sensitivity at false marks a scan: "
        + "  ".join(f"{rate}: {value:.3f}" for rate, value in report["sensitivity_at"].items()),
        f"found {report['found']}, missed {report['missed']}; figures below are those of found findings",
        f"centre error {_shown(report['centre_error_mm']['value'])} mm{_range(report['centre_error_mm'])}",
        f"diameter: MAE {_shown(size['mae_mm'])} mm, bias {_shown(size['bias_mm'])} mm, "
        f"R squared {_shown(size['r_squared'])} ({size['findings']} findings)",
        f"triage: Spearman {_shown(triage['spearman'])}, weighted kappa {_shown(triage['weighted_kappa'])}, "
        f"AUC {_shown(triage['auc'])} ({triage['findings']} findings)",
        f"masks: Dice {_shown(masks['dice']['value'])}{_range(masks['dice'])}, IoU {_shown(masks['iou']['value'])}",
    ]
    for title in ("by_size", "by_type"):
        lines += [
            f"{title.replace('_', ' ')} {name}: CPM {_shown(part['cpm'])}, found {part['found']} of {part['findings']}"
            for name, part in report[title].items()
        ]
    if "calibration" in report:
        before, after = report["calibration"]["before"], report["calibration"]["after"]
        lines.append(
            f"calibration ({report['calibration']['kind']}): ECE {_shown(before['ece'])} before, "
            f"{_shown(after['ece'])} after"
        )
    return "\n".join(lines)


def _of_matched(data: Evaluated, best: npt.NDArray[np.int64], counted: Bools) -> dict[str, Any]:
    patient = dict(zip(data.scans, data.patients, strict=True))
    pairs = [
        (data.truths[row], data.marks[best[row]]) for row in np.flatnonzero(counted & (best >= 0)).tolist()
    ]
    away = [float(np.linalg.norm(np.subtract(truth.centre_mm, mark.centre_mm))) for truth, mark in pairs]
    centre = intervals.mean(
        away, [patient[truth.scan] for truth, _ in pairs], confidence=CONFIDENCE, least=0.0
    )
    sizes = np.array(
        [
            (truth.diameter_mm, mark.diameter_mm)
            for truth, mark in pairs
            if truth.diameter_mm >= 0 and mark.diameter_mm is not None
        ],
        dtype=np.float64,
    ).reshape(-1, 2)
    urgency = np.array(
        [
            (truth.triage, mark.triage)
            for truth, mark in pairs
            if truth.triage is not None and mark.triage is not None
        ],
        dtype=np.float64,
    ).reshape(-1, 2)
    return {
        "found": len(pairs),
        "missed": int(counted.sum()) - len(pairs),
        "centre_error_mm": centre.json(),
        "size": size_figures(*sizes.T),
        "triage": triage_figures(*urgency.T),
    }


def size_figures(truth_mm: Floats, measured_mm: Floats) -> dict[str, Any]:
    """Return mean absolute error, bias (measured less true) and R squared of the identity, not of a fitted line."""
    if not len(truth_mm):
        return {"findings": 0, "mae_mm": None, "bias_mm": None, "r_squared": None}
    error = measured_mm - truth_mm
    spread = float(((truth_mm - truth_mm.mean()) ** 2).sum())
    return {
        "findings": len(truth_mm),
        "mae_mm": float(np.abs(error).mean()),
        "bias_mm": float(error.mean()),
        "r_squared": 1 - float((error**2).sum()) / spread if spread > 0 else None,
    }


def triage_figures(score: Floats, probability: Floats) -> dict[str, Any]:
    """Return rank correlation of score and probability, weighted kappa of their bands, AUC of urgent scores."""
    from scipy.stats import spearmanr

    count = len(score)
    none: dict[str, Any] = {"findings": count, "spearman": None, "weighted_kappa": None, "auc": None}
    if not count:
        return none
    ones = np.ones(count)
    true_band, band = np.digitize(score, SCORE_BANDS), np.digitize(probability, PROBABILITY_BANDS)
    varies = count >= LEAST_FOR_CORRELATION and np.ptp(score) > 0 and np.ptp(probability) > 0
    kappa = classification.quadratic_kappa(true_band, np.eye(len(SCORE_BANDS) + 1)[band], ones)
    return none | {
        "spearman": float(spearmanr(score, probability).statistic) if varies else None,
        "weighted_kappa": _number(kappa),
        "auc": _number(classification.auroc(score >= URGENT_FROM, probability, ones)),
    }


def _stratum(data: Evaluated, best: npt.NDArray[np.int64], members: Bools) -> dict[str, Any]:
    """Findings of other strata are neither found nor missed, and marks on them are not false."""
    found = int((members & (best >= 0)).sum())
    cpm = float(data.matching(members).cpm()) if members.any() else None
    figures = _of_matched(data, best, members)
    return {
        "findings": int(members.sum()),
        "found": found,
        "cpm": cpm,
        "centre_error_mm": figures["centre_error_mm"]["value"],
        "size": figures["size"],
        "triage": figures["triage"],
    }


def _size_strata(data: Evaluated) -> dict[str, Bools]:
    diameter = np.array([truth.diameter_mm for truth in data.truths], dtype=np.float64)
    place = np.digitize(diameter, SIZES_MM)
    names = [
        f"below {SIZES_MM[0]:g} mm",
        *(f"{a:g} to {b:g} mm" for a, b in itertools.pairwise(SIZES_MM)),
    ]
    names.append(f"from {SIZES_MM[-1]:g} mm")
    strata = {name: (place == number) & (diameter >= 0) for number, name in enumerate(names)}
    return strata | ({"unknown": diameter < 0} if (diameter < 0).any() else {})


def _type_strata(data: Evaluated) -> dict[str, Bools]:
    kinds = np.array([truth.kind or "unknown" for truth in data.truths], dtype=object)
    return {name: kinds == name for name in sorted(set(kinds.tolist()))}


def _masks(overlaps: Mapping[str, tuple[float, float]], data: Evaluated) -> dict[str, Any]:
    patient = dict(zip(data.scans, data.patients, strict=True))
    scans = [scan for scan in data.scans if scan in overlaps]
    values = np.array([overlaps[scan] for scan in scans], dtype=np.float64).reshape(-1, 2)
    patients: Sequence[str] = [patient[scan] for scan in scans]
    dice, iou = (
        intervals.bounded_mean(column, patients, confidence=CONFIDENCE).json() for column in values.T
    )
    return {"scans": len(scans), "dice": dice, "iou": iou}


def _calibration(
    data: Evaluated, kinds: npt.NDArray[np.int64], folds: Mapping[str, int], kind: mark_calibration.Kind
) -> dict[str, Any]:
    used = [mark for mark, what in zip(data.marks, kinds, strict=True) if what != rows.NEITHER]
    is_hit = kinds[kinds != rows.NEITHER] == rows.HIT
    scores = np.array([mark.score for mark in used], dtype=np.float64)
    scans = [mark.scan for mark in used]
    after = mark_calibration.out_of_fold(scores, is_hit, scans, [folds[scan] for scan in scans], kind=kind)
    fitted = mark_calibration.fit(scores, is_hit, scans, kind=kind)
    return {
        "kind": fitted.kind,
        "fitted": fitted.model_dump(mode="json"),
        "before": mark_calibration.quality(scores, is_hit),
        "after": mark_calibration.quality(after, is_hit),
    }


def _number(value: npt.ArrayLike) -> float | None:
    number = float(np.asarray(value))
    return number if np.isfinite(number) else None


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _range(estimate: Mapping[str, Any]) -> str:
    return "" if estimate["low"] is None else f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"

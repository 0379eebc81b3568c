"""FROC and CPM of a file of marks, by the rules of LUNA16: CSV files in, one JSON out.

Belongs here: what the four files must hold, the counts and the form of the result. Does not: the rules
(`learning.evaluation.detection`), resampling (`learning.evaluation.bootstrap`).
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation import bootstrap
from ct_assets.learning.evaluation.detection import (
    FALSE_MARKS_PER_SCAN,
    Findings,
    Floats,
    Marks,
    Matching,
    match,
)
from ct_assets.systems.nodules import csv_files

FINDING_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
MARK_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "probability")
CONFIDENCE = 0.95
LEAST_DEFINED_SHARE = 0.5
"""With fewer resamples that hold a finding no interval is given."""
WITHOUT_EXCLUDED = (
    "no list of excluded findings was given: marks on them count as false, so the figures are not LUNA16's"
)


def evaluate(
    annotations: Path, excluded: Path | None, series: Path, marks: Path, *, bootstraps: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Return scans, findings, CPM, sensitivities, counts and, with `bootstraps`, intervals over scans.

    Raises `UsageError` where a file cannot be evaluated: naming the row of a value that is no finite number, a series
    that is listed twice, a missing column, or that no listed series has a finding.
    """
    scans = read_series(series)
    listed = set(scans)
    included, included_outside = _findings(annotations, listed, is_excluded=False)
    left_out, left_out_outside = _findings(excluded, listed, is_excluded=True)
    marked, outside = _marks(marks, listed)
    if not len(included.scan):
        raise UsageError(
            f"{annotations.name}: no finding in any of the {len(scans)} series of {series.name}, so that sensitivity is "
            "not defined. Do both name the same SeriesInstanceUIDs, as text?"
        )
    matching = match(scans, _joined(included, left_out), marked)
    without_marks = [scan for scan, count in zip(scans, matching.marks_of_scan, strict=True) if not count]
    result: dict[str, Any] = {
        "scans": len(scans),
        "findings": len(included.scan),
        "excluded_findings": len(left_out.scan),
        "marks": len(marked.scan),
        **_figures(matching.sensitivity()),
        "counts": {
            **asdict(matching.counts),
            "marks_outside_series": len(outside),
            "findings_outside_series": included_outside,
            "excluded_outside_series": left_out_outside,
            "scans_without_marks": len(without_marks),
        },
        "scans_without_marks": without_marks,
        "series_of_marks_outside": sorted(set(outside)),
        "notes": [] if excluded is not None else [WITHOUT_EXCLUDED],
    }
    if bootstraps:
        result["interval"] = interval(matching, scans, samples=bootstraps, seed=seed)
    return result


def interval(matching: Matching, scans: Sequence[str], *, samples: int, seed: int) -> dict[str, Any]:
    """Return percentile intervals over resampled scans, as the challenge has them.

    Resamples without a finding are left out; limits are null with fewer than two scans, or where most are left out.
    """
    values = matching.sensitivity(bootstrap.patient_weights(scans, samples, seed))
    defined = values[np.isfinite(values).all(axis=1)]
    columns = np.column_stack([defined.mean(axis=1), defined])
    limits: list[list[float | None]] = [[None, None]] * columns.shape[1]
    if len(scans) > 1 and len(defined) >= LEAST_DEFINED_SHARE * samples:
        tail = 50 * (1 - CONFIDENCE)
        limits = np.percentile(columns, [tail, 100 - tail], axis=0).T.tolist()
    return {
        "confidence": CONFIDENCE,
        "samples": samples,
        "seed": seed,
        "undefined_share": 1 - len(defined) / samples,
        "cpm": limits[0],
        "sensitivity_at": {f"{rate:g}": limits[at + 1] for at, rate in enumerate(FALSE_MARKS_PER_SCAN)},
    }


def read_series(path: Path) -> list[str]:
    """Return the series UIDs of a file with one a line. Raises `UsageError` for none, or one listed twice."""
    rows = csv_files.table(path)
    if rows and [cell.strip() for cell in rows[0][1]] == ["seriesuid"]:
        rows = rows[1:]
    scans: dict[str, int] = {}
    for line, cells in rows:
        uid, *further = (cell.strip() for cell in cells)
        if not uid or any(further):
            raise UsageError(f"{path.name}: line {line}: not one series UID a line")
        if uid in scans:
            raise UsageError(
                f"{path.name}: line {line}: series {uid} was listed on line {scans[uid]} already; list it once"
            )
        scans[uid] = line
    if not scans:
        raise UsageError(f"{path.name}: no series in it; give one series UID a line")
    return list(scans)


def write(path: Path, result: dict[str, Any]) -> None:
    """Write the result as JSON."""
    files.write_json(path, result)


def summary(result: dict[str, Any]) -> str:
    """Return the result in a few lines for a terminal."""
    counts = result["counts"]
    rates = "  ".join(f"{rate}: {value:.3f}" for rate, value in result["sensitivity_at"].items())
    low, high = result.get("interval", {}).get("cpm", (None, None))
    spread = "" if low is None else f" [{low:.4f}, {high:.4f}]"
    lines = [
        *result["notes"],
        f"CPM {result['cpm']:.4f}{spread} on {result['findings']} findings in {result['scans']} scans",
        f"sensitivity at false marks a scan: {rates}",
        "  ".join(f"{name} {count}" for name, count in counts.items()),
    ]
    return "\n".join(lines)


def _figures(sensitivity: Floats) -> dict[str, Any]:
    at = {f"{rate:g}": float(value) for rate, value in zip(FALSE_MARKS_PER_SCAN, sensitivity, strict=True)}
    return {"cpm": float(sensitivity.mean()), "sensitivity_at": at}


def _findings(path: Path | None, listed: set[str], *, is_excluded: bool) -> tuple[Findings, int]:
    """Return the findings in listed series, and how many are in others; all rows are checked."""
    if path is None:
        return Findings([], np.empty((0, 3)), np.empty(0), np.empty(0, dtype=bool)), 0
    rows = csv_files.read(path, FINDING_COLUMNS)
    uids, centres, diameters = rows.identifiers("seriesuid"), rows.points(), rows.numbers("diameter_mm")
    keep = np.array([uid in listed for uid in uids], dtype=bool)
    scan = [uid for uid in uids if uid in listed]
    found = Findings(scan, centres[keep], diameters[keep], np.full(len(scan), is_excluded))
    return found, len(uids) - len(scan)


def _marks(path: Path, listed: set[str]) -> tuple[Marks, list[str]]:
    rows = csv_files.read(path, MARK_COLUMNS)
    uids, centres, scores = rows.identifiers("seriesuid"), rows.points(), rows.numbers("probability")
    keep = np.array([uid in listed for uid in uids], dtype=bool)
    scan = [uid for uid in uids if uid in listed]
    return Marks(scan, centres[keep], scores[keep]), [uid for uid in uids if uid not in listed]


def _joined(first: Findings, second: Findings) -> Findings:
    return Findings(
        [*first.scan, *second.scan],
        np.concatenate([first.centre_mm, second.centre_mm]),
        np.concatenate([first.diameter_mm, second.diameter_mm]),
        np.concatenate([first.is_excluded, second.is_excluded]),
    )

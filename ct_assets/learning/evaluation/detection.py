"""Detection over scans: FROC and the competition performance metric, by the rules of LUNA16.

Belongs here: matching marks to findings, the curve, its seven points, intervals over scans. Does not: making marks.
Rules (Setio 2017, arXiv:1612.08012, and the challenge's evaluation script): a mark hits a finding of its own scan
when it lies strictly nearer to the centre than half the diameter; further hits on a finding that is hit, and marks on
excluded findings, count neither way; a finding that nobody marks stays in the denominator; false marks are counted per
scan over all scans, those without findings included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FALSE_MARKS_PER_SCAN = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Where sensitivity is read for the competition performance metric."""
MOST_MARKS = 100
"""Of each scan only so many marks count, the most certain ones."""
UNKNOWN_DIAMETER_MM = 10.0
"""Stands for a diameter that is not known (given as negative)."""


@dataclass(frozen=True)
class Finding:
    """A finding of the reference."""

    scan: str
    centre_mm: tuple[float, float, float]
    diameter_mm: float
    is_excluded: bool = False
    """Marks on it are neither right nor wrong."""

    def is_hit_by(self, mark: "Mark") -> bool:
        """Tell whether a mark lies within it, and in the same scan."""
        diameter = self.diameter_mm if self.diameter_mm >= 0 else UNKNOWN_DIAMETER_MM
        away = float(np.linalg.norm(np.subtract(self.centre_mm, mark.centre_mm)))
        return self.scan == mark.scan and away < diameter / 2


@dataclass(frozen=True)
class Mark:
    """A mark of the detector."""

    scan: str
    centre_mm: tuple[float, float, float]
    score: float


@dataclass(frozen=True)
class Froc:
    """The curve: a point for each score at which it changes, from (0, 0) on."""

    false_per_scan: Floats
    sensitivity: Floats
    thresholds: Floats
    """Score from which on marks count; infinite at the first point."""

    def at(self, false_per_scan: float) -> float:
        """Return the sensitivity at so many false marks a scan, straight between points.

        Beyond the last point it stays; before the first one it comes from (0, 0), so that a detector whose first
        marks are wrong is not given the sensitivity of later ones.
        """
        # Of several points with equally many false marks numpy takes the last, which is the highest.
        return float(np.interp(false_per_scan, self.false_per_scan, self.sensitivity))

    @property
    def cpm(self) -> float:
        """The mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false marks a scan."""
        return float(np.mean([self.at(rate) for rate in FALSE_MARKS_PER_SCAN]))


def froc(scans: Sequence[str], findings: Sequence[Finding], marks: Sequence[Mark]) -> Froc:
    """Return the curve over `scans`. Raises `ValueError` without findings, or for one in no scan."""
    hits, wrong, total = _judged(scans, findings, marks)
    return _curve(hits, wrong, total, len(scans))


def cpm_interval(
    scans: Sequence[str],
    findings: Sequence[Finding],
    marks: Sequence[Mark],
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the interval of the CPM over resampled scans; samples without a finding are left out."""
    index = {scan: number for number, scan in enumerate(scans)}
    hits, wrong, _ = _judged(scans, findings, marks)
    count = np.bincount([index[f.scan] for f in findings if not f.is_excluded], minlength=len(scans))
    random = np.random.default_rng(seed)
    values = []
    for _ in range(samples):
        times = np.bincount(random.integers(len(scans), size=len(scans)), minlength=len(scans))
        if total := int((times * count).sum()):
            drawn = [
                [(score, weight * float(times[index[scan]]), scan) for score, weight, scan in side]
                for side in (hits, wrong)
            ]
            values.append(_curve(drawn[0], drawn[1], total, len(scans)).cpm)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


Judged = list[tuple[float, float, str]]
"""Score, weight and scan of each hit or false mark."""


def _judged(
    scans: Sequence[str], findings: Sequence[Finding], marks: Sequence[Mark]
) -> tuple[Judged, Judged, int]:
    """Return the best hit of each finding that is hit, the false marks, and how many findings count."""
    known = set(scans)
    named = {finding.scan for finding in findings} | {mark.scan for mark in marks}
    if strange := sorted(named - known):
        raise ValueError(f"findings or marks in scans that are not listed: {', '.join(strange[:5])}")
    counted = [finding for finding in findings if not finding.is_excluded]
    if not counted:
        raise ValueError("no findings: sensitivity is not defined")
    of_scan: dict[str, list[Mark]] = {}
    for mark in marks:
        of_scan.setdefault(mark.scan, []).append(mark)
    best: dict[int, float] = {}
    wrong: Judged = []
    for scan, its in of_scan.items():
        here = [(number, finding) for number, finding in enumerate(findings) if finding.scan == scan]
        for mark in sorted(its, key=lambda one: -one.score)[:MOST_MARKS]:
            hit = [(number, finding) for number, finding in here if finding.is_hit_by(mark)]
            for number, finding in hit:
                if not finding.is_excluded:
                    best[number] = max(mark.score, best.get(number, -np.inf))
            if not hit:
                wrong.append((mark.score, 1.0, scan))
    hits = [(score, 1.0, findings[number].scan) for number, score in best.items()]
    return hits, wrong, len(counted)


def _curve(hits: Judged, wrong: Judged, total: int, scans: int) -> Froc:
    thresholds = np.array(sorted({score for score, _, _ in (*hits, *wrong)}, reverse=True))
    found, false = (_weight_from(side, thresholds) for side in (hits, wrong))
    return Froc(
        np.concatenate([[0.0], false / scans]),
        np.concatenate([[0.0], found / total]),
        np.concatenate([[np.inf], thresholds]),
    )


def _weight_from(side: Judged, thresholds: Floats) -> Floats:
    """Return the weight of what scores at least each threshold."""
    scores = np.array([score for score, _, _ in side])
    weights = np.array([weight for _, weight, _ in side])
    return np.array([weights[scores >= threshold].sum() for threshold in thresholds])

"""Detection over scans: FROC and the competition performance metric, by the rules of LUNA16.

Belongs here: matching marks to findings, the curve, its seven points, all of them also for weighted (resampled) scans.
Does not: making marks, reading files (`systems.nodules.froc`), intervals (`evaluation.bootstrap`).

Rules (Setio 2017, arXiv:1612.08012, and the challenge's evaluation script): of each scan only the 100 marks of the
highest score count, and where the 101st has the score of the 100th, none of that score; a mark hits a finding of its
own scan when it lies strictly nearer to the centre than half the diameter; further hits on a finding that is hit, and
marks on excluded findings, count neither way; one mark may hit several findings; a finding without a mark stays in the
denominator; false marks are counted per scan over all scans, those without findings included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

FALSE_MARKS_PER_SCAN = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Where sensitivity is read for the competition performance metric."""
MOST_MARKS = 100
"""Of each scan only so many marks count, those of the highest scores."""
UNKNOWN_DIAMETER_MM = 10.0
"""Stands for a diameter that is not known (given as negative)."""


@dataclass(frozen=True, eq=False)
class Findings:
    """Findings of the reference, a row each."""

    scan: Sequence[str]
    centre_mm: Floats
    """(rows, 3)."""
    diameter_mm: Floats
    """Negative where it is not known."""
    is_excluded: Flags
    """Marks on such a finding are neither right nor wrong."""


@dataclass(frozen=True, eq=False)
class Marks:
    """Marks of a detector, a row each."""

    scan: Sequence[str]
    centre_mm: Floats
    """(rows, 3)."""
    score: Floats


@dataclass(frozen=True, eq=False)
class Froc:
    """The curve: a point for each score at which it changes, from (0, 0) on."""

    false_per_scan: Floats
    sensitivity: Floats
    thresholds: Floats
    """Marks with at least this score count; infinite at the first point."""


@dataclass(frozen=True)
class Counts:
    """How many findings and marks met which rule."""

    hits: int
    """Findings with a mark."""
    missed: int
    """Findings without one."""
    false_marks: int
    on_excluded: int
    """Marks on an excluded finding and on no other."""
    further_hits: int
    """Hits beyond the first of each finding."""
    beyond_limit: int
    """Marks that `MOST_MARKS` left out."""


@dataclass(frozen=True, eq=False)
class Matching:
    """Marks matched to findings: all that the curve needs, by scan, so that scans can be weighted."""

    counts: Counts
    findings_of_scan: Integers
    """Findings of each scan, excluded ones not counted."""
    score: Floats
    """Of the best hit of each found finding, and of each false mark; descending."""
    scan: Integers
    """Scan of each."""
    is_hit: Flags
    marks_of_scan: Integers
    """Marks of each scan, before any rule."""

    def curve(self) -> Froc:
        """Return the FROC curve over all scans."""
        ends, found, false = self._cumulated(np.ones(len(self.findings_of_scan)))
        return Froc(
            np.concatenate([[0.0], false / len(self.findings_of_scan)]),
            np.concatenate([[0.0], found / self.findings_of_scan.sum()]),
            np.concatenate([[np.inf], self.score[ends]]),
        )

    def sensitivity(self, weights: Floats | None = None) -> Floats:
        """Return the sensitivity at each of `FALSE_MARKS_PER_SCAN`, straight between points of the curve.

        `weights` is how often each scan counts, (scans,) or (samples, scans); the result is (7,) or (samples, 7),
        NaN where no finding is drawn. Beyond the last point the sensitivity stays; before the first one it comes
        from (0, 0). Where a rate is attained exactly, it is the highest sensitivity at it.
        """
        scans = len(self.findings_of_scan)
        rows = (
            np.ones((1, scans)) if weights is None else np.atleast_2d(np.asarray(weights, dtype=np.float64))
        )
        values = np.stack([self._read(row) for row in rows])
        return values[0] if weights is None or np.ndim(weights) == 1 else values

    def cpm(self, weights: Floats | None = None) -> Floats:
        """Return the mean sensitivity at 1/8 to 8 false marks a scan; of each row of weights."""
        return np.asarray(self.sensitivity(weights).mean(axis=-1))

    def _read(self, weights: Floats) -> Floats:
        total = float(weights @ self.findings_of_scan)
        if total == 0:
            return np.full(len(FALSE_MARKS_PER_SCAN), np.nan)
        _, found, false = self._cumulated(weights)
        found, false = np.concatenate([[0.0], found]), np.concatenate([[0.0], false])
        # Counts and rates are compared as whole numbers of false marks: both are exact, a rate a scan is not.
        wanted = np.asarray(FALSE_MARKS_PER_SCAN) * weights.sum()
        after = np.searchsorted(false, wanted, side="right")
        before, after = after - 1, np.minimum(after, len(false) - 1)
        step = false[after] - false[before]
        share = np.divide(wanted - false[before], step, out=np.zeros_like(wanted), where=step > 0)
        return np.asarray((found[before] + share * (found[after] - found[before])) / total)

    def _cumulated(self, weights: Floats) -> tuple[Integers, Floats, Floats]:
        """Return the last entry of each score, and the weight of hits and false marks down to it."""
        ends = np.flatnonzero(np.diff(self.score, append=-np.inf) != 0)
        weight = weights[self.scan]
        found = np.cumsum(np.where(self.is_hit, weight, 0.0))
        false = np.cumsum(np.where(self.is_hit, 0.0, weight))
        return ends, found[ends], false[ends]


def match(scans: Sequence[str], findings: Findings, marks: Marks) -> Matching:
    """Match marks to findings. Time grows with the number of marks, whatever the number of scans.

    Raises `ValueError` for scans listed twice, findings or marks in scans that are not listed, values that are not
    finite, and where there is no finding.
    """
    index = {scan: number for number, scan in enumerate(scans)}
    if len(index) != len(scans):
        raise ValueError("a scan is listed twice")
    if unlisted := sorted({*findings.scan, *marks.scan} - index.keys()):
        raise ValueError(f"findings or marks in scans that are not listed: {', '.join(unlisted[:5])}")
    for values in (findings.centre_mm, findings.diameter_mm, marks.centre_mm, marks.score):
        if not np.isfinite(values).all():
            raise ValueError("a coordinate, diameter or score is not finite")
    counted = ~np.asarray(findings.is_excluded, dtype=bool)
    if not counted.any():
        raise ValueError("no findings: sensitivity is not defined")
    finding_scan = np.array([index[scan] for scan in findings.scan], dtype=np.int64)
    mark_scan = np.array([index[scan] for scan in marks.scan], dtype=np.int64)
    findings_of_scan = np.bincount(finding_scan[counted], minlength=len(scans))

    # Included findings first: a mark on both kinds hits, and is not counted as one on an excluded finding.
    by_scan = np.lexsort((~counted, finding_scan))
    first_finding = np.searchsorted(finding_scan[by_scan], np.arange(len(scans) + 1))
    order, first_mark = _most_certain(mark_scan, marks.score, len(scans))

    hit_score, hit_scan, false_score, false_scan = [], [], [], []
    on_excluded = further = 0
    for scan in np.unique(mark_scan):
        mine = order[first_mark[scan] : first_mark[scan + 1]]
        here = by_scan[first_finding[scan] : first_finding[scan + 1]]
        inside = _inside(findings, here, marks.centre_mm[mine])
        included = counted[here]
        hits = inside[:, included]
        scores = np.where(hits, marks.score[mine][:, None], -np.inf)
        best = scores.max(axis=0, initial=-np.inf)[hits.any(axis=0)]
        hit_score.append(best)
        hit_scan.append(np.full(len(best), scan))
        further += int(hits.sum()) - len(best)
        on_excluded += int((inside.any(axis=1) & ~hits.any(axis=1)).sum())
        false = marks.score[mine][~inside.any(axis=1)]
        false_score.append(false)
        false_scan.append(np.full(len(false), scan))
    score = np.concatenate([*hit_score, *false_score, np.empty(0)])
    scan_of = np.concatenate([*hit_scan, *false_scan, np.empty(0, dtype=np.int64)])
    is_hit = np.arange(len(score)) < sum(map(len, hit_score))
    descending = np.argsort(-score, kind="stable")
    counts = Counts(
        hits=int(is_hit.sum()),
        missed=int(counted.sum() - is_hit.sum()),
        false_marks=int((~is_hit).sum()),
        on_excluded=on_excluded,
        further_hits=further,
        beyond_limit=len(marks.scan) - len(order),
    )
    return Matching(
        counts,
        findings_of_scan,
        score[descending],
        scan_of[descending].astype(np.int64),
        is_hit[descending],
        np.bincount(mark_scan, minlength=len(scans)),
    )


def _most_certain(mark_scan: Integers, score: Floats, scans: int) -> tuple[Integers, Integers]:
    """Return the marks within the limit, by scan and falling score, and where each scan begins among them."""
    order = np.lexsort((-score, mark_scan))
    first = np.searchsorted(mark_scan[order], np.arange(scans + 1))
    rank = np.arange(len(order)) - first[mark_scan[order]]
    keep = rank < MOST_MARKS
    crowded = np.flatnonzero(np.diff(first) > MOST_MARKS)
    if len(crowded):
        limit = np.full(scans, -np.inf)
        limit[crowded] = score[order[first[crowded] + MOST_MARKS]]
        keep &= score[order] > limit[mark_scan[order]]
    order = order[keep]
    return order, np.searchsorted(mark_scan[order], np.arange(scans + 1))


def _inside(findings: Findings, rows: Integers, points: Floats) -> Flags:
    """Return which points lie within which findings, (points, findings)."""
    diameter = findings.diameter_mm[rows]
    radius = np.where(diameter < 0, UNKNOWN_DIAMETER_MM, diameter) / 2
    with np.errstate(over="ignore"):
        away = ((points[:, None, :] - findings.centre_mm[rows][None, :, :]) ** 2).sum(axis=-1)
        return np.asarray(away < radius**2)

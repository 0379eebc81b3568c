"""Marks of a detector beside the findings of the reference: which mark belongs to which finding, and both as CSV files.

Belongs here: the rows that an evaluation needs. Does not: figures (`evaluate`), the rules of hits
(`learning.evaluation.detection`).
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ct_assets import files
from ct_assets.learning.evaluation import detection

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

HIT, FALSE, NEITHER = 1, 0, -1


@dataclass(frozen=True)
class Truth:
    """A finding of the reference."""

    scan: str
    centre_mm: tuple[float, float, float]
    diameter_mm: float
    """Negative where it is not known."""
    kind: str | None = None
    """Solid, part-solid and the like."""
    triage: int | None = None
    """Score 1 to 10."""
    is_excluded: bool = False


@dataclass(frozen=True)
class Mark:
    """A mark of a detector."""

    scan: str
    centre_mm: tuple[float, float, float]
    score: float
    diameter_mm: float | None = None
    triage: float | None = None
    """Probability of a triage score of 7 or more."""


@dataclass(frozen=True)
class Evaluated:
    """One detector on the scans of an evaluation."""

    scans: Sequence[str]
    """All of them, those without findings and without marks too."""
    truths: Sequence[Truth]
    marks: Sequence[Mark]
    patient_of: Mapping[str, str] | None = None
    """Patient of each scan, where a patient has several."""

    @property
    def patients(self) -> list[str]:
        """The patient of each scan."""
        return [(self.patient_of or {}).get(scan, scan) for scan in self.scans]

    def matching(self, counted: npt.NDArray[np.bool_] | None = None) -> detection.Matching:
        """Match by LUNA16's rules. Findings that are not `counted` are treated as excluded ones."""
        excluded = np.array([truth.is_excluded for truth in self.truths], dtype=bool)
        if counted is not None:
            excluded = excluded | ~counted
        findings = detection.Findings(
            [truth.scan for truth in self.truths],
            _centres(self.truths),
            np.array([truth.diameter_mm for truth in self.truths], dtype=np.float64),
            excluded,
        )
        scores = np.array([mark.score for mark in self.marks], dtype=np.float64)
        marks = detection.Marks([mark.scan for mark in self.marks], _centres(self.marks), scores)
        return detection.match(self.scans, findings, marks)


def pairs(data: Evaluated) -> tuple[Integers, Integers]:
    """Return for each finding its mark of the highest score (-1 without one), and for each mark what it is.

    A mark on a finding is `HIT`, on an excluded finding alone `NEITHER`, elsewhere `FALSE`. Of equal scores the nearest
    mark counts.
    """
    best = np.full(len(data.truths), -1, dtype=np.int64)
    kinds = np.full(len(data.marks), FALSE, dtype=np.int64)
    truths_of, marks_of = _by_scan(data.truths), _by_scan(data.marks)
    points, centres = _centres(data.marks), _centres(data.truths)
    scores = np.array([mark.score for mark in data.marks], dtype=np.float64)
    for scan, here in truths_of.items():
        mine = np.array(marks_of.get(scan, []), dtype=np.int64)
        for row in sorted(here, key=lambda number: not data.truths[number].is_excluded):
            truth = data.truths[row]
            diameter = detection.UNKNOWN_DIAMETER_MM if truth.diameter_mm < 0 else truth.diameter_mm
            away = ((points[mine] - centres[row]) ** 2).sum(axis=1)
            inside = mine[away < (diameter / 2) ** 2]
            # Excluded findings come first, so that a mark on both kinds ends as a hit.
            kinds[inside] = NEITHER if truth.is_excluded else HIT
            if len(inside):
                near = away[away < (diameter / 2) ** 2]
                best[row] = inside[np.lexsort((near, -scores[inside]))[0]]
    return best, kinds


def export(data: Evaluated, folder: Path) -> dict[str, Path]:
    """Write annotations, excluded, series and marks as the `froc` command reads them; return their paths."""
    finding = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
    rows: dict[str, list[tuple[str, ...]]] = {
        "annotations": [finding, *(_row(one, one.diameter_mm) for one in data.truths if not one.is_excluded)],
        "excluded": [finding, *(_row(one, one.diameter_mm) for one in data.truths if one.is_excluded)],
        "series": [("seriesuid",), *((scan,) for scan in data.scans)],
        "marks": [(*finding[:4], "probability"), *(_row(one, one.score) for one in data.marks)],
    }
    paths = {}
    for name, lines in rows.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        paths[name] = folder / f"{name}.csv"
        files.write_text(paths[name], text.getvalue())
    return paths


def _row(one: Truth | Mark, last: float) -> tuple[str, ...]:
    # repr of a float is read back to the bit.
    return (one.scan, *(repr(float(value)) for value in (*one.centre_mm, last)))


def _centres(rows: Sequence[Truth | Mark]) -> Floats:
    return np.array([row.centre_mm for row in rows], dtype=np.float64).reshape(-1, 3)


def _by_scan(rows: Sequence[Truth | Mark]) -> dict[str, list[int]]:
    result: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        result.setdefault(row.scan, []).append(number)
    return result

"""What is fixed from the inner validation scans before a held-out scan is seen: calibration and operating point.

Belongs here: both, and applying them. Does not: fitting curves (`mark_calibration`), evaluation (`evaluate`).
"""

import numpy as np

from ct_assets.settings.base import Section
from ct_assets.systems.nodules import marks as rows
from ct_assets.systems.nodules.mark_calibration import Kind, MarkCalibration, fit
from ct_assets.systems.nodules.marks import Evaluated


class Decisions(Section):
    """Frozen with the model."""

    threshold: float
    """Least score of a finding that is reported."""
    false_marks_per_scan: float
    """What was asked for."""
    sensitivity: float | None
    """At the threshold, on the inner validation scans, which chose it; null where they have no finding."""
    false_marks: float
    """A scan, likewise."""
    scans: int
    """Inner validation scans."""
    calibration: MarkCalibration

    def probability(self, score: float) -> float:
        """Return the calibrated probability of a score."""
        return float(self.calibration.apply(np.array([score]))[0])


def decide(data: Evaluated, *, false_marks_per_scan: float, calibration: Kind) -> Decisions:
    """Return the decisions from a detector's marks on the inner validation scans.

    The threshold is the least score with at most so many false marks a scan; without a false mark beyond that it is
    the lowest score there is. Marks on excluded findings count neither way.
    """
    best, kinds = rows.pairs(data)
    scores = np.array([mark.score for mark in data.marks], dtype=np.float64)
    allowed = int(false_marks_per_scan * len(data.scans))
    false = np.sort(scores[kinds == rows.FALSE])[::-1]
    if len(false) > allowed:
        threshold = float(np.nextafter(false[allowed], np.inf))
    else:
        threshold = float(scores.min()) if len(scores) else 0.5
    counted = [number for number, truth in enumerate(data.truths) if not truth.is_excluded]
    hit = [number for number in counted if best[number] >= 0 and scores[best[number]] >= threshold]
    used = kinds != rows.NEITHER
    return Decisions(
        threshold=threshold,
        false_marks_per_scan=false_marks_per_scan,
        sensitivity=len(hit) / len(counted) if counted else None,
        false_marks=float((false >= threshold).sum()) / len(data.scans) if data.scans else 0.0,
        scans=len(data.scans),
        calibration=fit(
            scores[used],
            kinds[used] == rows.HIT,
            [mark.scan for mark, is_used in zip(data.marks, used.tolist(), strict=True) if is_used],
            kind=calibration,
        ),
    )

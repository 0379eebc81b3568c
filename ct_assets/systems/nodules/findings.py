"""Findings: what is measured of a detected nodule, and which findings remain.

Belongs here: measuring a mask on an image, the filters with the reason of each finding that is left out. Does not: peaks
(`peaks`), files (`findings_json`, `report_objects`). Positions are LPS millimetres and voxel indices (k, j, i); boxes are
half-open.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Grid, Volume
from ct_assets.systems.nodules import peaks

Floats = npt.NDArray[np.float64]
Box = tuple[tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True)
class Finding:
    """A detected nodule."""

    centre_lps_mm: tuple[float, float, float]
    centre_kji: tuple[float, float, float]
    """The same place in voxels."""
    confidence: float
    diameters_mm: tuple[float, float, float]
    """Along the principal axes of its mask, the longest first."""
    volume_mm3: float
    box_kji: Box
    """First voxel, and first voxel beyond."""
    mean_hu: float | None
    triage: float | None = None
    """Probability of a triage score of 7 or more; null where the detector does not give it."""
    tracking_uid: str = ""
    """The same in every file of one prediction."""


@dataclass(frozen=True)
class Filters:
    """Which findings remain; null switches a filter off."""

    least_confidence: float | None = None
    least_diameter_mm: float | None = 3.0
    most_diameter_mm: float | None = 40.0
    suppress: Literal["distance", "iou"] | None = "distance"
    distance_mm: float = 5.0
    """Of two findings nearer than this the more confident remains."""
    iou: float = 0.1
    """Of two findings whose boxes overlap more than this the more confident remains."""
    most: int | None = 100


@dataclass(frozen=True)
class LeftOut:
    """A finding that a filter took out."""

    finding: Finding
    reason: str
    """Code of `ct_assets.reasons`."""


def measure(
    mask: npt.NDArray[np.bool_],
    image: Volume,
    *,
    confidence: float,
    first: tuple[int, int, int] = (0, 0, 0),
) -> Finding:
    """Return what one nodule's mask measures: (k, j, i), of the part of `image` that begins at voxel `first`.

    Raises `ValueError` for an empty mask.

    Diameters are those of the ellipsoid with the mask's second moments, so that neither the grid's direction nor a
    single voxel decides; for a ball all three are its diameter.
    """
    voxels = np.argwhere(mask) + np.array(first)
    if not len(voxels):
        raise ValueError("a finding needs a voxel")
    grid = image.grid
    steps = grid.affine_lps[:3, :3][:, ::-1]
    centre = voxels.mean(axis=0)
    # A voxel is a box and not a point: it adds 1/12 of its own extent squared to the moments.
    moments = steps @ (np.cov(voxels.T, bias=True) + np.eye(3) / 12) @ steps.T
    spread = np.linalg.eigvalsh(moments)[::-1]
    values = image.array[tuple(voxels.T)]
    hu = float(values.mean(dtype=np.float64))
    low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
    return Finding(
        centre_lps_mm=_triple(grid.world(centre[::-1])),
        centre_kji=_triple(centre),
        confidence=float(confidence),
        diameters_mm=_triple(2 * np.sqrt(5 * np.maximum(spread, 0))),
        volume_mm3=len(voxels) * grid.voxel_volume_ml * 1000,
        box_kji=(_whole(low), _whole(high)),
        mean_hu=hu if np.isfinite(hu) else None,
    )


def with_tracking(found: Sequence[Finding], *, scan_id: str, model: str) -> list[Finding]:
    """Return the findings with UIDs that follow from scan, model, place and order: equal predictions, equal UIDs."""
    return [
        replace(
            finding, tracking_uid=uid_of("finding", scan_id, model, str(number), repr(finding.centre_lps_mm))
        )
        for number, finding in enumerate(found)
    ]


def uid_of(*parts: str) -> str:
    """Return a UID that follows from the parts (PS3.5 B.2: 2.25 and a 128-bit number)."""
    return f"2.25.{int(hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32], 16)}"


def select(
    found: Sequence[Finding], filters: Filters, *, lungs: npt.NDArray[np.bool_] | None = None
) -> tuple[list[Finding], list[LeftOut]]:
    """Return the findings that remain, the most confident first, and the others with their reasons.

    `lungs` is a mask on the grid of the findings; a finding remains where its box touches it. Confidence, size and
    lungs come before suppression, so that a finding that goes itself takes no other out.
    """
    left_out: list[LeftOut] = []
    candidates = []
    for finding in sorted(found, key=lambda one: (-one.confidence, one.centre_kji)):
        if code := _refused(finding, filters, lungs):
            left_out.append(LeftOut(finding, code))
        else:
            candidates.append(finding)
    remaining = set(_unsuppressed(candidates, filters).tolist())
    kept = [finding for number, finding in enumerate(candidates) if number in remaining]
    left_out += [
        LeftOut(finding, "finding_suppressed")
        for number, finding in enumerate(candidates)
        if number not in remaining
    ]
    if filters.most is not None:
        left_out += [LeftOut(finding, "finding_beyond_limit") for finding in kept[filters.most :]]
        kept = kept[: filters.most]
    return kept, left_out


def _refused(finding: Finding, filters: Filters, lungs: npt.NDArray[np.bool_] | None) -> str | None:
    if filters.least_confidence is not None and finding.confidence < filters.least_confidence:
        return "finding_below_confidence"
    longest = finding.diameters_mm[0]
    if filters.least_diameter_mm is not None and longest < filters.least_diameter_mm:
        return "finding_too_small"
    if filters.most_diameter_mm is not None and longest > filters.most_diameter_mm:
        return "finding_too_large"
    if lungs is not None:
        box = tuple(slice(max(low, 0), high) for low, high in zip(*finding.box_kji, strict=True))
        if not lungs[box].any():
            return "finding_outside_lungs"
    return None


def _unsuppressed(candidates: list[Finding], filters: Filters) -> npt.NDArray[np.int64]:
    scores = np.array([finding.confidence for finding in candidates])
    if not candidates or filters.suppress is None:
        return np.arange(len(candidates))
    if filters.suppress == "distance":
        points = np.array([finding.centre_lps_mm for finding in candidates])
        return peaks.suppress_points(points, scores, filters.distance_mm)
    boxes = np.array(
        [[*low, *high] for low, high in (finding.box_kji for finding in candidates)], dtype=float
    )
    return peaks.suppress_boxes(boxes, scores, filters.iou)


def on_grid(finding: Finding, grid: Grid) -> tuple[float, float, float]:
    """Return the voxel (k, j, i) of a finding's centre on another grid."""
    return _triple(grid.index(np.array(finding.centre_lps_mm))[::-1])


def _triple(values: Floats) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _whole(values: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    first, second, third = (int(value) for value in values)
    return first, second, third

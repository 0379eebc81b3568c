"""Whether a registration can be used: it is looked at, not asked of the optimizer.

Belongs here: similarity and lung overlap before and after, how far images share a field of view, folding, and the
verdict with its reasons. Does not: finding the transform (`imaging.registration`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import SimpleITK

from ct_assets.imaging.registration import Registration, Working, correlation
from ct_assets.imaging.volume import Floats

Status = Literal["ok", "poor"]

LEAST_SIMILARITY = 0.7
"""Normalised cross-correlation over tissue. Repeated scans of one body reach 0.8 and more after rigid registration,
scans of two people 0.6 at best."""
LEAST_LUNG_OVERLAP = 0.8
"""Dice coefficient of the lungs after registration; two breaths of one person overlap by 0.9."""
LEAST_FIELD_SHARE = 0.5
"""Share of the fixed image's tissue that lies in the moving image's field of view."""
MOST_ROTATION_DEG = 30.0
SCALE_RANGE = (0.85, 1.18)
"""Of an affine matrix, along any direction: the same adult does not shrink or grow more."""
LUNG_HU = -500
LEAST_LUNG_ML = 300.0
POINTS = 200_000


@dataclass(frozen=True)
class Quality:
    """What was seen of a registration; numbers are null where they do not apply."""

    status: Status
    reasons: tuple[str, ...]
    similarity_before: float
    """Normalised cross-correlation over the fixed image's tissue, images as they lie in space."""
    similarity_after: float
    lung_overlap_before: float | None
    """Dice coefficient of the lungs; null where one image shows none that are whole in its plane."""
    lung_overlap_after: float | None
    overlap_share: float
    """Share of the fixed image's tissue in the moving image's field of view, after registration."""
    jacobian_min: float | None
    """Least local change of volume of a deformation; at or below 0 space is folded."""
    jacobian_max: float | None


def evaluate(fixed: Working, moving: Working, registration: Registration) -> Quality:
    """Return what the registration achieved, and the verdict."""
    points = fixed.body_points
    points = points[:: max(1, len(points) // POINTS)]
    own = fixed.sampled(points)
    before = moving.sampled(points)
    moved = mapped(registration, points)
    after = moving.sampled(moved)
    share = float(np.isfinite(after).mean())
    lungs_before, lungs_after = _lung_overlap(fixed, moving, registration)
    low, high = _jacobian(fixed, registration)
    similarity = correlation(own, after)
    reasons = []
    if similarity < LEAST_SIMILARITY:
        reasons.append("registration_similarity_low")
    if similarity < correlation(own, before) - 0.02 and np.isfinite(before).mean() >= share:
        reasons.append("registration_not_better_than_start")
    if share < LEAST_FIELD_SHARE:
        reasons.append("registration_overlap_small")
    if lungs_after is not None and lungs_after < LEAST_LUNG_OVERLAP:
        reasons.append("registration_lungs_apart")
    if registration.rotation_deg > MOST_ROTATION_DEG:
        reasons.append("registration_rotation_large")
    scales = np.linalg.svd(registration.matrix_fixed_to_moving[:3, :3], compute_uv=False)
    if scales.min() < SCALE_RANGE[0] or scales.max() > SCALE_RANGE[1]:
        reasons.append("registration_scale_implausible")
    if low is not None and low <= 0:
        reasons.append("registration_folds_space")
    return Quality(
        "poor" if reasons else "ok",
        tuple(reasons),
        correlation(own, before),
        similarity,
        lungs_before,
        lungs_after,
        share,
        low,
        high,
    )


def mapped(registration: Registration, points_lps: Floats) -> Floats:
    """Return where points (n, 3) of the fixed image lie in the moving image."""
    points = np.asarray(points_lps, dtype=np.float64)
    if registration.deformation is not None:
        points = np.array([registration.deformation.TransformPoint(point) for point in points.tolist()])
    matrix = registration.matrix_fixed_to_moving
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def lungs(image: Working) -> npt.NDArray[np.bool_] | None:
    """Return the lungs of a working copy: air inside the body; None where there is too little.

    Air that reaches the edge of the image within a slice is outside the body, or a lung that is cut off.
    """
    from scipy import ndimage

    air = image.volume.array.astype(np.int16) < LUNG_HU
    numbered, _ = ndimage.label(air)
    edges = np.zeros(air.shape, dtype=bool)
    edges[:, [0, -1], :] = edges[:, :, [0, -1]] = True
    outside = np.unique(numbered[edges & air])
    inside = air & ~np.isin(numbered, outside)
    counts = np.bincount(numbered[inside], minlength=1)
    least = 0.1 * LEAST_LUNG_ML / image.volume.grid.voxel_volume_ml
    inside &= np.isin(numbered, np.flatnonzero(counts >= least))
    if inside.sum() * image.volume.grid.voxel_volume_ml < LEAST_LUNG_ML:
        return None
    return inside


def _lung_overlap(
    fixed: Working, moving: Working, registration: Registration
) -> tuple[float | None, float | None]:
    """Return the Dice coefficient of the lungs before and after, over the field of view that both share."""
    own, theirs = lungs(fixed), lungs(moving)
    if own is None or theirs is None:
        return None, None
    grid = fixed.volume.grid
    step = max(1, round((own.size / (5 * POINTS)) ** (1 / 3)))
    k, j, i = np.meshgrid(*(np.arange(0, size, step) for size in grid.shape), indexing="ij")
    points = grid.world(np.stack([i, j, k], axis=-1).reshape(-1, 3))
    of_fixed = own[k.ravel(), j.ravel(), i.ravel()]

    def dice(places: Floats) -> float:
        at = np.rint(moving.volume.grid.index(places)[:, ::-1]).astype(int)
        shared = ((at >= 0) & (at < theirs.shape)).all(axis=1)
        there = theirs[tuple(at[shared].T)]
        here = of_fixed[shared]
        both = int(here.sum()) + int(there.sum())
        return 2 * float((here & there).sum()) / both if both else 0.0

    return dice(points), dice(mapped(registration, points))


def _jacobian(fixed: Working, registration: Registration) -> tuple[float | None, float | None]:
    if registration.deformation is None:
        return None, None
    grid = fixed.volume.grid
    field = SimpleITK.TransformToDisplacementField(
        registration.deformation,
        SimpleITK.sitkVectorFloat64,
        [max(2, size // 2) for size in grid.shape[::-1]],
        grid.origin_lps_mm,
        [2 * step for step in grid.spacing_mm],
        grid.direction.ravel().tolist(),
    )
    values = SimpleITK.GetArrayFromImage(SimpleITK.DisplacementFieldJacobianDeterminant(field))
    return float(values.min()), float(values.max())

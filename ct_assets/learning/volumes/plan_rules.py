"""The rules from a merged fingerprint and settings to a plan.

Belongs here: target spacing, intensity scheme, patch size, each a function with its rule stated. The idea of a
fingerprint, the median spacing with its rule for anisotropic data and the foreground percentiles follow
Isensee et al., nnU-Net, Nature Methods 18, 2021; here a fold's training patients alone are asked.
"""

import numpy as np

from ct_assets.errors import UsageError
from ct_assets.imaging.windows import WINDOWS, window
from ct_assets.learning.volumes.fingerprint import Merged
from ct_assets.learning.volumes.plan import Intensity
from ct_assets.settings.folds import PlanSettings

Triple = tuple[float, float, float]

ANISOTROPIC = 3.0
"""An axis with steps this many times as long as both others, and that much fewer voxels, is anisotropic."""
FINE_PERCENTILE = 10.0
"""Of an anisotropic axis this percentile of spacing is taken: half of the cases keep finer slices."""
BYTES_PER_VOXEL = 12_000
"""Memory of one training step per input voxel: Swin-UNETR, feature size 48, float32, batch 1, 96^3 in 10.6 GB."""
SIDE = 32
"""Sides of a patch are multiples of this: five halvings of a Swin-UNETR."""
LONGEST_AT_LEAST = 64
"""One side at least: at 32^3 the deepest layer is one voxel, which an instance norm cannot take."""


def target_spacing(merged: Merged, settings: PlanSettings) -> Triple:
    """Return (x, y, z) in mm: fixed by settings, or the median with the rule for an anisotropic axis."""
    if settings.spacing != "median":
        return settings.spacing
    target = np.median(merged.spacing_mm, axis=0)
    shape = np.median(merged.shape, axis=0)[::-1]
    worst = int(target.argmax())
    others = [axis for axis in range(3) if axis != worst]
    is_coarse = target[worst] > ANISOTROPIC * target[others].max()
    if is_coarse and shape[worst] * ANISOTROPIC < shape[others].min():
        fine = np.percentile(merged.spacing_mm[:, worst], FINE_PERCENTILE)
        target[worst] = max(fine, target[others].max())
    # To a micrometre: header noise beyond that would keep folds from sharing their volumes.
    x, y, z = (round(float(size), 3) for size in target)
    return x, y, z


def intensity(merged: Merged, settings: PlanSettings) -> tuple[Intensity, tuple[str, ...]]:
    """Return the scheme with its numbers, and warnings.

    `foreground_zscore` clips to the 0.5 and 99.5 percentiles of all training foreground voxels and takes their
    mean and deviation; without any foreground the body's voxels stand in, with a warning.
    """
    scheme = settings.intensity
    if scheme == "window" or scheme == "unit_range":
        shown = window(settings.window) if scheme == "window" else WINDOWS["unit_range"]
        low, width = shown.lower_hu, shown.width_hu
        return Intensity(
            scheme=scheme,
            lower_hu=low,
            upper_hu=shown.upper_hu,
            subtract=low,
            divide=width,
            window=shown.name,
        ), ()
    warnings: tuple[str, ...] = ()
    counted = merged.foreground
    if scheme == "per_case" or not counted.total:
        body = merged.image.above(-500)
        counted = body if body.total else merged.image
        if scheme == "foreground_zscore":
            warnings = ("no_foreground_in_training",)
    low, high = counted.percentile(0.5), counted.percentile(99.5)
    if high <= low:
        low, high, warnings = low - 1, low + 1, (*warnings, "constant_intensity")
    if scheme == "per_case":
        return Intensity(scheme=scheme, lower_hu=low, upper_hu=high, subtract=None, divide=None), warnings
    mean, std = counted.mean(), max(counted.std(), 1.0)
    return Intensity(
        scheme=scheme,
        lower_hu=round(low, 6),
        upper_hu=round(high, 6),
        subtract=round(mean, 6),
        divide=round(std, 6),
    ), warnings


def median_shape(merged: Merged, spacing: Triple) -> tuple[int, int, int]:
    """Return the median shape (k, j, i) that the cases have at the target spacing."""
    extent = merged.shape * merged.spacing_mm[:, ::-1]
    k, j, i = np.maximum(1, np.ceil(np.median(extent, axis=0) / np.array(spacing[::-1]) - 1e-3)).astype(int)
    return int(k), int(j), int(i)


def patch_size(shape: tuple[int, int, int], settings: PlanSettings) -> tuple[int, int, int]:
    """Return the patch (k, j, i) in multiples of 32 voxels that fits the memory target.

    It starts from the median shape; while it is too large, the side that is longest against the median shape
    is cut by 32. Raises `UsageError` where not even the smallest patch fits.
    """
    if settings.patch_size is not None:
        return settings.patch_size
    budget = settings.patch_memory_gb * 1e9 / BYTES_PER_VOXEL
    sides = [max(SIDE, -(-size // SIDE) * SIDE) for size in shape]
    if max(sides) < LONGEST_AT_LEAST:
        sides[int(np.argmax(shape))] = LONGEST_AT_LEAST
    while np.prod(sides) > budget:
        ratios = [
            side / size if _may_shrink(sides, axis) else 0.0
            for axis, (side, size) in enumerate(zip(sides, shape, strict=True))
        ]
        longest = int(
            np.argmax([ratio * (1 + side * 1e-6) for ratio, side in zip(ratios, sides, strict=True)])
        )
        if ratios[longest] == 0:
            least = SIDE * SIDE * LONGEST_AT_LEAST * BYTES_PER_VOXEL / 1e9
            raise UsageError(
                f"plan.patch_memory_gb is {settings.patch_memory_gb:g}; the smallest patch needs {least:.2f}"
            )
        sides[longest] -= SIDE
    return sides[0], sides[1], sides[2]


def _may_shrink(sides: list[int], axis: int) -> bool:
    smaller = [side - SIDE if place == axis else side for place, side in enumerate(sides)]
    return smaller[axis] >= SIDE and max(smaller) >= LONGEST_AT_LEAST

"""The lungs in a CT volume: a mask that holds nodules at the wall too, and which side is which.

Belongs here: HU to mask, by thresholds and shapes alone. Does not: lobes (nothing here determines them).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Volume

Flags = npt.NDArray[np.bool_]

AIR_BELOW_HU = -400.0
WORKING_MM = 2.0
"""Shapes are worked out on voxels about this large."""
CLOSING_MM = 10.0
"""Dents of the lung up to about twice this wide are filled: nodules at the wall, vessels at the hilum."""
LEAST_SHARE = 0.1
"""Smaller pieces of air than this share of the largest are no lung."""
LEAST_ML = 100.0
"""Less air in all is no lung."""


@dataclass(frozen=True, eq=False)
class Lungs:
    """The mask, and the pieces it is made of where they are two."""

    mask: Flags
    """(k, j, i)."""
    right: Flags | None
    """The lung on the patient's right; null where both are one piece, or only one is there."""
    left: Flags | None

    def side(self, centre_kji: tuple[float, float, float]) -> str | None:
        """Return "right" or "left" for a place in or at a lung; None where it is not determined."""
        if self.right is None or self.left is None:
            return None
        k, j, i = (round(value) for value in centre_kji)
        if not all(0 <= value < size for value, size in zip((k, j, i), self.mask.shape, strict=True)):
            return None
        is_right, is_left = bool(self.right[k, j, i]), bool(self.left[k, j, i])
        return None if is_right == is_left else "right" if is_right else "left"


def segment(volume: Volume) -> Lungs | None:
    """Return the lungs of a chest CT in HU, or None where there is no air inside a body.

    Air that reaches the border of a slice is outside the patient. What is enclosed by lung, and dents of its surface,
    belong to the mask.
    """
    from scipy import ndimage

    strides = [max(1, round(WORKING_MM / step)) for step in volume.grid.spacing_mm[::-1]]
    coarse = np.asarray(
        volume.array[tuple(slice(None, None, stride) for stride in strides)], dtype=np.float32
    )
    spacing = np.array(volume.grid.spacing_mm[::-1]) * strides
    labels, count = ndimage.label(coarse < AIR_BELOW_HU)
    outside = np.unique(
        np.concatenate(
            [labels[:, border].ravel() for border in (0, -1)]
            + [labels[..., border].ravel() for border in (0, -1)]
        )
    )
    size = np.bincount(labels.ravel(), minlength=count + 1)
    size[0] = 0
    size[outside] = 0
    voxel_ml = float(np.prod(spacing)) / 1000
    if size.sum() * voxel_ml < LEAST_ML:
        return None
    pieces = np.flatnonzero(size >= LEAST_SHARE * size.max())
    pieces = pieces[np.argsort(-size[pieces], kind="stable")][:2]
    closed = [_closed(labels == piece, spacing) for piece in pieces]
    full = [_enlarged(mask, strides, volume.array.shape) for mask in closed]
    mask = np.logical_or.reduce(full)
    if len(full) < 2:
        return Lungs(mask, None, None)
    x = [volume.grid.world(np.argwhere(piece).mean(axis=0)[::-1])[0] for piece in full]
    right, left = (full[0], full[1]) if x[0] < x[1] else (full[1], full[0])
    return Lungs(mask, right, left)


def _closed(mask: Flags, spacing: npt.NDArray[np.float64]) -> Flags:
    from scipy import ndimage

    reach = [int(np.ceil(CLOSING_MM / step)) + 1 for step in spacing]
    # Scans end within the lung: repeating the last slice keeps it from being eroded there.
    padded = np.pad(mask, [(width, width) for width in reach], mode="edge")
    dilated = ndimage.distance_transform_edt(~padded, sampling=spacing) <= CLOSING_MM
    closed = ndimage.distance_transform_edt(dilated, sampling=spacing) > CLOSING_MM
    inner = closed[tuple(slice(width, -width) for width in reach)] | mask
    return np.asarray(ndimage.binary_fill_holes(inner))


def _enlarged(mask: Flags, strides: list[int], shape: tuple[int, ...]) -> Flags:
    for axis, stride in enumerate(strides):
        mask = np.repeat(mask, stride, axis=axis)
    return mask[tuple(slice(0, size) for size in shape)]

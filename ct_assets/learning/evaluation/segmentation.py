"""How well a mask fits, one case at a time, in the original image space.

Belongs here: overlap, surface, volume and lesion measures of two binary masks on one grid. Means and
intervals over patients are in `learning.evaluation.bootstrap`. What a measure does with empty masks is chosen so that a
mean never improves by missing lesions (the NaN of other tools drops exactly the worst cases).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct_assets.imaging.volume import Grid

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

HD_PERCENTILE = 95.0
NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class CaseScores:
    """The measures of one case; the columns of `tables.learning.SegmentationScores`."""

    dice: float
    nsd: float
    hd95_mm: float
    reference_ml: float
    predicted_ml: float
    volume_error_ml: float
    volume_error_share: float | None
    lesions: int
    lesions_found: int
    lesions_false: int
    lesion_f1: float
    is_missed: bool

    def row(self) -> dict[str, Any]:
        """Return the measures by name."""
        return asdict(self)


def score(predicted: Mask, reference: Mask, grid: Grid, *, nsd_tolerance_mm: float) -> CaseScores:
    """Measure a predicted mask against its reference, both (k, j, i) on `grid`.

    One mask empty: Dice and NSD 0, HD95 the diagonal of the image. Both empty: Dice, NSD and lesion F1 1,
    HD95 0.
    """
    lesions = lesion_counts(predicted, reference)
    overlap = int((predicted & reference).sum())
    sizes = int(predicted.sum()), int(reference.sum())
    reference_ml = sizes[1] * grid.voxel_volume_ml
    error = (sizes[0] - sizes[1]) * grid.voxel_volume_ml
    to_reference, to_predicted = surface_distances(predicted, reference, grid.spacing_mm)
    return CaseScores(
        dice=2 * overlap / sum(sizes) if sum(sizes) else 1.0,
        nsd=surface_dice(to_reference, to_predicted, nsd_tolerance_mm),
        hd95_mm=hausdorff_95(to_reference, to_predicted, diagonal_mm(grid)),
        reference_ml=reference_ml,
        predicted_ml=sizes[0] * grid.voxel_volume_ml,
        volume_error_ml=error,
        volume_error_share=abs(error) / reference_ml if reference_ml else None,
        lesions=lesions[0],
        lesions_found=lesions[1],
        lesions_false=lesions[2],
        lesion_f1=lesion_f1(*lesions),
        is_missed=bool(sizes[1]) and overlap == 0,
    )


def surface_distances(
    predicted: Mask, reference: Mask, spacing_mm: tuple[float, float, float]
) -> tuple[Floats, Floats]:
    """Return, for each border voxel of a mask, the distance to the other's border: (of predicted, of reference).

    `spacing_mm` is (x, y, z). A border voxel has a face neighbour outside its mask. Where the other mask is
    empty the distances are infinite.
    """
    both = predicted | reference
    if not both.any():
        return np.zeros(0), np.zeros(0)
    box = tuple(
        slice(int(found.min()), int(found.max()) + 1)
        for found in (np.nonzero(both)[axis] for axis in range(3))
    )
    borders = [_border(np.pad(mask[box], 1)) for mask in (predicted, reference)]
    steps = spacing_mm[::-1]
    away = [
        ndimage.distance_transform_edt(~border, sampling=steps)
        if border.any()
        else np.full(border.shape, np.inf)
        for border in borders
    ]
    return away[1][borders[0]], away[0][borders[1]]


def surface_dice(to_reference: Floats, to_predicted: Floats, tolerance_mm: float) -> float:
    """Return the normalised surface distance (Nikolov 2018, arXiv:1809.04430): borders within tolerance."""
    count = to_reference.size + to_predicted.size
    if count == 0:
        return 1.0
    near = int((to_reference <= tolerance_mm).sum() + (to_predicted <= tolerance_mm).sum())
    return near / count


def hausdorff_95(to_reference: Floats, to_predicted: Floats, penalty_mm: float) -> float:
    """Return the larger of both directed 95th percentiles; `penalty_mm` where only one mask is empty."""
    if to_reference.size == 0 and to_predicted.size == 0:
        return 0.0
    if to_reference.size == 0 or to_predicted.size == 0:
        return penalty_mm
    return float(max(np.percentile(to_reference, HD_PERCENTILE), np.percentile(to_predicted, HD_PERCENTILE)))


def diagonal_mm(grid: Grid) -> float:
    """Return the longest distance between corner voxels of the image."""
    corners = grid.corners()
    return float(np.linalg.norm(corners[:, None] - corners[None], axis=-1).max())


def lesion_counts(predicted: Mask, reference: Mask) -> tuple[int, int, int]:
    """Return lesions, lesions found (any overlap), and predicted components that touch none.

    Components join over 26 neighbours.
    """
    lesions, count = ndimage.label(reference, NEIGHBOURS_26)
    components, predicted_count = ndimage.label(predicted, NEIGHBOURS_26)
    found = np.setdiff1d(np.unique(lesions[predicted]), [0])
    true = np.setdiff1d(np.unique(components[reference]), [0])
    return int(count), int(found.size), int(predicted_count - true.size)


def lesion_f1(lesions: int, found: int, false: int) -> float:
    """Return 2 found / (2 found + missed + false), 1 where there is nothing to find and nothing was found."""
    total = 2 * found + (lesions - found) + false
    return 2 * found / total if total else 1.0


def _border(mask: Mask) -> Mask:
    return mask & ~ndimage.binary_erosion(mask)

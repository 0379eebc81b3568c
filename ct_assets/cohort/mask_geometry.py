"""Whether a mask object lies on the pixels of a CT series, as far as headers tell.

Belongs here: planes of frames and contours against slices, pixel grids, and the boxes of what is lit against
the volume. Does not: references (`cohort.mask_audit`), voxels.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ct_assets.dicom.series import Series, SeriesGeometry
from ct_assets.dicom.uids import Kind

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]

HALF_VOXEL = 0.5
"""A box of voxel centres or of contour points is inside where it stays within the outer voxels' edges."""


@dataclass(frozen=True)
class Fit:
    """What was compared; None where it could not be."""

    orientation_matches: bool | None = None
    pixel_spacing_matches: bool | None = None
    pixels_coincide: bool | None = None
    positions_match: bool | None = None
    is_inside_volume: bool | None = None
    max_plane_offset_mm: float | None = None
    planes: int | None = None
    planes_on_slices: int | None = None
    reasons: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool | None:
        """All comparisons that could be made hold; None where none could."""
        made = [
            value
            for value in (
                self.orientation_matches,
                self.pixel_spacing_matches,
                self.pixels_coincide,
                self.positions_match,
                self.is_inside_volume,
            )
            if value is not None
        ]
        return all(made) if made else None


def compare(row: Row, kind: Kind, series: Series | None, tolerance_mm: float) -> Fit:
    """Compare a mask object of the header index with the CT series that it means."""
    if series is None or series.geometry is None:
        return Fit()
    slices = np.array([one.position_lps_mm for one in series.instances], dtype=np.float64)
    if kind is Kind.RTSTRUCT:
        return _compare_contours(row, series.geometry, slices)
    return _compare_frames(row, series.geometry, slices, tolerance_mm)


def voxel_volume_ml(row: Row) -> float | None:
    """Return the volume of a SEG's voxel from its own header; None where it does not tell."""
    spacing = row["frame_pixel_spacings_mm"]
    if spacing is None or len(spacing) != 2:
        return None
    heights = _plane_step(row)
    if heights is None:
        return None
    return float(spacing[0] * spacing[1] * heights) / 1000.0


def _plane_step(row: Row) -> float | None:
    """Return the usual distance between the planes of a SEG, else what its header says about spacing."""
    positions, orientation = row["frame_positions_mm"], row["frame_orientations"]
    if positions is not None and orientation is not None and len(orientation) == 6:
        along = np.reshape(positions, (-1, 3)) @ np.cross(orientation[:3], orientation[3:])
        steps = np.diff(np.unique(np.round(along, 3)))
        if len(steps):
            return float(np.median(steps))
    stated = row["spacing_between_slices_mm"] or row["slice_thickness_mm"]
    return abs(stated) if stated else None


def _compare_frames(row: Row, geometry: SeriesGeometry, slices: Floats, tolerance_mm: float) -> Fit:
    frames = _frames(row)
    if frames is None:
        return Fit(reasons=["mask_position_missing"])
    positions, by_column, by_row = frames
    rows, columns = row["rows"] or 1, row["columns"] or 1
    normal = np.array(geometry.normal)
    steps = np.stack(
        [
            np.multiply(geometry.row_direction, geometry.pixel_spacing_mm[1]),
            np.multiply(geometry.column_direction, geometry.pixel_spacing_mm[0]),
        ],
        axis=1,
    )
    to_pixels = np.linalg.pinv(steps)
    leaning = np.maximum(np.abs(by_column @ normal) * columns, np.abs(by_row @ normal) * rows)
    column_steps, row_steps = by_column @ to_pixels.T, by_row @ to_pixels.T
    whole_columns, whole_rows = np.rint(column_steps), np.rint(row_steps)
    is_permutation = (
        (np.abs(whole_columns).sum(axis=1) == 1)
        & (np.abs(whole_rows).sum(axis=1) == 1)
        & ((whole_columns * whole_rows).sum(axis=1) == 0)
    )
    directions_agree = _directions_agree(by_column, by_row, geometry)
    drift_mm = np.maximum(
        np.linalg.norm((column_steps - whole_columns) @ steps.T, axis=1) * (columns - 1),
        np.linalg.norm((row_steps - whole_rows) @ steps.T, axis=1) * (rows - 1),
    )
    nearest, away = _nearest(positions, slices, normal)
    offsets = (positions - slices[nearest]) @ to_pixels.T
    offset_mm = np.linalg.norm((offsets - np.rint(offsets)) @ steps.T, axis=1)
    orientation_matches = bool((leaning <= tolerance_mm).all() and directions_agree)
    spacing_matches = bool(is_permutation.all() and (drift_mm <= tolerance_mm).all())
    on_slices = away <= tolerance_mm
    coincide = spacing_matches and bool((offset_mm <= tolerance_mm).all())
    inside = _boxes_inside(row, geometry)
    reasons = []
    if inside is False:
        reasons.append(_outside(row, geometry))
    elif not (orientation_matches and coincide and on_slices.all()):
        reasons.append("mask_grid_differs")
    return Fit(
        orientation_matches=orientation_matches,
        pixel_spacing_matches=spacing_matches,
        pixels_coincide=coincide,
        positions_match=bool(on_slices.all()),
        is_inside_volume=inside,
        max_plane_offset_mm=float(away.max()),
        planes=len(positions),
        planes_on_slices=int(on_slices.sum()),
        reasons=reasons,
    )


def _compare_contours(row: Row, geometry: SeriesGeometry, slices: Floats) -> Fit:
    planes = np.reshape(row["contour_planes_mm"] or [], (-1, 3))
    if not len(planes):
        return Fit(planes=0, planes_on_slices=0)
    _, away = _nearest(planes, slices, np.array(geometry.normal))
    half_step = max(geometry.spacing_mm, geometry.step_max_mm) / 2
    on_slices = away <= half_step + 1e-6
    inside = _boxes_inside(row, geometry)
    return Fit(
        positions_match=bool(on_slices.all()),
        is_inside_volume=inside,
        max_plane_offset_mm=float(away.max()),
        planes=len(planes),
        planes_on_slices=int(on_slices.sum()),
        reasons=[_outside(row, geometry)] if inside is False else [],
    )


def _frames(row: Row) -> tuple[Floats, Floats, Floats] | None:
    """Return position, step from column to column and from row to row of each frame; None if untold."""
    positions = np.reshape(row["frame_positions_mm"] or [], (-1, 3))
    count = len(positions)
    orientations = np.reshape(row["frame_orientations"] or [], (-1, 6))
    spacings = np.reshape(row["frame_pixel_spacings_mm"] or [], (-1, 2))
    if not count or len(orientations) not in (1, count) or len(spacings) not in (1, count):
        return None
    by_column = np.broadcast_to(orientations[:, :3] * spacings[:, 1:], (count, 3))
    by_row = np.broadcast_to(orientations[:, 3:] * spacings[:, :1], (count, 3))
    return positions.astype(np.float64), by_column, by_row


def _directions_agree(by_column: Floats, by_row: Floats, geometry: SeriesGeometry) -> bool:
    """Tell whether the frames' axes are the slices' axes, in either order and sense."""
    axes = np.array([geometry.row_direction, geometry.column_direction])
    for steps in (by_column, by_row):
        unit = steps / np.linalg.norm(steps, axis=1, keepdims=True)
        if (np.abs(unit @ axes.T).max(axis=1) < 1 - 1e-4).any():
            return False
    return True


def _nearest(points: Floats, slices: Floats, normal: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the nearest slice of each point along the normal, and its distance."""
    heights = np.sort(slices @ normal)
    order = np.argsort(slices @ normal)
    wanted = points @ normal
    right = np.clip(np.searchsorted(heights, wanted), 0, len(heights) - 1)
    left = np.clip(right - 1, 0, None)
    take_left = np.abs(heights[left] - wanted) <= np.abs(heights[right] - wanted)
    at = np.where(take_left, left, right)
    return order[at], np.abs(heights[at] - wanted)


def _boxes(row: Row) -> Floats:
    """Return least and greatest corner (n, 2, 3) of every segment that holds anything."""
    boxes = np.reshape(row["segment_boxes_mm"] or [], (-1, 2, 3)).astype(np.float64)
    return boxes[~np.isnan(boxes).any(axis=(1, 2))]


def _indices(points: Floats, geometry: SeriesGeometry) -> Floats:
    inverse = np.linalg.inv(geometry.affine_lps)
    return points @ inverse[:3, :3].T + inverse[:3, 3]


def _limits(geometry: SeriesGeometry) -> Floats:
    slices = max(round(geometry.coverage_mm / geometry.spacing_mm) + 1, 1) if geometry.spacing_mm else 1
    return np.array([geometry.columns, geometry.rows, slices], dtype=np.float64)


def _boxes_inside(row: Row, geometry: SeriesGeometry) -> bool | None:
    boxes = _boxes(row)
    if not len(boxes):
        return None
    lowest, highest = _index_boxes(boxes, geometry)
    slack = HALF_VOXEL + 1e-3
    return bool((lowest >= -slack).all() and (highest <= _limits(geometry) - 1 + slack).all())


def _outside(row: Row, geometry: SeriesGeometry) -> str:
    """Tell whether the mask misses the volume or runs past it."""
    lowest, highest = _index_boxes(_boxes(row), geometry)
    misses = (highest < -HALF_VOXEL) | (lowest > _limits(geometry) - HALF_VOXEL)
    return "mask_outside_volume" if misses.any(axis=1).all() else "mask_exceeds_volume"


def _index_boxes(boxes: Floats, geometry: SeriesGeometry) -> tuple[Floats, Floats]:
    """Return each box in index space; of an oblique volume the boxes' centres with their half sizes."""
    centres, halves = boxes.mean(axis=1), (boxes[:, 1] - boxes[:, 0]) / 2
    middle = _indices(centres, geometry)
    # Along each axis of the grid a box aligned with the patient spans at least the projection of its largest
    # side; the full projection of its corners would call masks of oblique volumes outside that are not.
    inverse = np.linalg.inv(geometry.affine_lps)[:3, :3]
    nearest = np.abs(inverse) == np.abs(inverse).max(axis=1, keepdims=True)
    reach = halves @ (np.abs(inverse) * nearest).T
    return middle - reach, middle + reach

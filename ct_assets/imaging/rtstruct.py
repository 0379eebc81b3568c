"""Structure sets as masks: contours filled on the slices they lie on.

Belongs here: which slice a contour belongs to, and the fill. Does not: reading structure sets
(`dicom.rtstruct`), which series is meant (`imaging.masks_reference`).

A pixel belongs to an ROI where its centre lies inside an odd number of the ROI's contours on that plane
(even-odd, the XOR of PS3.3 C.8.8.6.3): inner contours are holes, keyholes close upon themselves. A centre
exactly on an outline belongs to the side of growing indices, so that touching ROIs never share a pixel.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.dicom.rtstruct import Contour, Roi, StructureSet
from ct_assets.dicom.seg import MaskError
from ct_assets.imaging.masks import Mask, SegmentVoxels, SlicesOfSop, slices_named
from ct_assets.imaging.stack import SliceStack
from ct_assets.settings.conversion import MaskSettings

PLANARITY_SHARE = 0.25
"""A contour may leave its plane by this share of half a slice step (with a least of 0.1 mm)."""
INDEX_DECIMALS = 6
"""Pixel coordinates are rounded to a millionth, so that float noise decides no pixel on an outline."""
BORDER_SLACK_PIXELS = 0.5
"""Outlines may run along the outer edges of the image's border pixels."""


@dataclass(frozen=True, eq=False)
class _Placed:
    """A contour with its place: (n, 2) pixel coordinates (i, j) and the height along the normal."""

    pixels: npt.NDArray[np.float64]
    offset_mm: float
    k: int
    away_mm: float


def place_structures(
    structures: StructureSet,
    stack: SliceStack,
    slices_of_sop: SlicesOfSop,
    settings: MaskSettings,
    tolerance_mm: float,
) -> Mask:
    """Fill every ROI on the slices where its contours lie.

    Position decides the slice; the SOP references are only compared with it. A contour within
    `tolerance_mm` of a slice is on it; another goes to the nearest slice at most half a step away (of several
    contour planes at one slice the closest counts) or its ROI is refused, by setting. An ROI that leaves the
    image, or whose contours are not parallel to the slices, is left out with its reason. Raises `MaskError`
    where no ROI remains.
    """
    warnings: set[str] = set()
    filled = []
    for roi in structures.rois:
        if roi.left_out:
            warnings.add("contours_left_out")
        if not roi.contours:
            filled.append(SegmentVoxels(roi.segment, np.empty(0, dtype=np.int64), ("roi_without_contours",)))
            continue
        try:
            flat = _fill_roi(roi, stack, slices_of_sop, settings, tolerance_mm, warnings)
            filled.append(SegmentVoxels(roi.segment, flat))
            if not flat.size:
                warnings.add("segment_empty")
        except MaskError as refusal:
            filled.append(SegmentVoxels(roi.segment, np.empty(0, dtype=np.int64), (refusal.code,)))
    reasons = [voxels.reasons[0] for voxels in filled if voxels.reasons]
    if len(reasons) == len(filled):
        # The commonest fault speaks for the object; each ROI keeps its own in segments.json.
        raise MaskError(max(sorted(set(reasons)), key=reasons.count) if reasons else "roi_without_contours")
    if any(reason != "roi_without_contours" for reason in reasons):
        warnings.add("rois_left_out")
    return Mask("RTSTRUCT", stack.shape, tuple(filled), tuple(sorted(warnings)), {"rois": len(filled)})


def fill(polygons: Sequence[npt.NDArray[np.float64]], rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Return the pixels (rows, columns) whose centres lie inside an odd number of `polygons`.

    Each polygon is (n, 2) with column i and row j of its points, pixel centres at integers; it is closed by
    its first point. Every row toggles at each crossing of its centre line, so the fill is exact.
    """
    toggles = np.zeros((rows, columns + 1), dtype=np.uint8)
    for polygon in polygons:
        start, end = polygon, np.roll(polygon, -1, axis=0)
        upper = np.where((start[:, 1] <= end[:, 1])[:, np.newaxis], start, end)
        lower = np.where((start[:, 1] <= end[:, 1])[:, np.newaxis], end, start)
        first = np.clip(np.ceil(upper[:, 1]), 0, rows).astype(int)
        last = np.clip(np.ceil(lower[:, 1]), 0, rows).astype(int)  # half-open: a point belongs to one edge
        counts = last - first
        edge = np.repeat(np.arange(len(polygon)), counts)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
        crossing = np.round(upper[edge, 0] + slope * (row - upper[edge, 1]), INDEX_DECIMALS)
        column = np.clip(np.ceil(crossing), 0, columns).astype(int)
        np.add.at(toggles, (row, column), 1)
    return (np.cumsum(toggles, axis=1, dtype=np.uint32)[:, :columns] & 1).astype(np.bool_)


def _fill_roi(
    roi: Roi,
    stack: SliceStack,
    slices_of_sop: SlicesOfSop,
    settings: MaskSettings,
    tolerance_mm: float,
    warnings: set[str],
) -> npt.NDArray[np.int64]:
    by_slice: dict[int, list[_Placed]] = defaultdict(list)
    for contour in roi.contours:
        placed = _place(contour, stack, settings, tolerance_mm, warnings)
        if placed is None:
            warnings.add("mask_cropped")
            continue
        by_slice[placed.k].append(placed)
        known = slices_named(contour.source_sop_uids, slices_of_sop)
        if contour.source_sop_uids and not known:
            warnings.add("mask_sop_references_stale")
        elif known and placed.k not in known:
            warnings.add("mask_source_elsewhere")
    pieces = []
    for k, several in sorted(by_slice.items()):
        closest = min(several, key=lambda placed: placed.away_mm)
        on_plane = [p for p in several if abs(p.offset_mm - closest.offset_mm) <= tolerance_mm]
        if len(on_plane) < len(several):
            warnings.add("contour_planes_merged")
        polygons = _without_repeats([p.pixels for p in on_plane], warnings)
        pixels = fill(polygons, stack.rows, stack.columns)
        pieces.append(np.flatnonzero(pixels) + k * stack.rows * stack.columns)
    if not pieces:
        raise MaskError("mask_outside_volume", "no contour lies inside the image")
    return np.concatenate(pieces)


def _place(
    contour: Contour, stack: SliceStack, settings: MaskSettings, tolerance_mm: float, warnings: set[str]
) -> _Placed | None:
    """Return where a contour goes; None for one that lies outside where masks are cropped."""
    relative = contour.points_lps_mm - stack.positions_mm[0]
    heights = relative @ stack.normal
    offset = float(heights.mean())
    k, away = stack.nearest_slice(offset)
    half_step = stack.half_step_mm(k, offset)
    if float(np.ptp(heights)) / 2 > max(tolerance_mm, PLANARITY_SHARE * half_step):
        raise MaskError("contours_not_in_slices", "contours are not parallel to the slices")
    if away > tolerance_mm:
        beyond = offset < stack.offsets_mm[0] or offset > stack.offsets_mm[-1]
        if away > half_step + tolerance_mm:
            if beyond and settings.outside == "crop":
                return None
            raise MaskError("mask_outside_volume" if beyond else "contours_between_slices")
        if settings.between_slices == "refuse":
            raise MaskError("contours_between_slices", "a contour lies between two slices")
        warnings.add("contours_moved_to_nearest_slice")
    in_plane = contour.points_lps_mm - stack.positions_mm[k]
    pixels = np.round(in_plane @ stack.to_pixels.T, INDEX_DECIMALS)
    least, most = pixels.min(axis=0), pixels.max(axis=0)
    border = np.array([stack.columns, stack.rows]) - 1 + BORDER_SLACK_PIXELS
    if (most < -BORDER_SLACK_PIXELS).any() or (least > border).any():
        if settings.outside == "crop":
            return None
        raise MaskError("mask_outside_volume", "a contour lies beside the image")
    slack = tolerance_mm / min(stack.pixel_spacing_mm)
    if (least < -BORDER_SLACK_PIXELS - slack).any() or (most > border + slack).any():
        if settings.outside == "refuse":
            raise MaskError("mask_exceeds_volume", "a contour runs past the image")
        warnings.add("mask_cropped")
    return _Placed(pixels, offset, k, away)


def _without_repeats(
    polygons: list[npt.NDArray[np.float64]], warnings: set[str]
) -> list[npt.NDArray[np.float64]]:
    """Leave out exact repetitions, which would otherwise erase each other."""
    distinct = {polygon.tobytes(): polygon for polygon in polygons}
    if len(distinct) < len(polygons):
        warnings.add("contours_repeated")
    return list(distinct.values())

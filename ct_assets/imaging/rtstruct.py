"""Structure sets as masks: contours filled on the slices they lie on.

Belongs here: which slice a contour belongs to, and which ROI may be put onto the image at all. Does not:
reading structure sets (`dicom.rtstruct`), the fill (`imaging.contours`), which series is meant
(`imaging.masks_reference`).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ct_assets.dicom.rtstruct import Outline, Roi, StructureSet
from ct_assets.dicom.seg import MaskError
from ct_assets.imaging import contours
from ct_assets.imaging.contours import INDEX_DECIMALS
from ct_assets.imaging.masks import Mask, SegmentVoxels, with_labels
from ct_assets.imaging.stack import SliceStack
from ct_assets.imaging.target import Target
from ct_assets.settings.conversion import MaskSettings

PLANARITY_SHARE = 0.25
"""A contour may leave its plane by this share of half a slice step (with a least of 0.1 mm)."""
BORDER_SLACK_PIXELS = 0.5
"""Outlines may run along the outer edges of the image's border pixels."""
NOTHING = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Placed:
    """A contour with its place: (n, 2) pixel coordinates (i, j) and the height along the normal."""

    pixels: npt.NDArray[np.float64]
    is_xor: bool
    offset_mm: float
    k: int
    away_mm: float


def place_structures(
    structures: StructureSet, target: Target, settings: MaskSettings, tolerance_mm: float
) -> Mask:
    """Fill every ROI on the slices where its contours lie.

    Position decides the slice; the SOP references are only compared with it. A contour within
    `tolerance_mm` of a slice is on it; another goes to the nearest slice at most half a step away (of several
    contour planes at one slice the closest counts) or its ROI is refused, by setting. Left out with its
    reason is an ROI that leaves the image, whose contours are not parallel to the slices or damaged, or whose
    numbers are of another frame of reference than the image's (unless each contour lies on the very slice
    that it names). Raises `MaskError` where no ROI remains.
    """
    if structures.has_invalid_numbers:
        raise MaskError("segment_numbers_invalid", "ROI numbers are missing or repeated")
    warnings: set[str] = set()
    if structures.contours_without_roi:
        warnings.add("contours_without_roi")
    filled = []
    for roi in structures.rois:
        try:
            flat = _fill_roi(structures, roi, target, settings, tolerance_mm, warnings)
        except MaskError as refusal:
            filled.append(SegmentVoxels(roi.segment, NOTHING, reasons=(refusal.code,)))
            continue
        filled.append(SegmentVoxels(roi.segment, flat))
        if not flat.size:
            warnings.add("segment_empty")
    reasons = [voxels.reasons[0] for voxels in filled if voxels.reasons]
    if len(reasons) == len(filled):
        # The commonest fault speaks for the object; each ROI keeps its own in segments.json.
        raise MaskError(max(sorted(set(reasons)), key=reasons.count) if reasons else "roi_without_contours")
    if any(reason != "roi_without_contours" for reason in reasons):
        warnings.add("rois_left_out")
    segments = with_labels(filled, warnings)
    return Mask(
        "RTSTRUCT", target.stack.shape, segments, tuple(sorted(warnings)), {"rois": len(structures.rois)}
    )


def _fill_roi(
    structures: StructureSet,
    roi: Roi,
    target: Target,
    settings: MaskSettings,
    tolerance_mm: float,
    warnings: set[str],
) -> npt.NDArray[np.int64]:
    """Return an ROI's voxels. Raises `MaskError` where it is left out; its warnings are then dropped."""
    own: set[str] = set()
    frames = (
        [roi.frame_of_reference_uid] if roi.frame_of_reference_uid else structures.frame_of_reference_uids
    )
    is_other_frame = target.is_other_frame_of_reference(frames)
    found = structures.outlines(roi)
    if found.open:
        warnings.add("contours_left_out")  # also where nothing else is left of the ROI
    if found.damaged:
        raise MaskError("contours_damaged", f"{found.damaged} contours cannot be read")
    if not found.closed:
        raise MaskError("roi_without_contours")
    if found.repaired:
        own.add("contour_numbers_repaired")
    if roi.items > 1:
        own.add("contour_items_joined")
    by_slice: dict[int, list[_Placed]] = defaultdict(list)
    is_proven = True
    outside = 0
    for outline, seen in zip(found.closed, _on_planes(found.closed, target.stack), strict=True):
        named = target.sources.slices(outline.sources)
        placed = _place(seen, target.stack, settings, tolerance_mm, own)
        if placed is None:
            outside += 1
            continue
        by_slice[placed.k].append(placed)
        is_proven &= placed.k in named
        if outline.sources and not named:
            own.add("mask_sop_references_stale")
        elif named and placed.k not in named:
            own.add("mask_source_elsewhere")
    if outside:
        if not by_slice:
            raise MaskError("mask_outside_volume", "no contour lies inside the image")
        if settings.outside == "refuse":
            raise MaskError(
                "mask_exceeds_volume", f"{outside} of {len(found.closed)} contours lie outside the image"
            )
        own.add("mask_cropped")
    if is_other_frame and not (is_proven and by_slice):
        raise MaskError("mask_in_other_frame_of_reference")
    if is_other_frame:
        own.add("mask_in_other_frame_of_reference")
    drawn = sorted(by_slice)
    if len(drawn) > 1 and min(np.diff(drawn)) > 1:
        own.add("contours_skip_slices")
    flat = _paint(by_slice, target.stack, tolerance_mm, own)
    warnings |= own
    return flat


def _paint(
    by_slice: dict[int, list[_Placed]], stack: SliceStack, tolerance_mm: float, warnings: set[str]
) -> npt.NDArray[np.int64]:
    pieces = []
    for k, several in sorted(by_slice.items()):
        closest = min(several, key=lambda placed: placed.away_mm)
        on_plane = [p for p in several if abs(p.offset_mm - closest.offset_mm) <= tolerance_mm]
        if len(on_plane) < len(several):
            warnings.add("contour_planes_merged")
        region, told = contours.combine([(p.pixels, p.is_xor) for p in on_plane], stack.rows, stack.columns)
        warnings |= told
        pieces.append(region.flat(stack.columns) + k * stack.rows * stack.columns)
    return np.concatenate(pieces)


@dataclass(frozen=True, eq=False)
class _Seen:
    """An outline as the first slice sees it: pixel coordinates (n, 2), their extent, and its height."""

    pixels: npt.NDArray[np.float64]
    least: npt.NDArray[np.float64]
    most: npt.NDArray[np.float64]
    offset_mm: float
    thickness_mm: float
    """How far its points are apart along the normal."""
    is_xor: bool


def _on_planes(outlines: Sequence[Outline], stack: SliceStack) -> Iterator[_Seen]:
    """Yield an ROI's outlines in pixel coordinates; all at once, as one by one costs many times more."""
    sizes = np.array([len(outline.points_lps_mm) for outline in outlines], dtype=np.int64)
    ends = np.cumsum(sizes, dtype=np.int64)
    starts: npt.NDArray[np.int64] = ends - sizes
    relative = np.concatenate([outline.points_lps_mm for outline in outlines]) - stack.positions_mm[0]
    heights = relative @ stack.normal
    pixels = relative @ stack.to_pixels.T
    least, most = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
    thickness = np.maximum.reduceat(heights, starts) - np.minimum.reduceat(heights, starts)
    offsets = np.add.reduceat(heights, starts) / sizes
    for at, outline in enumerate(outlines):
        yield _Seen(
            pixels[starts[at] : ends[at]],
            least[at],
            most[at],
            float(offsets[at]),
            float(thickness[at]),
            outline.is_xor,
        )


def _place(
    contour: _Seen, stack: SliceStack, settings: MaskSettings, tolerance_mm: float, warnings: set[str]
) -> _Placed | None:
    """Return where a contour goes; None for one that lies wholly outside the image."""
    offset = contour.offset_mm
    k, away = stack.nearest_slice(offset)
    half_step = stack.half_step_mm(k, offset)
    if contour.thickness_mm / 2 > max(tolerance_mm, PLANARITY_SHARE * half_step):
        raise MaskError("contours_not_in_slices", "contours are not parallel to the slices")
    if away > tolerance_mm:
        beyond = offset < stack.offsets_mm[0] or offset > stack.offsets_mm[-1]
        if away > half_step + tolerance_mm:
            if beyond:
                return None
            raise MaskError("contours_between_slices")
        if settings.between_slices == "refuse":
            raise MaskError("contours_between_slices", "a contour lies between two slices")
        warnings.add("contours_moved_to_nearest_slice")
    first = stack.to_pixels @ (stack.positions_mm[k] - stack.positions_mm[0])
    least, most = contour.least - first, contour.most - first
    border = np.array([stack.columns, stack.rows]) - 1 + BORDER_SLACK_PIXELS
    if (most < -BORDER_SLACK_PIXELS).any() or (least > border).any():
        return None
    slack = tolerance_mm / min(stack.pixel_spacing_mm)
    if (least < -BORDER_SLACK_PIXELS - slack).any() or (most > border + slack).any():
        if settings.outside == "refuse":
            raise MaskError("mask_exceeds_volume", "a contour runs past the image")
        warnings.add("mask_cropped")
    pixels = np.round(contour.pixels - first, INDEX_DECIMALS)
    return _Placed(pixels, contour.is_xor, offset, k, away)

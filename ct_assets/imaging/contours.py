"""Closed outlines of one plane as pixels: the fill of one outline, and what several of them mean together.

Belongs here: geometry in pixel coordinates (column i, row j; pixel centres at integers). Does not: which
plane an outline lies on, and in which structure set (`imaging.rtstruct`).

A pixel belongs to an outline where its centre lies inside by the even-odd rule, so that a keyhole closes upon
itself. A centre exactly on an outline belongs to the side of growing indices: touching regions share no pixel.

Several CLOSED_PLANAR outlines of one ROI: one inside another is a hole, one inside a hole is an island; outlines
that overlap in part are joined; an outline that stands twice (other first point, other direction, rounded
otherwise) counts once. Only CLOSEDPLANAR_XOR outlines are combined by exclusive or (PS3.3 C.8.8.6.3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

INDEX_DECIMALS = 6
"""Pixel coordinates are rounded to a millionth, so that float noise decides no pixel on an outline."""
SAME_OUTLINE_PIXELS = 0.5
"""Outlines that are nowhere farther apart are one: no ring that thin could be drawn in pixels."""
SPILL_SHARE = 0.1
"""An inner outline may run past the outer one by so much of its pixels, and by one pixel at most."""
_DISTANCES_AT_ONCE = 2_000_000

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels of a plane: `mask` (rows, columns) lies at row `top`, column `left`."""

    top: int
    left: int
    mask: Bools
    crosses_itself: bool = False
    """Whether the outline goes around some of the pixels twice, or around some the other way than around others."""

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))

    def flat(self, columns: int) -> npt.NDArray[np.int64]:
        """Return the pixels as indices into a plane of so many columns."""
        j, i = np.nonzero(self.mask)
        return (j + self.top) * columns + (i + self.left)

    def on(self, top: int, left: int, height: int, width: int) -> Bools:
        """Return the pixels in a window of the plane; what lies outside it is cut."""
        window = np.zeros((height, width), dtype=np.bool_)
        j0, i0 = max(self.top, top), max(self.left, left)
        j1 = min(self.top + self.mask.shape[0], top + height)
        i1 = min(self.left + self.mask.shape[1], left + width)
        if j0 < j1 and i0 < i1:
            window[j0 - top : j1 - top, i0 - left : i1 - left] = self.mask[
                j0 - self.top : j1 - self.top, i0 - self.left : i1 - self.left
            ]
        return window


def fill(polygon: Floats, rows: int, columns: int) -> Region:
    """Return the pixels of a plane (rows, columns) whose centres lie inside `polygon`, an (n, 2) array.

    Every row's winding number changes at each crossing of its centre line, so the fill is exact; odd numbers are
    inside. The polygon is closed by its first point.
    """
    x, y = np.ascontiguousarray(polygon[:, 0]), np.ascontiguousarray(polygon[:, 1])
    left, right = _limits(x, columns)
    top, bottom = _limits(y, rows)
    height, width = bottom - top, right - left
    if not height or not width:
        return Region(top, left, np.zeros((height, width), dtype=np.bool_))
    x_next, y_next = np.concatenate((x[1:], x[:1])), np.concatenate((y[1:], y[:1]))
    # Half-open: a point belongs to one edge. Most edges cross no row's centre line.
    line = np.minimum(np.maximum(np.ceil(y), top), bottom)
    line_next = np.concatenate((line[1:], line[:1]))
    crossed = np.flatnonzero(line != line_next)
    x, y, x_next, y_next = x[crossed], y[crossed], x_next[crossed], y_next[crossed]
    is_down = y <= y_next
    upper, lower = np.where(is_down, y, y_next), np.where(is_down, y_next, y)
    start = np.where(is_down, x, x_next)
    slope = (np.where(is_down, x_next, x) - start) / (lower - upper)
    first = np.minimum(line[crossed], line_next[crossed]).astype(np.int64)
    counts = np.abs(line_next[crossed] - line[crossed]).astype(np.int64)
    edge = np.repeat(np.arange(len(crossed)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    crossing = np.round(start[edge] + slope[edge] * (row - upper[edge]), INDEX_DECIMALS)
    column = np.minimum(np.maximum(np.ceil(crossing), left), right).astype(np.int64)
    turns = np.bincount(
        (row - top) * (width + 1) + (column - left),
        weights=np.where(is_down, 1, -1)[edge],
        minlength=height * (width + 1),
    ).reshape(height, width + 1)
    winding = np.cumsum(turns, axis=1)[:, :width].astype(np.int64)
    crosses_itself = bool(winding.max() - winding.min() > 1)
    return Region(top, left, (winding & 1).astype(np.bool_), crosses_itself)


def _limits(values: Floats, size: int) -> tuple[int, int]:
    """Return the first pixel from the least value on, and the first from the greatest on, within the plane."""
    first = min(max(math.ceil(values.min()), 0), size)
    return first, min(max(math.ceil(values.max()), first), size)


def combine(outlines: Sequence[tuple[Floats, bool]], rows: int, columns: int) -> tuple[Region, set[str]]:
    """Return the pixels that an ROI's outlines on one plane enclose, and warnings.

    `outlines` are polygons (n, 2) and whether each is a CLOSEDPLANAR_XOR.
    """
    warnings: set[str] = set()
    distinct = _without_repeats(outlines, warnings)
    regions = [(fill(polygon, rows, columns), is_xor) for polygon, is_xor in distinct]
    areas = [region.area for region, _ in regions]
    if any(region.crosses_itself for region, _ in regions):
        warnings.add("contour_crosses_itself")
    if not all(areas):
        warnings.add("contours_without_pixels")
    holding = [one for one, area in zip(regions, areas, strict=True) if area]
    if not holding:
        return Region(0, 0, np.zeros((0, 0), dtype=np.bool_)), warnings
    if len(holding) == 1:
        return holding[0][0], warnings
    top, left = (min(getattr(region, side) for region, _ in holding) for side in ("top", "left"))
    bottom = max(region.top + region.mask.shape[0] for region, _ in holding)
    right = max(region.left + region.mask.shape[1] for region, _ in holding)
    joined = np.zeros((bottom - top, right - left), dtype=np.bool_)
    for region, depth in _by_depth([region for region, is_xor in holding if not is_xor], warnings):
        window = _window(joined, region, top, left)
        if depth % 2:
            window &= ~region.mask
        else:
            window |= region.mask
    for region, is_xor in holding:
        if is_xor:
            window = _window(joined, region, top, left)
            window ^= region.mask
    return Region(top, left, joined), warnings


def _window(plane: Bools, region: Region, top: int, left: int) -> Bools:
    j, i = region.top - top, region.left - left
    return plane[j : j + region.mask.shape[0], i : i + region.mask.shape[1]]


def _by_depth(regions: list[Region], warnings: set[str]) -> list[tuple[Region, int]]:
    """Return the regions with how many others hold each in a chain, outer ones first."""
    regions = sorted(regions, key=lambda region: -region.area)
    depths: list[int] = []
    placed: list[Region] = []
    for region in regions:
        depth = 0
        is_repeat = False
        for larger, its_depth in zip(placed, depths, strict=True):
            relation = _relation(region, larger)
            if relation == "same":
                is_repeat = True
                break
            if relation == "inside":
                depth = max(depth, its_depth + 1)
            elif relation == "overlaps":
                warnings.add("contours_overlap")
        if is_repeat:
            warnings.add("contours_repeated")
            continue
        placed.append(region)
        depths.append(depth)
    return sorted(zip(placed, depths, strict=True), key=lambda pair: pair[1])


def _relation(small: Region, large: Region) -> str:
    """Tell how a region lies to one that is not smaller: same, inside, overlaps, apart."""
    height, width = small.mask.shape
    if (
        small.top >= large.top + large.mask.shape[0]
        or large.top >= small.top + height
        or small.left >= large.left + large.mask.shape[1]
        or large.left >= small.left + width
    ):
        return "apart"
    there = large.on(small.top - 1, small.left - 1, height + 2, width + 2)
    common = int(np.count_nonzero(small.mask & there[1:-1, 1:-1]))
    if not common:
        return "apart"
    area = small.area
    if common == area:
        return "same" if area == large.area else "inside"
    if area - common <= SPILL_SHARE * area:
        near = there[1:-1, 1:-1] | there[:-2, 1:-1] | there[2:, 1:-1] | there[1:-1, :-2] | there[1:-1, 2:]
        if not (small.mask & ~near).any():
            return "inside"
    return "overlaps"


def _without_repeats(
    outlines: Sequence[tuple[Floats, bool]], warnings: set[str]
) -> Sequence[tuple[Floats, bool]]:
    """Leave out outlines that repeat another one, which would otherwise erase each other."""
    if len(outlines) == 1:
        return outlines
    boxes = np.array([[*polygon.min(axis=0), *polygon.max(axis=0)] for polygon, _ in outlines])
    kept: list[int] = []
    for at, (polygon, is_xor) in enumerate(outlines):
        near = np.abs(boxes[kept] - boxes[at]).max(axis=1) <= SAME_OUTLINE_PIXELS if kept else []
        alike = [kept[k] for k in np.flatnonzero(near)]
        if any(outlines[k][1] == is_xor and _are_same(polygon, outlines[k][0]) for k in alike):
            warnings.add("contours_repeated")
        else:
            kept.append(at)
    return [outlines[at] for at in kept]


def _are_same(one: Floats, other: Floats) -> bool:
    return _is_along(one, other) and _is_along(other, one)


def _is_along(points: Floats, polygon: Floats) -> bool:
    """Tell whether no point is farther from the outline than two outlines may be that are one."""
    start, way = polygon, np.roll(polygon, -1, axis=0) - polygon
    length = np.maximum((way**2).sum(axis=1), 1e-12)
    size = max(_DISTANCES_AT_ONCE // len(polygon), 1)
    for first in range(0, len(points), size):
        relative = points[first : first + size, np.newaxis] - start
        along = np.clip((relative * way).sum(axis=2) / length, 0, 1)
        apart = relative - along[..., np.newaxis] * way
        if ((apart**2).sum(axis=2).min(axis=1) > SAME_OUTLINE_PIXELS**2).any():
            return False
    return True

"""Peaks of a heat map, and which of several near each other remain.

Belongs here: local maxima, and suppression of points and boxes by a better neighbour. Does not: what a peak becomes
(`findings`). Positions are indices (k, j, i) or millimetres, as each function says; boxes are half-open.
"""

from itertools import product

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NEIGHBOURS = np.array([step for step in product((-1, 0, 1), repeat=3) if step != (0, 0, 0)])


def local_maxima(heat: npt.NDArray[np.floating], threshold: float) -> tuple[Floats, Floats]:
    """Return the positions (peaks, 3) as (k, j, i) and heights of the local maxima of at least `threshold`.

    A maximum is a voxel, or a connected plateau of equal voxels, that none of its 26 neighbours exceeds; a plateau is
    one peak at its centroid. Sorted by falling height, then by place. NaN is no peak. Time follows the voxels above the
    threshold.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    shape = np.array(heat.shape)
    flat = np.flatnonzero(heat >= threshold)
    if not len(flat):
        return np.empty((0, 3)), np.empty(0)
    places = np.stack(np.unravel_index(flat, heat.shape), axis=1)
    values = heat.reshape(-1)[flat]
    is_top = np.ones(len(flat), dtype=bool)
    pairs: list[tuple[Integers, Integers]] = []
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    for step in NEIGHBOURS:
        at = places + step
        inside = np.flatnonzero(((at >= 0) & (at < shape)).all(axis=1))
        other = flat[inside] + int(step @ strides)
        beside = heat.reshape(-1)[other]
        is_top[inside[beside > values[inside]]] = False
        equal = beside == values[inside]
        pairs.append((inside[equal], np.searchsorted(flat, other[equal])))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    touching = is_top[first] | is_top[second]
    first, second = first[touching], second[touching]
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(len(flat), len(flat)))
    count, plateau = connected_components(graph, directed=False)
    whole = np.ones(count, dtype=bool)
    whole[plateau[~is_top]] = False
    members = np.flatnonzero(whole[plateau])
    names, of_peak = np.unique(plateau[members], return_inverse=True)
    size = np.bincount(of_peak, minlength=len(names))
    centre = np.stack(
        [np.bincount(of_peak, places[members, axis], minlength=len(names)) / size for axis in range(3)],
        axis=1,
    )
    height = np.full(len(names), -np.inf)
    np.maximum.at(height, of_peak, values[members])
    order = np.lexsort((centre[:, 2], centre[:, 1], centre[:, 0], -height))
    return centre[order], height[order]


def suppress_points(points_mm: Floats, scores: Floats, radius_mm: float) -> Integers:
    """Return the rows that remain, by falling score, when each takes out the weaker ones nearer than `radius_mm`."""
    from scipy.spatial import KDTree

    order = np.argsort(-np.asarray(scores), kind="stable")
    if not len(order) or radius_mm <= 0:
        return order
    near = KDTree(points_mm).query_ball_point(points_mm, np.nextafter(radius_mm, 0))
    remains = np.ones(len(order), dtype=bool)
    decided = np.zeros(len(order), dtype=bool)
    for row in order:
        decided[row] = True
        if remains[row]:
            others = np.asarray(near[row])
            remains[others[~decided[others]]] = False
    return order[remains[order]]


def suppress_boxes(boxes: Floats, scores: Floats, iou: float) -> Integers:
    """Return the rows that remain, by falling score, when each takes out the weaker ones that overlap more than `iou`.

    `boxes` is (rows, 6): the three lower corners, then the three upper ones.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    lower, upper = np.asarray(boxes, dtype=np.float64)[order].reshape(-1, 2, 3).transpose(1, 0, 2)
    volume = np.prod(np.maximum(upper - lower, 0), axis=1)
    remains = np.ones(len(order), dtype=bool)
    # Only boxes that reach a box along the first axis can overlap it.
    for row in range(len(order)):
        if not remains[row]:
            continue
        later = (
            row
            + 1
            + np.flatnonzero(
                remains[row + 1 :]
                & (lower[row + 1 :, 0] < upper[row, 0])
                & (upper[row + 1 :, 0] > lower[row, 0])
            )
        )
        common = np.minimum(upper[row], upper[later]) - np.maximum(lower[row], lower[later])
        shared = np.prod(np.maximum(common, 0), axis=1)
        union = volume[row] + volume[later] - shared
        remains[later[shared > iou * union]] = False
    return order[remains]


def overlap(first: Floats, second: Floats) -> float:
    """Return the intersection over union of two boxes."""
    low, high = np.maximum(first[:3], second[:3]), np.minimum(first[3:], second[3:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    total = float(np.prod(first[3:] - first[:3]) + np.prod(second[3:] - second[:3])) - shared
    return shared / total if total > 0 else 0.0

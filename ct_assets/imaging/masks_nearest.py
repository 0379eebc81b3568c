"""SEG frames on another grid than the CT's, taken to the nearest voxel.

Belongs here: resampling segment frames that are finer, coarser, shifted or oblique against the slices, done
only where a setting asks for it. Does not: frames that coincide with the slices (`imaging.masks`).
"""

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from ct_assets.dicom.seg import MaskError, SegFrame, Segmentation
from ct_assets.imaging.stack import SliceStack

FlatIndices = npt.NDArray[np.int64]
SAME_PLANE_MM = 0.01


def resample(
    seg: Segmentation, stack: SliceStack, threshold_share: float
) -> tuple[dict[int, list[FlatIndices]], int]:
    """Return each segment's voxels as flat indices into the stack, and how many SEG voxels lie outside it.

    Every CT voxel takes the SEG pixel nearest to its centre; along the frames' normal a frame reaches half
    way to where its neighbour would be. Each segment goes by its own frames: others may lie on other planes,
    or be finer. `threshold_share` is that of `Segmentation.lit`. Raises `MaskError` where the frames of a
    segment are not parallel or say no position or distance.
    """
    lit: dict[int, list[tuple[SegFrame, FlatIndices]]] = defaultdict(list)
    for frame, number, positions in seg.lit(threshold_share):
        lit[number].append((frame, positions))
    frames_of: dict[int | None, list[SegFrame]] = defaultdict(list)
    for frame in seg.frames:
        frames_of[frame.segment].append(frame)
    steps = {number: _step(frames) for number, frames in frames_of.items()}
    least = min((step for step in steps.values() if step), default=None)
    pieces: dict[int, list[FlatIndices]] = {}
    outside = 0
    for number, content in sorted(lit.items()):
        told = seg.plane_spacing_mm or least or seg.slice_thickness_mm
        if not told:
            raise MaskError("mask_grid_differs", "nothing tells how far the mask's frames are apart")
        own = steps[None if None in steps else number]
        reach = min(told, own or told) / 2
        pieces[number], beyond = _resample_segment(seg, stack, content, reach)
        outside += beyond
    return {number: several for number, several in pieces.items() if several}, outside


def _resample_segment(
    seg: Segmentation, stack: SliceStack, content: list[tuple[SegFrame, FlatIndices]], reach_mm: float
) -> tuple[list[FlatIndices], int]:
    first = content[0][0]
    along_row, along_column = np.asarray(first.orientation[:3]), np.asarray(first.orientation[3:])
    normal = np.cross(along_row, along_column)
    content = sorted(content, key=lambda pair: float(np.dot(pair[0].position_mm or (0, 0, 0), normal)))
    origins = np.array([frame.position_mm for frame, _ in content])
    heights = origins @ normal
    cube = np.zeros((len(content), seg.form.rows, seg.form.columns), dtype=np.bool_)
    for plane, (_, positions) in enumerate(content):
        cube[plane].reshape(-1)[positions] = True
    axes = np.stack([along_row / first.pixel_spacing_mm[1], along_column / first.pixel_spacing_mm[0]])
    pieces = []
    corners = stack.corners() @ normal
    for k in range(stack.shape[0]):
        if (
            corners[k].max() < heights[0] - reach_mm - 1e-6
            or corners[k].min() > heights[-1] + reach_mm + 1e-6
        ):
            continue
        values = _slice_values(stack, k, cube, heights, origins, axes, normal, reach_mm)
        if (found := np.flatnonzero(values)).size:
            pieces.append(found + k * stack.rows * stack.columns)
    return pieces, _count_outside(cube, origins, first, stack)


def _step(frames: list[SegFrame]) -> float | None:
    """Return the least distance between the planes of one segment's frames; None for a single plane.

    Raises `MaskError` where the frames are not parallel, or do not tell their place.
    """
    first = frames[0]
    for frame in frames:
        if frame.position_mm is None or len(frame.orientation) != 6 or min(frame.pixel_spacing_mm) <= 0:
            raise MaskError("mask_position_missing", "a frame has no position, orientation or spacing")
        apart = np.abs(np.subtract(frame.orientation, first.orientation)).max()
        if apart > 1e-4 or frame.pixel_spacing_mm != first.pixel_spacing_mm:
            raise MaskError("mask_grid_differs", "the frames of a segment are not parallel")
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    planes = np.array([frame.position_mm for frame in frames]) @ normal
    steps = np.diff(np.unique(np.round(planes / SAME_PLANE_MM) * SAME_PLANE_MM))
    return float(steps.min()) if steps.size else None


def _slice_values(
    stack: SliceStack,
    k: int,
    cube: npt.NDArray,
    heights: npt.NDArray,
    origins: npt.NDArray,
    axes: npt.NDArray,
    normal: npt.NDArray,
    reach_mm: float,
) -> npt.NDArray[np.bool_]:
    """Return whether the SEG pixels nearest to those of slice `k` are lit, flat."""
    j, i = np.mgrid[: stack.rows, : stack.columns].reshape(2, -1).astype(np.float64)
    world = stack.positions_mm[k] + np.stack([i, j], axis=1) @ stack.steps_mm.T
    height = world @ normal
    upper = np.clip(np.searchsorted(heights, height), 1, max(len(heights) - 1, 1))
    lower = upper - 1
    upper = np.minimum(upper, len(heights) - 1)
    plane = np.where(np.abs(heights[upper] - height) < np.abs(heights[lower] - height), upper, lower)
    near = np.abs(heights[plane] - height) <= reach_mm + 1e-6
    pixel = np.einsum("ad,nd->na", axes, world - origins[plane])
    column, row = np.rint(pixel).astype(int).T
    rows, columns = cube.shape[1:]
    near &= (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    values = np.zeros(len(world), dtype=np.bool_)
    values[near] = cube[plane[near], row[near], column[near]]
    return values


def _count_outside(cube: npt.NDArray, origins: npt.NDArray, frame: SegFrame, stack: SliceStack) -> int:
    """Count mask voxels whose centre lies beyond the outer faces of the image."""
    plane, row, column = np.nonzero(cube)
    steps = np.stack(
        [
            np.asarray(frame.orientation[:3]) * frame.pixel_spacing_mm[1],
            np.asarray(frame.orientation[3:]) * frame.pixel_spacing_mm[0],
        ]
    )
    world = origins[plane] + column[:, np.newaxis] * steps[0] + row[:, np.newaxis] * steps[1]
    relative = world - stack.positions_mm[0]
    offsets = stack.offsets_mm
    along = relative @ stack.normal
    half = float(np.median(np.diff(offsets))) / 2 if len(offsets) > 1 else 0.5
    if len(offsets) > 1:
        relative = relative - np.outer(along / offsets[-1], stack.positions_mm[-1] - stack.positions_mm[0])
    else:
        relative = relative - np.outer(along, stack.normal)
    pixel = relative @ stack.to_pixels.T
    inside = (along >= offsets[0] - half) & (along <= offsets[-1] + half)
    inside &= (pixel >= -0.5).all(axis=1)
    inside &= (pixel[:, 0] <= stack.columns - 0.5) & (pixel[:, 1] <= stack.rows - 0.5)
    return int((~inside).sum())

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
    seg: Segmentation, stack: SliceStack, threshold: float | None
) -> tuple[dict[int, list[FlatIndices]], int]:
    """Return each segment's voxels as flat indices into the stack, and how many SEG voxels lie outside it.

    Every CT voxel takes the SEG pixel nearest to its centre; along the frames' normal a frame reaches half
    way to where its neighbour would be. `threshold` is the least value of a FRACTIONAL pixel that counts.
    Raises `MaskError` where the frames are not parallel or say no position.
    """
    first = seg.frames[0]
    for frame in seg.frames:
        if frame.position_mm is None or len(frame.orientation) != 6 or min(frame.pixel_spacing_mm) <= 0:
            raise MaskError("mask_position_missing", "a frame has no position, orientation or spacing")
        apart = np.abs(np.subtract(frame.orientation, first.orientation)).max()
        if apart > 1e-4 or frame.pixel_spacing_mm != first.pixel_spacing_mm:
            raise MaskError("mask_grid_differs", "the mask's frames are not parallel")
    along_row, along_column = np.asarray(first.orientation[:3]), np.asarray(first.orientation[3:])
    normal = np.cross(along_row, along_column)
    planes = np.array([frame.position_mm or (np.nan,) * 3 for frame in seg.frames]) @ normal
    thickness = _thickness(seg, planes)

    by_segment: dict[int | None, list[SegFrame]] = defaultdict(list)
    for frame in seg.frames:
        by_segment[frame.segment].append(frame)
    pieces: dict[int, list[FlatIndices]] = defaultdict(list)
    outside = 0
    axes = np.stack([along_row / first.pixel_spacing_mm[1], along_column / first.pixel_spacing_mm[0]])
    for segment, frames in by_segment.items():
        volume = dict(seg.pixels([frame.index for frame in frames]))
        order = sorted(frames, key=lambda frame: planes[frame.index])
        heights = np.array([planes[frame.index] for frame in order])
        cube = np.stack([volume[frame.index] for frame in order])
        if threshold is not None:
            cube = (cube >= threshold).astype(np.uint8)
        origins = np.array([frame.position_mm for frame in order])
        outside += _count_outside(cube, origins, first, stack)
        for k in range(stack.shape[0]):
            values = _slice_values(stack, k, cube, heights, origins, axes, normal, thickness)
            for value in np.unique(values):
                if value:
                    number = int(value) if segment is None else segment
                    pieces[number].append(np.flatnonzero(values == value) + k * stack.rows * stack.columns)
    return pieces, outside


def _thickness(seg: Segmentation, planes: npt.NDArray) -> float:
    """Return the frames' step: the least distance between their planes, else what the header says."""
    steps = np.diff(np.unique(np.round(planes / SAME_PLANE_MM) * SAME_PLANE_MM))
    if steps.size:
        return float(steps.min())
    return seg.slice_thickness_mm or 1.0


def _slice_values(
    stack: SliceStack,
    k: int,
    cube: npt.NDArray,
    heights: npt.NDArray,
    origins: npt.NDArray,
    axes: npt.NDArray,
    normal: npt.NDArray,
    thickness: float,
) -> npt.NDArray:
    """Return the SEG values nearest to the pixels of slice `k`, flat; 0 where there is none."""
    j, i = np.mgrid[: stack.rows, : stack.columns].reshape(2, -1).astype(np.float64)
    world = stack.positions_mm[k] + np.stack([i, j], axis=1) @ stack.steps_mm.T
    height = world @ normal
    upper = np.clip(np.searchsorted(heights, height), 1, max(len(heights) - 1, 1))
    lower = upper - 1
    upper = np.minimum(upper, len(heights) - 1)
    plane = np.where(np.abs(heights[upper] - height) < np.abs(heights[lower] - height), upper, lower)
    near = np.abs(heights[plane] - height) <= thickness / 2 + 1e-6
    pixel = np.einsum("ad,nd->na", axes, world - origins[plane])
    column, row = np.rint(pixel).astype(int).T
    rows, columns = cube.shape[1:]
    near &= (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    values = np.zeros(len(world), dtype=cube.dtype)
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

"""Resampling: a volume onto another grid, an image in HU or a map of labels.

Belongs here: canonical orientation, target grids, interpolation of images and of labels. Does not: what
spacing to choose (`learning.volumes.plan`), moving images by a transform (`imaging.transform`).

Where a volume gets coarser along an axis every output voxel is the exact mean over its own extent, so that
nothing is skipped and the mean stays; where it gets finer, interpolation is nearest, linear or cubic (Keys,
IEEE ASSP 29, 1981, a = -0.5), and a cubic value is held within the range of the samples it rests on, so that
there is no overshoot at an edge. Voxels whose centre lies outside the source take the value for outside: air.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Floats, Grid, Volume

Order = Literal[0, 1, 3]
Floats32 = npt.NDArray[np.float32]

AIR_HU = -1000
SAME = 1e-4
"""Differences below this part of a voxel over the whole volume are no difference."""
NEAR = 1e-3
"""Spacings that differ by less than this part are not worth resampling: the volume keeps its own."""
COARSER = 0.05
"""A turned grid whose voxels are longer than the source's by more than this share is sampled from means."""
SLICES_AT_ONCE = 16
"""Of a turned grid: memory follows a slab, not the volume."""
HALF = 0.5
TIE = 1e-5
"""Shares of a voxel that differ by less are equal."""


def oriented(volume: Volume) -> Volume:
    """Return the same voxels with axes i, j, k closest to left, back, head (LPS); nothing is interpolated."""
    order, flips = orientation(volume.grid)
    array = volume.array.transpose(*(2 - order[2 - axis] for axis in range(3)))
    shape = array.shape
    step = np.eye(4)
    affine = volume.grid.affine_lps.copy()
    affine[:3, :3] = affine[:3, order]
    for axis, flip in enumerate(flips):
        if flip:
            step[axis, axis] = -1
            step[axis, 3] = shape[2 - axis] - 1
            array = np.flip(array, 2 - axis)
    return Volume(array, Grid(array.shape, affine @ step))


def orientation(grid: Grid) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return which index axis runs closest to x, y and z, and whether each runs against it."""
    best = max(_PERMUTATIONS, key=lambda order: sum(abs(grid.direction[row, order[row]]) for row in range(3)))
    flips = tuple(bool(grid.direction[row, best[row]] < 0) for row in range(3))
    return best, flips  # type: ignore[return-value]


def axes_name(grid: Grid) -> str:
    """Return where axes i, j, k run to (L or R, P or A, S or I), as in `LPS`."""
    order, flips = orientation(grid)
    letters = ["", "", ""]
    for world, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        letters[axis] = ("RAI" if flip else "LPS")[world]
    return "".join(letters)


def grid_at(grid: Grid, spacing_mm: tuple[float, float, float]) -> Grid:
    """Return the grid of this spacing (x, y, z) that covers the same extent, centred on it.

    An axis whose spacing is within a thousandth of the wanted one keeps its own, so nothing is interpolated there.
    The number of voxels is rounded up, so the new extent is never smaller and every centre lies within.
    """
    old = np.asarray(grid.spacing_mm)
    new = np.where(np.abs(np.asarray(spacing_mm) / old - 1) < NEAR, old, spacing_mm)
    sizes = np.array(grid.shape[::-1])
    count = np.maximum(1, np.ceil(sizes * old / new - 1e-3)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = grid.direction * new
    first = (sizes - 1) / 2 * old - (count - 1) / 2 * new
    affine[:3, 3] = grid.affine_lps[:3, 3] + grid.direction @ first
    return Grid((int(count[2]), int(count[1]), int(count[0])), affine)


def resample(
    volume: Volume,
    spacing_mm: tuple[float, float, float],
    order: Order = 1,
    outside: float = AIR_HU,
) -> Volume:
    """Resample an image to a spacing (x, y, z) over the same extent; the type of its voxels is kept."""
    return onto(volume, grid_at(volume.grid, spacing_mm), order, outside)


def resample_labels(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    """Resample a label map to a spacing (x, y, z) over the same extent."""
    return labels_onto(volume, grid_at(volume.grid, spacing_mm))


def onto(volume: Volume, grid: Grid, order: Order = 1, outside: float = AIR_HU) -> Volume:
    """Resample an image onto a grid; integers are rounded to nearest, and stay in the range of the source.

    Axes may be swapped or flipped against the source's. A grid that is turned or sheared against the source
    is sampled point by point (linear or nearest), from means over its voxels' size where it is coarser.
    """
    array, matrix, offset = _aligned(volume, grid)
    if matrix is None:
        return _oblique(volume, grid, order, outside)
    taps = [_taps(grid.shape[a], array.shape[a], matrix[2 - a], offset[2 - a], order) for a in range(3)]
    out = np.empty(grid.shape, dtype=array.dtype)
    rounds = np.issubdtype(array.dtype, np.integer)
    if rounds and all(axis.is_identity for axis in taps):
        return Volume(np.ascontiguousarray(array), grid)
    for k, plane in enumerate(_planes(array, taps)):
        out[k] = np.rint(plane) if rounds else plane
    for axis, tap in enumerate(taps):
        out[(slice(None),) * axis + (tap.is_outside,)] = outside
    return Volume(out, grid)


def labels_onto(volume: Volume, grid: Grid) -> Volume:
    """Resample a label map onto a grid: each voxel takes the label that fills most of it, or none.

    No label is invented between two others, and none is lost: a connected part (26 neighbours) that is too
    small to fill half of any voxel keeps as many of the voxels it fills most as its volume asks for, at least
    one, as long as its centre lies on the grid.
    """
    array, matrix, offset = _aligned(volume, grid)
    out = np.zeros(grid.shape, dtype=array.dtype)
    filled = filled_box(array)
    if filled is None:
        return Volume(out, grid)
    if matrix is None:
        return Volume(_oblique_labels(volume, grid), grid)
    window = _window(filled, array.shape, grid.shape, matrix, offset)
    if window is None:
        return Volume(out, grid)
    region, source, moved = window
    part = array[source]
    target = out[region]
    most = np.zeros(target.shape, dtype=np.float32)
    covered = np.zeros(target.shape, dtype=np.float32)
    for label in _labels(part):
        share = _share(part == label, target.shape, matrix, moved)
        covered += share
        better = share > most
        target[better] = label
        most[better] = share[better]
    empty = 1 - covered
    target[most < empty - TIE] = 0
    _settle_ties(target, most, empty)
    _keep_small_parts(part, target, matrix, moved)
    return Volume(out, grid)


def _settle_ties(target: npt.NDArray[Any], most: Floats32, empty: Floats32) -> None:
    """Give voxels that are exactly half filled to the label only where it lies ahead along the axes.

    So one of two opposite faces takes them and the other does not, and volumes stay; ties are common where the
    spacing doubles.
    """
    ties = np.argwhere((np.abs(most - empty) <= TIE) & (most > 0))
    if not len(ties):
        return
    last = np.array(most.shape) - 1
    ahead = np.zeros(len(ties))
    for axis in range(3):
        step = np.eye(3, dtype=np.int64)[axis]
        ahead += most[tuple(np.minimum(ties + step, last).T)] - most[tuple(np.maximum(ties - step, 0).T)]
    target[tuple(ties[ahead < 0].T)] = 0


def _keep_small_parts(
    part: npt.NDArray[Any], target: npt.NDArray[Any], matrix: Floats, offset: Floats
) -> None:
    from scipy import ndimage

    volume_ratio = float(np.prod(matrix))
    for label in _labels(part):
        numbered, _ = ndimage.label(part == label, structure=np.ones((3, 3, 3)))
        for number, box in enumerate(ndimage.find_objects(numbered), start=1):
            window = _window(box, part.shape, target.shape, matrix, offset)
            if window is None:
                continue
            region, source, moved = window
            share = _share(numbered[source] == number, target[region].shape, matrix, moved)
            if ((target[region] == label) & (share > 0)).any() or share.max() == 0:
                continue
            count = max(1, round(np.count_nonzero(numbered[box] == number) / volume_ratio))
            order = np.argsort(-share, axis=None, kind="stable")[:count]
            chosen = order[share.ravel()[order] > 0]
            view = target[region]
            view[np.unravel_index(chosen, share.shape)] = label


@dataclass(frozen=True)
class _Taps:
    """Along one axis: the samples that each output index rests on, and their weights."""

    index: npt.NDArray[np.int64]  # (outputs, taps)
    weight: Floats32  # (outputs, taps)
    is_outside: npt.NDArray[np.bool_]  # (outputs,)
    is_bounded: bool
    """Whether the result must be held within the range of the samples."""
    is_identity: bool


def _taps(outputs: int, inputs: int, step: float, start: float, order: Order) -> _Taps:
    """Return the weights along one axis; output index o lies at input index step * o + start."""
    centre = step * np.arange(outputs) + start
    is_outside = (centre < -HALF - 1e-6) | (centre > inputs - HALF + 1e-6)
    nearest = np.rint(centre)
    if abs(step - 1) * outputs < SAME * 10 and np.abs(centre - nearest).max() < SAME * 10:
        order, step = 0, 1.0
    if step > 1 + 1e-9 and order != 0:
        low, high = centre - step / 2, centre + step / 2
        first = np.floor(low + HALF).astype(np.int64)
        index = first[:, None] + np.arange(int(np.ceil(step)) + 1)
        weight = np.minimum(high[:, None], index + HALF) - np.maximum(low[:, None], index - HALF)
        weight = np.where((index < 0) | (index >= inputs), 0, np.maximum(weight, 0))
    elif order == 0:
        index = nearest.astype(np.int64)[:, None]
        weight = np.ones((outputs, 1))
    else:
        below = np.floor(centre).astype(np.int64)
        fraction = centre - below
        if order == 1:
            index = below[:, None] + np.arange(2)
            weight = np.stack([1 - fraction, fraction], axis=1)
        else:
            index = below[:, None] + np.arange(-1, 3)
            weight = _cubic(np.abs(centre[:, None] - index))
    index = np.clip(index, 0, inputs - 1)
    total = weight.sum(axis=1, keepdims=True)
    weight = weight / np.where(total > 0, total, 1)
    is_identity = index.shape[1] == 1 and outputs == inputs and bool((index[:, 0] == np.arange(inputs)).all())
    return _Taps(index, weight.astype(np.float32), is_outside, bool((weight < 0).any()), is_identity)


def _cubic(distance: Floats) -> Floats:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _planes(array: npt.NDArray[Any], taps: list[_Taps]) -> Iterator[Floats32]:
    """Yield the output slice by slice; each input slice is resampled in its plane once, when first needed."""
    along_k, along_j, along_i = taps
    ready: dict[int, Floats32] = {}
    for index, weight in zip(along_k.index, along_k.weight, strict=True):
        needed = [int(k) for k in index]
        for gone in [k for k in ready if k < min(needed)]:
            del ready[gone]
        for k in needed:
            if k not in ready:
                ready[k] = _in_plane(array[k], along_j, along_i)
        result = ready[needed[0]] * weight[0]
        for k, share in zip(needed[1:], weight[1:], strict=True):
            if share:
                result += ready[k] * share
        if along_k.is_bounded:
            low, high = ready[needed[0]], ready[needed[0]]
            for k in needed[1:]:
                low, high = np.minimum(low, ready[k]), np.maximum(high, ready[k])
            np.clip(result, low, high, out=result)
        yield result


def _in_plane(plane: npt.NDArray[Any], along_j: _Taps, along_i: _Taps) -> Floats32:
    values = np.ascontiguousarray(plane, dtype=np.float32)
    if not along_j.is_identity:
        values = _along_rows(values, along_j)
    if not along_i.is_identity:
        values = np.ascontiguousarray(_along_rows(np.ascontiguousarray(values.T), along_i).T)
    return values


def _along_rows(values: Floats32, taps: _Taps) -> Floats32:
    result = values[taps.index[:, 0]]
    low, high = (result.copy(), result.copy()) if taps.is_bounded else (None, None)
    result *= taps.weight[:, :1]
    for tap in range(1, taps.index.shape[1]):
        sample = values[taps.index[:, tap]]
        if low is not None and high is not None:
            np.minimum(low, sample, out=low)
            np.maximum(high, sample, out=high)
        sample *= taps.weight[:, tap : tap + 1]
        result += sample
    if low is not None and high is not None:
        np.clip(result, low, high, out=result)
    return result


_PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def _aligned(volume: Volume, grid: Grid) -> tuple[npt.NDArray[Any], Floats | None, Floats]:
    """Return the array with axes swapped and flipped to run along `grid`'s, and index maps per axis (i, j, k).

    Output index o lies at input index matrix * o + offset; the matrix is None where the axes are not parallel.
    """
    between = np.linalg.inv(volume.grid.affine_lps) @ grid.affine_lps
    turn, offset = between[:3, :3], between[:3, 3]
    reach = np.array(grid.shape[::-1])
    order = tuple(int(np.abs(turn[:, column]).argmax()) for column in range(3))
    rest = turn.copy()
    rest[list(order), range(3)] = 0
    if sorted(order) != [0, 1, 2] or (np.abs(rest) @ reach).max() > 1e-2:
        return volume.array, None, offset
    array = volume.array.transpose(*(2 - order[2 - axis] for axis in range(3)))
    scale = np.array([turn[order[axis], axis] for axis in range(3)])
    start = np.array([offset[order[axis]] for axis in range(3)])
    for axis in range(3):
        if scale[axis] < 0:
            array = np.flip(array, 2 - axis)
            scale[axis] = -scale[axis]
            start[axis] = array.shape[2 - axis] - 1 - start[axis]
    return array, scale, start


def _labels(array: npt.NDArray[Any]) -> list[int]:
    return [int(label) for label in np.unique(array) if label != 0]


def filled_box(array: npt.NDArray[Any]) -> tuple[slice, slice, slice] | None:
    """Return the smallest box (k, j, i) that holds every voxel that is not 0."""
    planes = np.fromiter((plane.any() for plane in array), dtype=bool, count=array.shape[0])
    if not planes.any():
        return None
    low, high = _ends(planes)
    flat: npt.NDArray[np.bool_] = np.any(array[low:high] != 0, axis=0)
    return (slice(low, high), slice(*_ends(np.any(flat, axis=1))), slice(*_ends(np.any(flat, axis=0))))


def _ends(present: npt.NDArray[np.bool_]) -> tuple[int, int]:
    where = np.flatnonzero(present)
    return int(where[0]), int(where[-1]) + 1


Box = tuple[slice, slice, slice]


def _window(
    box: Box, source_shape: tuple[int, ...], target_shape: tuple[int, ...], matrix: Floats, offset: Floats
) -> tuple[Box, Box, Floats] | None:
    """Return the target box that `box` of the source can touch, the source box behind it, and their offset."""
    region, source, moved = [], [], np.zeros(3)
    for axis in range(3):
        step, start = float(matrix[2 - axis]), float(offset[2 - axis])
        low = max(0, int(np.floor((box[axis].start - 1 - start) / step)) - 1)
        high = min(target_shape[axis], int(np.ceil((box[axis].stop - start) / step)) + 2)
        if low >= high:
            return None
        first = max(0, int(np.floor(step * low + start - step)) - 1)
        last = min(source_shape[axis], int(np.ceil(step * (high - 1) + start + step)) + 2)
        if first >= last:
            return None
        region.append(slice(low, high))
        source.append(slice(first, last))
        moved[2 - axis] = step * low + start - first
    return (region[0], region[1], region[2]), (source[0], source[1], source[2]), moved


def _share(inside: npt.NDArray[np.bool_], shape: tuple[int, ...], matrix: Floats, offset: Floats) -> Floats32:
    """Return how much of each target voxel the part fills, 0 to 1."""
    taps = [_taps(shape[a], inside.shape[a], matrix[2 - a], offset[2 - a], 1) for a in range(3)]
    share = np.stack(list(_planes(inside, taps)))
    for axis, tap in enumerate(taps):
        share[(slice(None),) * axis + (tap.is_outside,)] = 0
    return share


def no_finer_than(volume: Volume, grid: Grid) -> Volume:
    """Return the image with means over as much of each of its axes as a voxel of `grid` covers.

    Sampling the result on `grid`, which may be turned, skips none of the image: nothing is aliased.
    """
    between = np.linalg.inv(volume.grid.affine_lps) @ grid.affine_lps
    covered = np.linalg.norm(between[:3, :3], axis=1)
    if (covered <= 1 + COARSER).all():
        return volume
    i, j, k = np.asarray(volume.grid.spacing_mm) * np.maximum(covered, 1)
    return resample(volume, (float(i), float(j), float(k)))


def _oblique(volume: Volume, grid: Grid, order: Order, outside: float) -> Volume:
    from scipy import ndimage

    if order > 0:
        volume = no_finer_than(volume, grid)
    between = np.linalg.inv(volume.grid.affine_lps) @ grid.affine_lps
    turn = between[:3, :3][::-1, ::-1]
    offset = between[:3, 3][::-1] + 1
    padded = np.pad(volume.array, 1, mode="edge")
    out = np.empty(grid.shape, dtype=volume.array.dtype)
    for start in range(0, grid.shape[0], SLICES_AT_ONCE):
        part = slice(start, min(start + SLICES_AT_ONCE, grid.shape[0]))
        moved = ndimage.affine_transform(
            padded,
            turn,
            offset=offset + turn[:, 0] * start,
            output_shape=(part.stop - start, *grid.shape[1:]),
            output=np.float32,
            order=min(order, 1),
            mode="constant",
            cval=outside,
        )
        out[part] = np.rint(moved) if np.issubdtype(out.dtype, np.integer) else moved
    return Volume(out, grid)


def _oblique_labels(volume: Volume, grid: Grid) -> npt.NDArray[Any]:
    out = np.zeros(grid.shape, dtype=volume.array.dtype)
    most = np.full(grid.shape, HALF - 1e-6, dtype=np.float32)
    for label in _labels(volume.array):
        part = Volume((volume.array == label).astype(np.float32), volume.grid)
        share: Floats32 = _oblique(part, grid, 1, 0.0).array.astype(np.float32)
        better = share > most
        out[better] = label
        most[better] = share[better]
    return out

"""Counting the voxels of a SEG: how much each segment holds and where, so that an empty mask is known.

Belongs here: counts, boxes and overlap for the header index, frame by frame. Does not: masks as volumes
(`ct_assets.imaging.masks`).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

FRACTIONAL_SHARE = 0.5
"""A voxel of a FRACTIONAL segmentation counts from half of the maximum on."""


def count(dataset: Dataset, row: dict[str, Any]) -> dict[str, Any]:
    """Return voxels and box of each segment and whether segments overlap, as columns of the index.

    `row` holds what `dicom.nested` told of the same object. Boxes are of voxel centres in LPS millimetres,
    NaN for an empty segment or where the frames' geometry is not known. Raises what decoding raises.
    """
    numbers: list[int] = row["segment_numbers"] or []
    voxels = dict.fromkeys(numbers, 0)
    corners: dict[int, list[npt.NDArray[np.float64]]] = {number: [] for number in numbers}
    planes = _planes(row)
    lit_at: dict[tuple[int, ...], list[npt.NDArray[np.uint8]]] = {}
    is_overlapping = False
    for frame, pixels in enumerate(_frames(dataset, row)):
        for number, lit in _segments_of(frame, pixels, row, numbers):
            found = int(np.count_nonzero(lit))
            if number not in voxels or not found:
                continue
            voxels[number] += found
            if planes is None:
                continue
            corners[number].append(_corners(lit, planes[frame]))
            if row["segmentation_type"] != "LABELMAP" and len(numbers) > 1:
                place = tuple(np.round(planes[frame][:3] * 100).astype(int).tolist())
                packed = np.packbits(lit)
                is_overlapping |= any(bool((packed & other).any()) for other in lit_at.get(place, []))
                lit_at.setdefault(place, []).append(packed)
    boxes: list[float] = []
    for number in numbers:
        points = np.concatenate(corners[number]) if corners[number] else np.full((1, 3), np.nan)
        boxes += [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
    return {
        "segment_voxels": [voxels[number] for number in numbers],
        "segment_boxes_mm": boxes,
        "has_overlap": None if planes is None and len(numbers) > 1 else is_overlapping,
    }


def _frames(dataset: Dataset, row: dict[str, Any]) -> Iterator[npt.NDArray[np.uint8]]:
    if dataset.get("BitsAllocated") == 1 and not dataset.file_meta.TransferSyntaxUID.is_compressed:
        # Frames of one bit follow each other without padding (PS3.5 8.1.1): one frame unpacked at a time.
        packed = np.frombuffer(dataset.PixelData, np.uint8)
        size = int(row["rows"]) * int(row["columns"])
        for frame in range(int(row["number_of_frames"] or 1)):
            first, last = frame * size, (frame + 1) * size
            if last > packed.size * 8:
                raise ValueError("pixel data ends before its frames")
            bits = np.unpackbits(packed[first // 8 : (last + 7) // 8], bitorder="little")
            yield bits[first % 8 : first % 8 + size].reshape(int(row["rows"]), int(row["columns"]))
    else:
        yield from iter_pixels(dataset)


def _segments_of(
    frame: int, pixels: npt.NDArray[np.uint8], row: dict[str, Any], numbers: list[int]
) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    if row["segmentation_type"] == "LABELMAP":
        for number in np.intersect1d(np.unique(pixels), numbers):
            yield int(number), pixels == number
        return
    of_frames = row["frame_segment_numbers"]
    number = of_frames[frame] if of_frames and frame < len(of_frames) else None
    if number is None:
        return
    if row["segmentation_type"] == "FRACTIONAL":
        yield number, pixels >= FRACTIONAL_SHARE * (row["maximum_fractional_value"] or 255)
    else:
        yield number, pixels != 0


def _planes(row: dict[str, Any]) -> npt.NDArray[np.float64] | None:
    """Return position (3), step along a row (3) and down a column (3) of each frame, or None."""
    count = row["number_of_frames"] or 1
    per_frame = []
    for name, size in (("frame_positions_mm", 3), ("frame_orientations", 6), ("frame_pixel_spacings_mm", 2)):
        values = row[name]
        if values is None or len(values) not in (size, size * count):
            return None
        per_frame.append(np.broadcast_to(np.reshape(values, (-1, size)), (count, size)))
    positions, orientations, spacings = per_frame
    along_row = orientations[:, :3] * spacings[:, 1:]
    down_column = orientations[:, 3:] * spacings[:, :1]
    return np.concatenate([positions, along_row, down_column], axis=1)


def _corners(lit: npt.NDArray[np.bool_], plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    j, i = np.meshgrid(rows[[0, -1]], columns[[0, -1]], indexing="ij")
    return plane[:3] + i.reshape(-1, 1) * plane[3:6] + j.reshape(-1, 1) * plane[6:]

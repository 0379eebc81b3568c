"""Counting the voxels of a SEG: how much each segment holds and where, so that an empty mask is known.

Belongs here: counts, boxes and overlap for the header index, frame by frame. Does not: masks as volumes
(`ct_assets.imaging.masks`).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ct_assets.dicom import seg
from ct_assets.dicom.seg import SegFrame

FRACTIONAL_SHARE = 0.5
"""A voxel of a FRACTIONAL segmentation counts from half of the maximum on."""

Floats = npt.NDArray[np.float64]


def count(dataset: Dataset) -> dict[str, Any]:
    """Return voxels and box of each segment and whether segments overlap, as columns of the index.

    Boxes are of voxel centres in LPS millimetres, NaN for an empty segment or where the frames' geometry is not
    known. A LABELMAP's background counts nothing. Raises what decoding raises.
    """
    found = seg.from_dataset(dataset)
    numbers = [int(item.SegmentNumber) for item in dataset.get("SegmentSequence") or []]
    voxels = dict.fromkeys(numbers, 0)
    boxes: dict[int, Floats] = {}
    has_places = all(frame.position_mm and len(frame.orientation) == 6 for frame in found.frames)
    united: dict[tuple[float, ...], npt.NDArray[np.bool_]] = {}
    may_overlap = found.kind != "LABELMAP" and len(numbers) > 1
    is_overlapping = False
    for frame, number, positions in found.lit(FRACTIONAL_SHARE):
        if number not in voxels:
            continue
        voxels[number] += positions.size
        if not has_places:
            continue
        corners = _corners(frame, positions, found.form.columns)
        box = np.stack([corners.min(axis=0), corners.max(axis=0)])
        if number in boxes:
            box = np.stack([np.minimum(box[0], boxes[number][0]), np.maximum(box[1], boxes[number][1])])
        boxes[number] = box
        if may_overlap and not is_overlapping:
            place = tuple(round(value, 2) for value in frame.position_mm or ())
            there = united.get(place)
            if there is None:
                there = united[place] = np.zeros(found.form.rows * found.form.columns, dtype=np.bool_)
            is_overlapping = bool(there[positions].any())
            there[positions] = True
    return {
        "segment_voxels": [voxels[number] for number in numbers],
        "segment_boxes_mm": [
            value
            for number in numbers
            for value in boxes.get(number, np.full((2, 3), np.nan)).ravel().tolist()
        ],
        "has_overlap": None if not has_places and len(numbers) > 1 else is_overlapping,
    }


def _corners(frame: SegFrame, positions: npt.NDArray[np.int64], columns: int) -> Floats:
    """Return the corners of the box around lit pixels of a frame, (4, 3)."""
    column = positions % columns
    rows = np.array([positions[0] // columns, positions[-1] // columns])
    j, i = np.meshgrid(rows, np.array([column.min(), column.max()]), indexing="ij")
    between_rows, between_columns = frame.pixel_spacing_mm
    along_row = np.multiply(frame.orientation[:3], between_columns)
    down_column = np.multiply(frame.orientation[3:], between_rows)
    corners = np.asarray(frame.position_mm) + i.reshape(-1, 1) * along_row + j.reshape(-1, 1) * down_column
    return np.asarray(corners, dtype=np.float64)

"""Boxes of findings carried from one exam to another.

Belongs here: the table of boxes in LPS millimetres, and what becomes of each box under a registration. No box is
dropped: one that leaves the image is a row with its status.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.imaging.registration import Registration
from ct_assets.imaging.transform import Box
from ct_assets.imaging.volume import Floats, Grid

COLUMNS = ("box_id", "x0", "y0", "z0", "x1", "y1", "z1")
BoxStatus = Literal["ok", "clipped", "outside"]
INVERSE_STEPS = 30


@dataclass(frozen=True)
class CarriedBox:
    """A box in the fixed image's space."""

    box_id: str
    box: Box
    """Around the eight carried corners, also where it reaches beyond the image."""
    status: BoxStatus
    """`clipped` where a part of it, `outside` where all of it lies beyond the fixed image's voxels."""


def read(path: Path) -> list[tuple[str, Box]]:
    """Read a table of boxes: `box_id,x0,y0,z0,x1,y1,z1`, any order of columns.

    Raises `UsageError`, with line and column, for a missing or repeated column, a value that is no finite number, a
    box whose upper end is not above its lower end, or a repeated `box_id`.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a table in UTF-8 ({type(error).__name__})") from None
    reader = csv.reader(text.splitlines())
    header = [name.strip() for name in next(reader, [])]
    for column in COLUMNS:
        if header.count(column) != 1:
            raise UsageError(
                f"{path}: the column {column!r} must be there exactly once, the header is {header}"
            )
    boxes: dict[str, Box] = {}
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        line = reader.line_num
        if len(cells) != len(header):
            raise UsageError(f"{path}, line {line}: {len(cells)} cells, the header has {len(header)}")
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        if row["box_id"] in boxes:
            raise UsageError(f"{path}, line {line}: box_id {row['box_id']!r} stands there twice")
        low, high = ([_number(path, line, row, f"{axis}{end}") for axis in "xyz"] for end in (0, 1))
        if any(b <= a for a, b in zip(low, high, strict=True)):
            raise UsageError(f"{path}, line {line}: x1, y1, z1 must be greater than x0, y0, z0")
        boxes[row["box_id"]] = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    return list(boxes.items())


def _number(path: Path, line: int, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{path}, line {line}: {column} must be a finite number, got {row[column]!r}")
    return value


def carried(boxes: list[tuple[str, Box]], registration: Registration, grid: Grid) -> list[CarriedBox]:
    """Carry boxes of the moving image into the fixed image's space, whose voxels are `grid`."""
    return [_carried(box_id, box, registration, grid) for box_id, box in boxes]


def _carried(box_id: str, box: Box, registration: Registration, grid: Grid) -> CarriedBox:
    corners = _moving_to_fixed(registration, box.corners())
    around = Box.around(corners)
    low = np.full(3, -0.5)
    high = np.array(grid.shape[::-1]) - 0.5
    indices = grid.index(corners)
    first, last = indices.min(axis=0), indices.max(axis=0)
    status: BoxStatus = "ok"
    if (last <= low).any() or (first >= high).any():
        status = "outside"
    elif (first < low - 1e-6).any() or (last > high + 1e-6).any():
        status = "clipped"
    return CarriedBox(box_id, around, status)


def _moving_to_fixed(registration: Registration, points: Floats) -> Floats:
    inverse = np.linalg.inv(registration.matrix_fixed_to_moving)
    places: Floats = points @ inverse[:3, :3].T + inverse[:3, 3]
    if registration.deformation is None:
        return places
    # The deformation carries a fixed point q to p = q + u(q); its inverse is the fixed point of q = p - u(q).
    wanted, guess = places, places.copy()
    for _ in range(INVERSE_STEPS):
        moved = np.array([registration.deformation.TransformPoint(point) for point in guess.tolist()])
        guess = guess + (wanted - moved)
    return guess


def write(path: Path, boxes: list[CarriedBox]) -> None:
    """Write the carried boxes as `box_id,x0,y0,z0,x1,y1,z1,status`."""
    with files.atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow((*COLUMNS, "status"))
        for one in boxes:
            ends = (*one.box.low_mm, *one.box.high_mm)
            writer.writerow((one.box_id, *(f"{value:.6f}" for value in ends), one.status))

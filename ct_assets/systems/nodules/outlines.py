"""Outlines of LIDC-IDRI on the pixels of one image: which pixels lie inside, which on the line.

Belongs here: integer polygons to pixels. Does not: XML (`lidc`), positions in the patient (`reference`).
"""

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

MOST_STEPS = 20_000_000
"""An outline that crosses more rows in all is refused: no reader draws one, and it would fill the memory."""


class OutlineError(ValueError):
    """An outline that cannot be drawn."""


def pixels(outline: Integers, columns: int) -> tuple[Integers, Integers]:
    """Return the pixels strictly inside a closed outline, and those on its line, as row * columns + column.

    `outline` is (points, 2) of column and row, all within the image; the last point is joined to the first. A pixel is
    on the line where its centre lies exactly on an edge; inside where the outline winds around its centre. Raises
    `OutlineError` for an outline of absurd length.
    """
    start = outline
    end = np.roll(outline, -1, axis=0)
    step = end - start
    if int(np.abs(step).max(axis=1).sum()) > MOST_STEPS:
        raise OutlineError("the outline is too long")
    line = _on_line(start, step)
    corner = outline.min(axis=0)
    width, height = outline.max(axis=0) - corner + 2
    turns = np.zeros((height, width), dtype=np.int64)
    _add_crossings(turns, start - corner, step)
    rows, cols = np.nonzero(np.cumsum(turns, axis=1))
    inside = (rows + corner[1]) * columns + cols + corner[0]
    on_line = np.unique(line[:, 1] * columns + line[:, 0])
    return np.setdiff1d(inside, on_line), on_line


def _on_line(start: Integers, step: Integers) -> Integers:
    """Return every pixel centre on every edge, (points, 2)."""
    parts = np.gcd(np.abs(step[:, 0]), np.abs(step[:, 1]))
    count = np.maximum(parts, 1)
    edge, number = _expanded(count)
    unit = step // count[:, None]
    return np.asarray(start[edge] + unit[edge] * number[:, None])


def _add_crossings(turns: Integers, start: Integers, step: Integers) -> None:
    """Add +1 or -1 right of where an edge crosses a row; summed along the row that is the winding number."""
    rising = step[:, 1] != 0
    start, step = start[rising], step[rising]
    edge, number = _expanded(np.abs(step[:, 1]))
    sense = np.sign(step[edge, 1])
    # Each edge holds its lower row and not its upper one, so that a shared corner is crossed once.
    low = np.minimum(start[edge, 1], start[edge, 1] + step[edge, 1])
    row = low + number
    along = (row - start[edge, 1]) * step[edge, 0]
    column = start[edge, 0] + np.floor_divide(along, step[edge, 1])
    np.add.at(turns, (row, column + 1), sense)


def _expanded(count: Integers) -> tuple[Integers, Integers]:
    """Return for each of `count` items of each edge the edge, and the item's number."""
    edge = np.repeat(np.arange(len(count)), count)
    first = np.cumsum(count) - count
    return edge, np.arange(len(edge)) - first[edge]

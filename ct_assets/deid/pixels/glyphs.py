"""A cheap test for letters drawn into a cross-sectional slice, so that not every slice needs a reader.

Belongs here: the measure on one frame of stored values. Letters are thin strokes with hard edges, of like
height, side by side on one line; vessels, trabeculae and table edges are thin too, but blurred by the
scanner's point spread, and they do not stand in a row. Where the test finds a row, `ocr` has a look at it;
`docs/decisions/0020-burned-in-text.md` gives its recall, its false alarms and its cost.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from ct_assets.deid.pixels.display import Window

STROKE_SHARE = 0.12
"""A stroke differs from its surroundings by at least this share of the range that is shown."""
LEAST_SPREAD = {"uint8": 20, "uint16": 100, "int16": 100}
"""Stored values (about HU at 16 bit) that a slice has to span, so that noise in air alone is no stroke."""
AIR_SHARE = 0.19
"""A stroke on air is at least this share of its window: 80 HU of 424."""
LETTERS_ON_AIR = 5
"""Letters of a row that counts there."""
MOST_ROWS_ON_AIR = 8
"""More rows than these are the noise of the air itself."""
NARROW_SHARE = 0.05
"""A window of the header below this share of the slice's range shows strokes that the whole range does not."""
STROKE_WIDTH = 5
"""Structures that no square of this many pixels fits into are strokes."""
CRISP_DROP = 0.75
"""Share of its contrast that a hard-edged stroke loses from one pixel to the next."""
CRISP_SHARE = 0.5
"""Share of a letter's pixels that have such an edge."""
LETTERS_IN_A_ROW = 3
"""Letters side by side from which a row is looked at."""
LETTER_HEIGHTS = (4, 40)
"""Heights of letters, in pixels."""
LARGE_LETTER = 18
"""Height from which letters are looked for at half the resolution too: their strokes are wide."""
LETTER_WIDTH = 80
"""Largest width: handwriting and some fonts join their letters."""
TILE = (8, 16)
"""Rows and columns of the tiles in which hard stroke pixels are counted."""
CROWDED = 0.05
"""Share of hard stroke pixels in a slice from which they are noise: slices without it have less than a
hundredth, slices with text in large type four hundredths."""
THINNED = 0.03
"""Share that is left of them then, the strongest: text that can be read in noise is brighter than it."""
DENSER = 2.5
"""How many times denser than in the slice hard stroke pixels are in a row of letters: 10 to 150 times in
slices without noise; in noise alone a row is an accident, about as dense as the rest."""
SMALL = 128 * 128
"""Pixels of a slice below which letters may fill it, so that density says nothing."""
HARD_PIXELS = 20
"""Hard stroke pixels in two by two tiles below which no three letters stand there."""
LETTERS_IN_A_TURNED_LINE = 5
"""Letters in a line of another direction from which it is looked at."""
TURNED_LETTER = 8
"""Pixels of the longer side of its letters."""
DIRECTIONS = (90, 45, 135, 30, 60, 120, 150, 15, 75, 105, 165)
"""Degrees of the other directions; a line may lie 8 degrees beside one of them."""
MOST_LETTERS = 200
"""Letter-like shapes of a slice up to which they are tried in other directions: more are noise."""

_SQUARE = np.ones((STROKE_WIDTH, STROKE_WIDTH), np.uint8)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_QUARTER = (np.arange(256) * (1 - CRISP_DROP)).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Row:
    """Letter-like shapes side by side: where they stand, in pixels, and how many they are."""

    column: int
    row: int
    width: int
    height: int
    letters: int
    direction: int = 0
    """Degrees by which the line is turned, counted from the rows downwards; 90: one letter below the other."""
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    """Left, top, right and foot of the letters of a turned line, in its order."""

    def moved(self, columns: int, rows: int) -> "Row":
        """Return the row as it stands where a part of the slice begins at that column and row."""
        boxes = tuple(
            (box[0] + columns, box[1] + rows, box[2] + columns, box[3] + rows) for box in self.boxes
        )
        return replace(self, column=self.column + columns, row=self.row + rows, boxes=boxes)


def rows_of_letters(
    frame: np.ndarray, windows: Iterable[Window] = (), air: Window | None = None, air_below: float = 0.0
) -> tuple[Row, ...]:
    """Return the rows of at least `LETTERS_IN_A_ROW` letter-like shapes in `frame`, `(rows, columns)`.

    Bright and dark strokes over the whole range, and both again at half the resolution for large letters; bright
    ones on air, where `air` is the window that shows them and `air_below` the stored value of air; and both in
    each of the `windows` that is narrow.
    """
    stored = frame if frame.dtype.name in LEAST_SPREAD else _as_int16(frame)
    low, high, _, _ = cv2.minMaxLoc(stored)
    if high - low < LEAST_SPREAD[stored.dtype.name]:
        return ()
    seen = _scaled(stored, Window(low, high))
    share = round(255 * max(STROKE_SHARE, LEAST_SPREAD[stored.dtype.name] / (high - low)))
    half = cv2.resize(seen, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    found = [*_rows(seen, share, 1, LETTER_HEIGHTS[0]), *_rows(half, share, 2, LARGE_LETTER // 2)]
    if stored is frame and air is not None and low < air_below:
        level = round((air_below - air.low) / air.width * 255)
        on_air = _rows(_scaled(stored, air), round(255 * AIR_SHARE), 1, LETTER_HEIGHTS[0], ground=level)
        found += (
            [row for row in on_air if row.letters >= LETTERS_ON_AIR]
            if len(on_air) <= MOST_ROWS_ON_AIR
            else []
        )
    for window in windows:
        if stored is frame and window.width < NARROW_SHARE * (high - low):
            found += _rows(_scaled(stored, window), round(255 * STROKE_SHARE), 1, LETTER_HEIGHTS[0])
    return tuple(dict.fromkeys(found))


def _scaled(stored: np.ndarray, window: Window) -> np.ndarray:
    """Return 8 bit: all that follows is four times as fast on bytes."""
    scale = 255.0 / max(window.width, 1e-6)
    clipped = cv2.max(stored, _level(np.ceil(window.low)))
    return cv2.convertScaleAbs(clipped, alpha=scale, beta=-scale * window.low)


def _rows(seen: np.ndarray, contrast: int, scale: int, least: int, ground: int | None = None) -> list[Row]:
    """Return rows of bright and of dark strokes; with `ground`, bright ones on what is darker than it."""
    found: list[Row] = []
    for sign in (1, -1) if ground is None else (1,):
        strokes, is_hard = _strokes(seen, contrast, sign)
        if ground is not None:
            dark = cv2.compare(cv2.subtract(seen, strokes), _level(ground), cv2.CMP_LE)
            is_hard, strokes = cv2.bitwise_and(is_hard, dark), cv2.bitwise_and(strokes, dark)
        total = cv2.countNonZero(is_hard)
        box = _dense_box(is_hard) if total >= HARD_PIXELS else None
        if box is None:
            continue
        is_crowded = total > CROWDED * seen.size
        left, top, right, foot = (0, 0, seen.shape[1], seen.shape[0]) if is_crowded else box
        strokes, is_hard = (np.ascontiguousarray(part[top:foot, left:right]) for part in (strokes, is_hard))
        thin, hard = _places(cv2.compare(strokes, _level(contrast), cv2.CMP_GE)), _places(is_hard)
        if is_crowded:
            thin, hard = _strongest(thin, hard, strokes)
            total = len(hard)
        letters = _letters(thin, hard, strokes.shape, least)
        lines = [
            Row(start * scale, highest * scale, (end - start) * scale, (lowest - highest) * scale, count)
            for start, highest, end, lowest, count in _side_by_side(letters)
            if _is_denser(hard, strokes.shape[1], total / seen.size, seen.size, (start, highest, end, lowest))
        ]
        if not is_crowded and LETTERS_IN_A_TURNED_LINE <= len(letters) <= MOST_LETTERS:
            lines += _turned_lines(letters, scale)
        found += [line.moved(left * scale, top * scale) for line in lines]
    return found


def _strokes(seen: np.ndarray, contrast: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much each pixel differs as a stroke does, and a mask of strokes with a hard edge.

    A hard edge loses most of the contrast (`CRISP_DROP`) to one of four neighbours.
    """
    if sign > 0:
        strokes = cv2.subtract(seen, cv2.morphologyEx(seen, cv2.MORPH_OPEN, _SQUARE))
        drop = cv2.subtract(seen, cv2.erode(seen, _CROSS))
    else:
        strokes = cv2.subtract(cv2.morphologyEx(seen, cv2.MORPH_CLOSE, _SQUARE), seen)
        drop = cv2.subtract(cv2.dilate(seen, _CROSS), seen)
    crisp = cv2.compare(cv2.subtract(strokes, drop), cv2.LUT(strokes, _QUARTER), cv2.CMP_LE)
    return strokes, cv2.bitwise_and(crisp, cv2.compare(strokes, _level(contrast), cv2.CMP_GE))


def _strongest(thin: np.ndarray, hard: np.ndarray, strokes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the stroke pixels, and the hard ones of them, as strong as the strongest `THINNED` hard ones."""
    values = strokes.ravel()
    kept = int(THINNED * values.size)
    least = np.partition(values[hard], len(hard) - kept)[len(hard) - kept]
    return thin[values[thin] >= least], hard[values[hard] >= least]


def _is_denser(
    hard: np.ndarray, columns: int, share: float, pixels: int, box: tuple[int, int, int, int]
) -> bool:
    """Return whether hard stroke pixels crowd in a box as letters do, compared with their share of the slice."""
    left, top, right, foot = box
    if pixels <= SMALL:
        return True
    row, column = np.divmod(hard, columns)
    inside = np.count_nonzero((row >= top) & (row < foot) & (column >= left) & (column < right))
    return bool(inside >= DENSER * share * (right - left) * (foot - top))


def _dense_box(is_hard: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return what holds every place where two by two tiles have `HARD_PIXELS`, and the letters round it."""
    sums = cv2.boxFilter(is_hard, cv2.CV_16U, (2 * TILE[1], 2 * TILE[0]), normalize=False)
    column, row, width, height = cv2.boundingRect(cv2.compare(sums, _level(255 * HARD_PIXELS), cv2.CMP_GE))
    if not width:
        return None
    rows, columns = is_hard.shape
    return (
        max(column - LETTER_WIDTH, 0),
        max(row - LETTER_HEIGHTS[1], 0),
        min(column + width + LETTER_WIDTH, columns),
        min(row + height + LETTER_HEIGHTS[1], rows),
    )


def _places(mask: np.ndarray) -> np.ndarray:
    """Return where a mask is set, counted row by row."""
    points = cv2.findNonZero(mask)
    if points is None:
        return np.empty(0, np.int64)
    return points[:, 0, 1].astype(np.int64) * mask.shape[1] + points[:, 0, 0]


def _letters(
    thin: np.ndarray, hard: np.ndarray, shape: tuple[int, ...], least: int
) -> list[tuple[int, int, int, int]]:
    """Return the boxes (left, top, right, foot) of connected strokes that have a letter's size and edges."""
    mask = np.zeros(shape[0] * shape[1], np.uint8)
    mask[thin] = 1
    mask[hard] = 2
    _, labels = cv2.connectedComponents(mask.reshape(shape[:2]), connectivity=8, ltype=cv2.CV_16U)
    label = labels.ravel()[thin]
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order], prepend=0))
    row, column = np.divmod(thin[order], shape[1])
    top, foot = np.minimum.reduceat(row, starts), np.maximum.reduceat(row, starts) + 1
    left, right = np.minimum.reduceat(column, starts), np.maximum.reduceat(column, starts) + 1
    edges = np.add.reduceat((mask[thin[order]] == 2).astype(np.int32), starts)
    area = np.diff(starts, append=len(thin))
    height, width = foot - top, right - left
    letter = (height >= least) & (height <= LETTER_HEIGHTS[1]) & (width <= LETTER_WIDTH)
    letter &= edges >= CRISP_SHARE * area
    return sorted(tuple(box) for box in np.stack([left, top, right, foot], axis=1)[letter].tolist())


def _side_by_side(letters: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int, int]]:
    """Return boxes and lengths of rows of letters of like height on one line, the longest of each start."""
    found: list[tuple[int, int, int, int, int]] = []
    taken: set[int] = set()
    for start, (left, top, right, foot) in enumerate(letters):
        if start in taken:
            continue
        height, highest, members = foot - top, top, [start]
        for index in range(start + 1, len(letters)):
            next_left, next_top, next_right, next_foot = letters[index]
            if next_left - right > 1.5 * max(height, 8):
                break
            like = 0.6 * height <= next_foot - next_top <= 1.6 * height
            if next_left >= right - 2 and like and abs(next_foot - foot) <= max(2, 0.2 * height):
                members.append(index)
                right, highest = next_right, min(highest, next_top)
        if len(members) >= LETTERS_IN_A_ROW:
            taken.update(members)
            found.append((left, highest, right, foot, len(members)))
    return found


def _level(value: float) -> Any:
    """Return a grey level as OpenCV takes one; its type stubs know arrays only."""
    return float(value)


def _times(box: tuple[int, int, int, int], scale: int) -> tuple[int, int, int, int]:
    left, top, right, foot = (int(part) * scale for part in box)
    return left, top, right, foot


def _neighbours(letters: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Return the letters large enough to be read turned that have others of like size near by, and those again."""
    boxes = np.array([box for box in letters if max(box[2] - box[0], box[3] - box[1]) >= TURNED_LETTER])
    while len(boxes) >= LETTERS_IN_A_TURNED_LINE:
        size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        reach = 2.0 * np.maximum(size[:, None], size[None])
        near = np.hypot(*np.moveaxis(center[:, None] - center[None], -1, 0)) <= reach
        near &= np.maximum(size[:, None], size[None]) <= 2 * np.minimum(size[:, None], size[None])
        kept = ((near @ near.astype(np.int32)) > 0).sum(axis=1) >= min(3, LETTERS_IN_A_TURNED_LINE)
        if kept.all():
            return [tuple(box) for box in boxes.tolist()]
        boxes = boxes[kept]
    return []


def _turned_lines(letters: list[tuple[int, int, int, int]], scale: int) -> list[Row]:
    """Return lines of letters of like size in the other directions, each letter in one line only."""
    letters = _neighbours(letters)
    if not letters:
        return []
    boxes = np.array(letters, float)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    found: list[Row] = []
    free = np.ones(len(letters), bool)
    for direction in DIRECTIONS:
        angle = np.deg2rad(direction)
        along = center @ (np.cos(angle), np.sin(angle))
        beside = center @ (-np.sin(angle), np.cos(angle))
        order = np.argsort(along)
        for start in order:
            if not free[start]:
                continue
            line, last = [int(start)], int(start)
            for index in order[np.searchsorted(along, along[start], sorter=order) :]:
                reach = max(size[last], size[index], 8)
                if not free[index] or index == last or along[index] == along[last]:
                    continue
                if along[index] - along[last] > 2.0 * reach:
                    if along[index] - along[last] > 2.0 * max(size[last], LETTER_HEIGHTS[1]):
                        break
                    continue
                like = 0.5 <= size[index] / size[last] <= 2.0
                if like and abs(beside[index] - beside[last]) <= 0.3 * reach:
                    line.append(int(index))
                    last = int(index)
            if len(line) < LETTERS_IN_A_TURNED_LINE:
                continue
            free[line] = False
            members = tuple(_times(letters[one], scale) for one in line)
            left, top = (min(box[at] for box in members) for at in (0, 1))
            right, foot = (max(box[at] for box in members) for at in (2, 3))
            found.append(Row(left, top, right - left, foot - top, len(line), direction, members))
    return found


def _as_int16(frame: np.ndarray) -> np.ndarray:
    """Return any other kind of value scaled to int16 (float and 32 bit pixels)."""
    values = frame.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (30000.0 / max(high - low, 1e-12))).astype(np.int16)

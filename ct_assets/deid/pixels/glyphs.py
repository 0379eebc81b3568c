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
CRISP_BITS = 2
"""A hard-edged stroke loses its contrast from one pixel to the next, less at most a quarter: so many bits."""
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
EVEN = 0.25
"""Share of its contrast by which the letters of a line differ: drawn ones by 0.1, pieces of ribs by 0.45."""
TILE = 8
"""Side of the tiles in which hard stroke pixels are counted."""
TILES = (5, 3)
"""Columns and rows of tiles that hold three letters wherever they begin: 32 by 16 pixels in any position."""
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
"""Hard stroke pixels in 32 by 16 pixels below which no three letters stand there."""
LETTERS_IN_A_TURNED_LINE = 5
"""Letters in a line of another direction from which it is looked at."""
TURNED_LETTER = 8
"""Pixels of the longer side of its letters."""
DIRECTIONS = (90, 45, 135, 30, 60, 120, 150, 15, 75, 105, 165)
"""Degrees of the other directions; a line may lie 8 degrees beside one of them."""
SLANTED = 0.3
"""Least share of the shorter side of a slanted letter's box in the longer one: of an `I` turned by 20 degrees it is 0.4,
at 45 degrees 1; what is thinner runs along a row or column of pixels, as edges of ribs do."""
UPRIGHT = 20
"""Degrees from rows and columns within which a letter's box may be as thin as it likes."""
MOST_LETTERS = 200
"""Letter-like shapes of a slice up to which they are tried in other directions: more are noise."""

_SQUARE = np.ones((STROKE_WIDTH, STROKE_WIDTH), np.uint8)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


Box = tuple[int, int, int, int]
"""Left, top, right and foot, in pixels."""


@dataclass(frozen=True, slots=True)
class Row:
    """Letter-like shapes side by side: where they stand, in pixels, and how many they are."""

    column: int
    row: int
    width: int
    height: int
    letters: int
    boxes: tuple[Box, ...]
    """Left, top, right and foot of the letters, in the order of the line."""
    direction: int = 0
    """Degrees by which the line is turned, counted from the rows downwards; 90: one letter below the other."""

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
    seen = _scaled(stored, Window(low, high), low)
    share = round(255 * max(STROKE_SHARE, LEAST_SPREAD[stored.dtype.name] / (high - low)))
    half = cv2.resize(seen, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    found = [*_rows(seen, share, 1, LETTER_HEIGHTS[0]), *_rows(half, share, 2, LARGE_LETTER // 2)]
    if stored is frame and air is not None and low < air_below:
        level = round((air_below - air.low) / air.width * 255)
        on_air = _rows(_scaled(stored, air, low), round(255 * AIR_SHARE), 1, LETTER_HEIGHTS[0], ground=level)
        found += (
            [row for row in on_air if row.letters >= LETTERS_ON_AIR]
            if len(on_air) <= MOST_ROWS_ON_AIR
            else []
        )
    for window in windows:
        if stored is frame and window.width < NARROW_SHARE * (high - low):
            found += _rows(_scaled(stored, window, low), round(255 * STROKE_SHARE), 1, LETTER_HEIGHTS[0])
    return tuple(dict.fromkeys(found))


def _scaled(stored: np.ndarray, window: Window, low: float) -> np.ndarray:
    """Return 8 bit, `low` being the least value: all that follows is four times as fast on bytes."""
    scale = 255.0 / max(window.width, 1e-6)
    if window.low > low:  # its absolute values would be taken
        stored = cv2.max(stored, _level(np.ceil(window.low)))
    return cv2.convertScaleAbs(stored, alpha=scale, beta=-scale * window.low)


def _rows(seen: np.ndarray, contrast: int, scale: int, least: int, ground: int | None = None) -> list[Row]:
    """Return rows of bright and of dark strokes; with `ground`, bright ones on what is darker than it."""
    found: list[Row] = []
    for sign in (1, -1) if ground is None else (1,):
        strokes, is_thin, is_hard = _strokes(seen, contrast, sign)
        if ground is not None:
            dark = cv2.compare(cv2.subtract(seen, strokes), _level(ground), cv2.CMP_LE)
            is_hard, is_thin = cv2.bitwise_and(is_hard, dark), cv2.bitwise_and(is_thin, dark)
        total = cv2.countNonZero(is_hard)
        box = _dense_box(is_hard) if total >= HARD_PIXELS else None
        if box is None:
            continue
        is_crowded = total > CROWDED * seen.size
        left, top, right, foot = (0, 0, seen.shape[1], seen.shape[0]) if is_crowded else box
        if is_crowded:
            is_thin, is_hard = _strongest(is_thin, is_hard, strokes)
            total = cv2.countNonZero(is_hard)
        is_thin, is_hard = is_thin[top:foot, left:right], is_hard[top:foot, left:right]
        letters = _letters(is_thin, is_hard, least)
        lines = [
            _row(members, scale)
            for box, members in _side_by_side(letters)
            if _is_denser(is_hard, total / seen.size, seen.size, box)
        ]
        if not is_crowded and LETTERS_IN_A_TURNED_LINE <= len(letters) <= MOST_LETTERS:
            lines += _turned_lines(letters, scale)
        if lines:
            ink = seen[top:foot, left:right] if sign > 0 else 255 - seen[top:foot, left:right]
            lines = [line for line in lines if _is_even(ink, strokes[top:foot, left:right], line, scale)]
        found += [line.moved(left * scale, top * scale) for line in lines]
    return found


def _strokes(seen: np.ndarray, contrast: int, sign: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by how much each pixel differs as a stroke does, and masks of strokes and of those with a hard edge.

    A hard edge loses most of the contrast (`CRISP_BITS`) to one of four neighbours.
    """
    if sign > 0:
        strokes = cv2.subtract(seen, cv2.morphologyEx(seen, cv2.MORPH_OPEN, _SQUARE))
        drop = cv2.subtract(seen, cv2.erode(seen, _CROSS))
    else:
        strokes = cv2.subtract(cv2.morphologyEx(seen, cv2.MORPH_CLOSE, _SQUARE), seen)
        drop = cv2.subtract(cv2.dilate(seen, _CROSS), seen)
    is_thin = cv2.threshold(strokes, contrast - 1, 255, cv2.THRESH_BINARY)[1]
    is_crisp = cv2.compare(cv2.subtract(strokes, drop), np.right_shift(strokes, CRISP_BITS), cv2.CMP_LE)
    return strokes, is_thin, cv2.bitwise_and(is_crisp, is_thin)


def _strongest(
    is_thin: np.ndarray, is_hard: np.ndarray, strokes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the stroke pixels, and the hard ones of them, as strong as the strongest `THINNED` hard ones."""
    values = strokes[is_hard.view(bool)]
    place = len(values) - int(THINNED * strokes.size)
    strong = cv2.compare(strokes, _level(np.partition(values, place)[place]), cv2.CMP_GE)
    return cv2.bitwise_and(is_thin, strong), cv2.bitwise_and(is_hard, strong)


def _is_denser(is_hard: np.ndarray, share: float, pixels: int, box: Box) -> bool:
    """Return whether hard stroke pixels crowd in a box as letters do, compared with their share of the slice."""
    left, top, right, foot = box
    if pixels <= SMALL:
        return True
    inside = cv2.countNonZero(is_hard[top:foot, left:right])
    return inside >= DENSER * share * (right - left) * (foot - top)


def _is_even(ink: np.ndarray, strokes: np.ndarray, line: Row, scale: int) -> bool:
    """Return whether enough letters of a line are drawn in one value, as pieces of ribs are not."""
    peaks, contrasts = [], []
    for box in line.boxes:
        left, top, right, foot = (part // scale for part in box)
        peaks.append(int(ink[top:foot, left:right].max()))
        contrasts.append(int(strokes[top:foot, left:right].max()))
    needed = LETTERS_IN_A_TURNED_LINE if line.direction else LETTERS_IN_A_ROW
    peaks.sort()
    spread = min(last - first for first, last in zip(peaks, peaks[needed - 1 :], strict=False))
    return spread <= EVEN * sorted(contrasts)[len(contrasts) // 2]


def _dense_box(is_hard: np.ndarray) -> Box | None:
    """Return what holds every place where `HARD_PIXELS` may lie within `TILES` tiles, and the letters round it."""
    rows, columns = is_hard.shape
    tiles = is_hard
    for _ in range(TILE.bit_length() - 1):
        tiles = cv2.resize(
            tiles, ((tiles.shape[1] + 1) // 2, (tiles.shape[0] + 1) // 2), interpolation=cv2.INTER_AREA
        )
    sums = cv2.boxFilter(tiles, cv2.CV_16U, TILES, normalize=False, borderType=cv2.BORDER_CONSTANT)
    least = 255 * HARD_PIXELS * 0.9 / TILE**2  # tiles are rounded means
    column, row, width, height = (
        TILE * part for part in cv2.boundingRect(cv2.compare(sums, _level(least), cv2.CMP_GE))
    )
    if not width:
        return None
    return (
        max(column - LETTER_WIDTH, 0),
        max(row - LETTER_HEIGHTS[1], 0),
        min(column + width + LETTER_WIDTH, columns),
        min(row + height + LETTER_HEIGHTS[1], rows),
    )


def _letters(is_thin: np.ndarray, is_hard: np.ndarray, least: int) -> list[Box]:
    """Return the boxes (left, top, right, foot) of connected strokes that have a letter's size and edges."""
    found = []
    contours, _ = cv2.findContours(is_thin, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        left, top, width, height = cv2.boundingRect(contour)
        if least <= height <= LETTER_HEIGHTS[1] and width <= LETTER_WIDTH:
            foot, right = top + height, left + width
            edges = cv2.countNonZero(is_hard[top:foot, left:right])
            if edges >= CRISP_SHARE * cv2.countNonZero(is_thin[top:foot, left:right]):
                found.append((left, top, right, foot))
    return sorted(found)


def _side_by_side(letters: list[Box]) -> list[tuple[Box, list[Box]]]:
    """Return boxes and letters of rows of letters of like height on one line, the longest of each start."""
    found: list[tuple[Box, list[Box]]] = []
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
            found.append(((left, highest, right, foot), [letters[index] for index in members]))
    return found


def _level(value: float) -> Any:
    """Return a grey level as OpenCV takes one; its type stubs know arrays only."""
    return float(value)


def _row(letters: list[Box], scale: int, direction: int = 0) -> Row:
    """Return the row of some letters found at a resolution `scale` times coarser."""
    boxes = tuple(_times(box, scale) for box in letters)
    left, top = (min(box[at] for box in boxes) for at in (0, 1))
    right, foot = (max(box[at] for box in boxes) for at in (2, 3))
    return Row(left, top, right - left, foot - top, len(boxes), boxes, direction)


def _times(box: Box, scale: int) -> Box:
    left, top, right, foot = (int(part) * scale for part in box)
    return left, top, right, foot


def _neighbours(letters: list[Box]) -> list[Box]:
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


def _turned_lines(letters: list[Box], scale: int) -> list[Row]:
    """Return lines of letters of like size in the other directions, each letter in one line only."""
    letters = _neighbours(letters)
    if not letters:
        return []
    boxes = np.array(letters, float)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    found: list[Row] = []
    free = np.ones(len(letters), bool)
    for direction in _with_lines(center, size):
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
            if UPRIGHT <= direction % 90 <= 90 - UPRIGHT:
                slanted = (boxes[line, 2:] - boxes[line, :2]).min(axis=1) >= SLANTED * size[line]
                if np.count_nonzero(slanted) < LETTERS_IN_A_TURNED_LINE:
                    continue
            free[line] = False
            found.append(_row([letters[one] for one in line], scale, direction))
    return found


def _with_lines(center: np.ndarray, size: np.ndarray) -> list[int]:
    """Return the directions in which letters follow each other as in a line, before any is followed one by one."""
    angles = np.deg2rad(DIRECTIONS)[:, None, None]
    across, down = np.moveaxis(center[None] - center[:, None], -1, 0)
    along = across * np.cos(angles) + down * np.sin(angles)
    beside = np.abs(down * np.cos(angles) - across * np.sin(angles))
    reach = np.maximum(np.maximum(size[:, None], size[None]), 8)
    like = np.maximum(size[:, None], size[None]) <= 2 * np.minimum(size[:, None], size[None])
    follows = (like & (along > 0) & (along <= 2.0 * reach) & (beside <= 0.3 * reach)).astype(np.float32)
    counts = np.ones((len(DIRECTIONS), len(size), 1), np.float32)
    for _ in range(LETTERS_IN_A_TURNED_LINE - 1):
        counts = np.minimum(follows @ counts, 1)
    return [direction for at, direction in enumerate(DIRECTIONS) if counts[at].any()]


def _as_int16(frame: np.ndarray) -> np.ndarray:
    """Return any other kind of value scaled to int16 (float and 32 bit pixels)."""
    values = frame.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (30000.0 / max(high - low, 1e-12))).astype(np.int16)

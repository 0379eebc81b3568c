"""A cheap test for letters drawn into a cross-sectional slice, so that not every slice needs a reader.

Belongs here: the measure on one frame of stored values. Letters are thin strokes with hard edges, of like
height, side by side on one line; vessels, trabeculae and table edges are thin too, but blurred by the
scanner's point spread, and they do not stand in a row. Where the test finds a row, `ocr` has a look at it;
`docs/decisions/0020-burned-in-text.md` gives its recall, its false alarms and its cost.
"""

from dataclasses import dataclass

import cv2
import numpy as np

STROKE_SHARE = 0.12
"""A stroke differs from its surroundings by at least this share of the slice's range of stored values."""
STROKE_CONTRAST = {"uint8": 20, "uint16": 100, "int16": 100}
"""… and by at least so many stored values (about HU at 16 bit), so that noise in air is no stroke."""
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

_SQUARE = np.ones((STROKE_WIDTH, STROKE_WIDTH), np.uint8)


@dataclass(frozen=True, slots=True)
class Row:
    """Letter-like shapes side by side: where they stand, in pixels, and how many they are."""

    column: int
    row: int
    width: int
    height: int
    letters: int


def rows_of_letters(frame: np.ndarray) -> tuple[Row, ...]:
    """Return the rows of at least `LETTERS_IN_A_ROW` letter-like shapes in `frame`, `(rows, columns)`.

    Bright and dark strokes, and both again at half the resolution for large letters.
    """
    stored = frame if frame.dtype.name in STROKE_CONTRAST else _as_int16(frame)
    spread = int(stored.max()) - int(stored.min())
    contrast = int(max(STROKE_CONTRAST[stored.dtype.name], STROKE_SHARE * spread))
    if spread < contrast:
        return ()
    half = cv2.resize(stored, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return (
        *_rows(stored, contrast, 1, LETTER_HEIGHTS[0]),
        *_rows(half, contrast, 2, LARGE_LETTER // 2),
    )


def _rows(stored: np.ndarray, contrast: int, scale: int, least: int) -> list[Row]:
    found = []
    for kind, sign in ((cv2.MORPH_TOPHAT, 1), (cv2.MORPH_BLACKHAT, -1)):
        strokes = cv2.morphologyEx(stored, kind, _SQUARE)
        thin = np.flatnonzero(strokes.ravel() >= strokes.dtype.type(contrast))
        if len(thin) < HARD_PIXELS:
            continue
        hard = thin[_has_hard_edge(stored, thin, strokes, sign)]
        if len(hard) > CROWDED * stored.size:
            thin, hard = _strongest(thin, hard, strokes)
        if _densest(hard, stored.shape) < HARD_PIXELS:
            continue
        letters = _letters(thin, hard, stored.shape, least)
        found += [
            Row(left * scale, top * scale, (right - left) * scale, (foot - top) * scale, count)
            for left, top, right, foot, count in _side_by_side(letters)
            if _is_denser(hard, stored.shape, (left, top, right, foot))
        ]
    return found


def _strongest(thin: np.ndarray, hard: np.ndarray, strokes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the stroke pixels, and the hard ones of them, as strong as the strongest `THINNED` hard ones."""
    values = strokes.ravel()
    kept = int(THINNED * values.size)
    least = np.partition(values[hard], len(hard) - kept)[len(hard) - kept]
    return thin[values[thin] >= least], hard[values[hard] >= least]


def _is_denser(hard: np.ndarray, shape: tuple[int, ...], box: tuple[int, int, int, int]) -> bool:
    """Return whether hard stroke pixels crowd in a box as letters do, compared with the whole slice."""
    left, top, right, foot = box
    row, column = np.divmod(hard, shape[1])
    if shape[0] * shape[1] <= SMALL:
        return True
    inside = np.count_nonzero((row >= top) & (row < foot) & (column >= left) & (column < right))
    return bool(inside * shape[0] * shape[1] >= DENSER * len(hard) * (right - left) * (foot - top))


def _has_hard_edge(stored: np.ndarray, thin: np.ndarray, strokes: np.ndarray, sign: int) -> np.ndarray:
    """Return which of the stroke pixels `thin` lose most of their contrast to one of four neighbours."""
    values, columns = stored.ravel(), stored.shape[1]
    here = values[thin].astype(np.int32)
    steepest = np.full(len(thin), -1, np.int32)
    for step in (-1, 1, -columns, columns):
        beside = values.take(thin + step, mode="clip").astype(np.int32)
        np.maximum(steepest, sign * (here - beside), out=steepest)
    return steepest >= CRISP_DROP * strokes.ravel()[thin]


def _densest(hard: np.ndarray, shape: tuple[int, ...]) -> int:
    """Return the most hard stroke pixels that lie in any two by two tiles."""
    down, across = shape[0] // TILE[0] + 2, shape[1] // TILE[1] + 2
    row, column = np.divmod(hard, shape[1])
    tiles = np.bincount((row // TILE[0]) * across + column // TILE[1], minlength=down * across)
    tiles = tiles.reshape(down, across)
    return int((tiles[1:, 1:] + tiles[:-1, 1:] + tiles[1:, :-1] + tiles[:-1, :-1]).max())


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


def _as_int16(frame: np.ndarray) -> np.ndarray:
    """Return any other kind of value scaled to int16 (float and 32 bit pixels)."""
    values = frame.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (30000.0 / max(high - low, 1e-12))).astype(np.int16)

"""A cheap test for letters drawn into a cross-sectional slice, so that not every slice needs a reader.

Belongs here: the measure on one frame of stored values. Letters are thin strokes with hard edges, of like
height, side by side on one line; vessels, trabeculae and table edges are thin too, but blurred by the
scanner's point spread, and they do not stand in a row. Where the test finds a row, `ocr` has a look at it;
`docs/decisions/0020-burned-in-text.md` gives its recall, its false alarms and its cost.
"""

import cv2
import numpy as np

STROKE_SHARE = 0.12
"""A stroke differs from its surroundings by at least this share of the slice's range of stored values."""
STROKE_CONTRAST = 100
"""… and by at least so many stored values (about HU), so that noise in a slice of air is no stroke."""
STROKE_WIDTH = 5
"""Structures that no square of this many pixels fits into are strokes."""
CRISP_DROP = 0.75
"""Share of its contrast that a hard-edged stroke loses from one pixel to the next."""
CRISP_SHARE = 0.5
"""Share of a letter's pixels that have such an edge."""
GLYPHS_IN_A_ROW = 3
"""Letters side by side from which a row counts."""
GLYPH_HEIGHTS = (4, 40)
"""Heights of letters, in pixels."""

_SQUARE = np.ones((STROKE_WIDTH, STROKE_WIDTH), np.uint8)


def longest_row(frame: np.ndarray) -> int:
    """Return how many letter-like shapes stand side by side in `frame`, `(rows, columns)`, at most.

    Bright strokes, dark strokes, and the same at half the resolution for large letters.
    """
    stored = frame if frame.dtype in (np.uint8, np.uint16, np.int16) else _as_int16(frame)
    spread = int(stored.max()) - int(stored.min())
    contrast = max(STROKE_CONTRAST if stored.dtype != np.uint8 else 20, STROKE_SHARE * spread)
    if spread < contrast:
        return 0
    return max(
        _row(stored, cv2.MORPH_TOPHAT, contrast),
        _row(stored, cv2.MORPH_BLACKHAT, contrast),
    )


def has_letters(frame: np.ndarray) -> bool:
    """Whether `frame` shows a row of letter-like shapes, so that it needs a reader."""
    return longest_row(frame) >= GLYPHS_IN_A_ROW


def _row(stored: np.ndarray, kind: int, contrast: float) -> int:
    strokes = cv2.morphologyEx(stored, kind, _SQUARE)
    thin = strokes >= contrast
    if np.count_nonzero(thin) < 8 * GLYPHS_IN_A_ROW:
        return 0
    crisp = thin & (_steepest(stored, 1 if kind == cv2.MORPH_TOPHAT else -1) >= CRISP_DROP * strokes)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(thin.astype(np.uint8), connectivity=8)
    hard = np.bincount(labels[crisp], minlength=count)
    glyphs = [
        (int(left), int(top), int(width), int(height))
        for (left, top, width, height, area), edge in zip(boxes[1:], hard[1:], strict=True)
        if GLYPH_HEIGHTS[0] <= height <= GLYPH_HEIGHTS[1]
        and width <= 2 * GLYPH_HEIGHTS[1]
        and edge >= CRISP_SHARE * area
    ]
    return _side_by_side(sorted(glyphs))


def _steepest(stored: np.ndarray, sign: int) -> np.ndarray:
    """Return how far each pixel stands above (`sign` 1) or below (-1) the lowest of its four neighbours."""
    padded = cv2.copyMakeBorder(stored, 1, 1, 1, 1, cv2.BORDER_REPLICATE).astype(np.int32)
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1])
    return np.maximum.reduce([sign * (middle - neighbour) for neighbour in neighbours])


def _side_by_side(glyphs: list[tuple[int, int, int, int]]) -> int:
    """Return the length of the longest row of boxes (left, top, width, height) of like height and foot."""
    best = 0
    for index, (left, top, width, height) in enumerate(glyphs):
        foot, right, row = top + height, left + width, 1
        for next_left, next_top, next_width, next_height in glyphs[index + 1 :]:
            if next_left - right > 1.5 * max(height, 8):
                break
            like = 0.6 * height <= next_height <= 1.6 * height
            if next_left >= right - 2 and like and abs(next_top + next_height - foot) <= max(2, 0.2 * height):
                row, right = row + 1, next_left + next_width
        best = max(best, row)
    return best


def _as_int16(frame: np.ndarray) -> np.ndarray:
    """Return any other kind of value scaled to int16 (float and 32 bit pixels)."""
    values = frame.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (30000.0 / max(high - low, 1e-12))).astype(np.int16)

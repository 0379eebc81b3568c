"""Text detection on one frame: a detector and a reader whose models lie inside their own package.

Belongs here: the views of a frame that are looked at, and what counts as a word. What is read never leaves
this module: callers learn where a word stands and how long it is, not what it says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from ct_assets.deid.pixels import frames

LEAST_SCORE = 0.5
"""Confidence of the reader from which a detection counts; the value that its authors ship."""
LEAST_CHARACTERS = 2
"""A single letter is an orientation mark (L, R, A, P, H, F) or a ring that looks like one: nobody's name."""
SMALL_SIDE = 1100
"""Frames whose longer side is below this are enlarged, in pixels: small letters are what detectors miss."""
LARGEST_SIDE = 2400
"""Frames are not enlarged beyond this longer side, in pixels."""


@dataclass(frozen=True, slots=True)
class Word:
    """One piece of text: where it stands in the frame, in pixels, and how many characters it has."""

    column: int
    row: int
    width: int
    height: int
    characters: int


def find_words(frame: np.ndarray, *, least: int = LEAST_CHARACTERS) -> tuple[Word, ...]:
    """Return the words on one frame, from the first view that shows at least so many characters in all.

    `frame` is `(rows, columns)` of any depth or `(rows, columns, 3)` RGB of 8 bit.
    """
    for picture, scale in _views(frame):
        words = _read(picture, scale)
        if sum(word.characters for word in words) >= least:
            return words
    return ()


def _views(frame: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Yield 8 bit pictures with their enlargement: as it is seen, over the full range, inverted."""
    scale = enlargement(frame.shape[0], frame.shape[1])
    usual = _enlarge(frames.to_8bit(frame), scale)
    yield usual, scale
    if frame.dtype != np.uint8:
        yield _enlarge(frames.to_8bit(frame, low_percent=0, high_percent=100), scale), scale
    yield 255 - usual, scale


def enlargement(rows: int, columns: int) -> float:
    """Return by how much a frame is enlarged before its text is looked for."""
    longer = max(rows, columns)
    if longer >= SMALL_SIDE:
        return min(1.0, LARGEST_SIDE / longer)
    return min(3.0 if longer < SMALL_SIDE / 3 else 2.0, LARGEST_SIDE / longer)


def _enlarge(picture: np.ndarray, scale: float) -> np.ndarray:
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    if scale == 1.0:
        return picture
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how)


def _read(picture: np.ndarray, scale: float) -> tuple[Word, ...]:
    found, _ = _reader()(picture)
    words = []
    for corners, read, score in found or []:
        characters = sum(character.isalnum() for character in read)
        if float(score) < LEAST_SCORE or characters < LEAST_CHARACTERS:
            continue
        points = np.asarray(corners, dtype=float) / scale
        column, row = np.floor(points.min(axis=0)).astype(int)
        right, bottom = np.ceil(points.max(axis=0)).astype(int)
        words.append(
            Word(max(int(column), 0), max(int(row), 0), int(right - column), int(bottom - row), characters)
        )
    return tuple(words)


@lru_cache(maxsize=1)
def _reader() -> Any:
    """Return the reader, loaded once a process (0.2 s); one thread, so that workers do not crowd each other.

    Its own resizing is switched off: small frames are enlarged here, and a very wide frame must not be
    taken for a single line of text.
    """
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(
        intra_op_num_threads=1,
        inter_op_num_threads=1,
        det_limit_type="max",
        det_limit_side_len=2 * LARGEST_SIDE,
        max_side_len=2 * LARGEST_SIDE,
        width_height_ratio=-1,
    )

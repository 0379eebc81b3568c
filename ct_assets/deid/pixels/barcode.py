"""Bar codes and QR codes in a picture: a machine reads what a person does not (PS3.15 E.3.1).

Belongs here: whether there is one. Bars are found by their shape: many runs of black and white across a line, of two
or more widths in no order, the same on the lines beside. Grids and line pair phantoms have equal runs, hair and
trabeculae differ from line to line. QR codes are found by OpenCV's detector, and count where they can be decoded.
What a code says is never kept.
"""

import cv2
import numpy as np

FEWEST_RUNS = 24
"""Runs of black and white across a code; three characters of Code 39 with their start and stop have 45."""
LINES_ALIKE = 8
"""Lines one above the other that show the same runs."""
UNEQUAL = 1.6
"""From this ratio on two runs of one colour are a narrow and a wide one."""
UNEQUAL_SHARE = 0.2
"""Share of neighbouring runs of one colour that are unequal in a code."""
LONGEST_RUN = 40
"""Pixels of the widest bar; longer runs part codes."""
CONTRAST = 60
"""Grey levels between bars and ground."""
ANGLES = tuple(range(0, 180, 15))
"""Degrees by which a picture is turned: bars are found up to 10 degrees askew."""
LARGEST_SIDE = 1600


def has_code(picture: np.ndarray) -> bool:
    """Return whether a bar code or QR code is in an 8 bit picture, `(rows, columns)` or `(rows, columns, 3)`."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    if int(grey.max()) - int(grey.min()) < CONTRAST:
        return False
    scale = LARGEST_SIDE / max(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return any(_has_bars(_turned(grey, angle)) for angle in ANGLES) or _has_qr_code(grey)


def _turned(grey: np.ndarray, angle: int) -> np.ndarray:
    if angle in (0, 90):
        return grey if angle == 0 else np.ascontiguousarray(grey.T)
    rows, columns = grey.shape
    side = int(np.hypot(rows, columns)) + 2
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), angle, 1.0)
    matrix[:, 2] += ((side - columns) / 2, (side - rows) / 2)
    return cv2.warpAffine(grey, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)


def _has_bars(grey: np.ndarray) -> bool:
    """Look for lines of bars: only where vertical edges are strong and horizontal ones weak."""
    if min(grey.shape) < 2 * LINES_ALIKE:
        return False
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    upright = ((np.abs(across) > 4 * np.abs(down)) & (np.abs(across) > 2 * CONTRAST)).astype(np.float32)
    dense = cv2.boxFilter(upright, -1, (61, LINES_ALIKE + 1))
    for row in np.flatnonzero(dense.max(axis=1) > 0.25)[:: LINES_ALIKE // 2]:
        low, high = max(row - LINES_ALIKE // 2, 0), min(row + LINES_ALIKE // 2, grey.shape[0] - 1)
        if _is_code(grey[low], grey[high], grey[row]):
            return True
    return False


def _is_code(above: np.ndarray, below: np.ndarray, line: np.ndarray) -> bool:
    smooth = line.astype(np.float32)
    middle = cv2.boxFilter(smooth[None], -1, (2 * LONGEST_RUN + 1, 1))[0]
    black = smooth < middle
    spread = (
        cv2.dilate(smooth[None], np.ones((1, LONGEST_RUN)))[0]
        - cv2.erode(smooth[None], np.ones((1, LONGEST_RUN)))[0]
    )
    edges = np.flatnonzero(np.diff(black.astype(np.int8)) != 0) + 1
    if len(edges) < FEWEST_RUNS:
        return False
    widths = np.diff(edges)
    is_bar = (widths <= LONGEST_RUN) & (spread[edges[:-1]] >= CONTRAST)
    start = 0
    for end in [*np.flatnonzero(~is_bar), len(widths)]:
        runs = widths[start:end]
        if len(runs) >= FEWEST_RUNS and _are_unequal(runs):
            piece = slice(edges[start], edges[end] if end < len(edges) else edges[-1])
            if min(_likeness(line[piece], above[piece]), _likeness(line[piece], below[piece])) > 0.9:
                return True
        start = end + 1
    return False


def _are_unequal(runs: np.ndarray) -> bool:
    first, second = runs[:-2].astype(float), runs[2:].astype(float)
    ratio = np.maximum(first, second) / np.minimum(first, second)
    return bool((ratio >= UNEQUAL).mean() >= UNEQUAL_SHARE)


def _likeness(line: np.ndarray, other: np.ndarray) -> float:
    if len(line) < 2 or line.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(line.astype(np.float32), other.astype(np.float32))[0, 1])


def _has_qr_code(grey: np.ndarray) -> bool:
    """Return whether OpenCV decodes a QR code, as it stands or with black and white exchanged."""
    detector = cv2.QRCodeDetector()
    double = cv2.resize(grey, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    for picture in (grey, 255 - grey, double):
        try:
            if detector.detectAndDecode(picture)[0]:
                return True
        except cv2.error:
            continue
    return False

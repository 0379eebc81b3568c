"""Whether an instance may be released as far as its pixels are concerned.

Belongs here: the verdict over three tiers: the header's rules (`pixel_risk`), then text detection on the
pixels of whatever is at risk (`glyphs` for slices, `ocr` for the rest), then regions that the settings
declare (`redact`). What the text says is never kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from pydicom.dataset import Dataset

from ct_assets import progress
from ct_assets.deid.pixels import display, frames, redact
from ct_assets.deid.pixels import risk as pixel_risk
from ct_assets.deid.pixels.frames import UnreadablePixelsError
from ct_assets.deid.pixels.redact import Region
from ct_assets.deid.pixels.risk import Look
from ct_assets.settings.deid import BurnedInSettings

if TYPE_CHECKING:
    from ct_assets.deid.pixels import glyphs

SURE_LETTERS = 8
"""Letter-like shapes in one row of a slice from which it is text whatever the reader says: slices without
text were never seen to have more than five."""
ROWS_READ_ALONE = 12
"""Rows of one slice that are read one by one; where there are more, the slice is read once as a whole."""
FRAMES_TO_WATCH = 20
"""From so many frames on progress is shown within an instance: reading one takes up to a second."""
MARGIN = 24
"""What is read round such a row, in pixels."""

Verdict = Literal[
    "not_at_risk",
    "clean",
    "redacted",
    "text_found",
    "declared",
    "unreadable",
    "document",
    "dose_page",
    "overlay",
]


@dataclass(frozen=True, slots=True)
class BurnedInVerdict:
    """What was decided about the pixels of one instance."""

    verdict: Verdict
    """`not_at_risk` no picture, `clean` looked at without a find, `redacted` clean once `regions` are blank;
    all others keep the instance from being released."""
    reasons: tuple[str, ...] = ()
    """Reason codes; none when the instance may be released."""
    regions: tuple[Region, ...] = ()
    """Regions to blank before release."""
    warnings: tuple[str, ...] = ()
    """Codes of what a person should know though the instance may be released."""
    frames: int = 0
    """Frames that were looked at; looking ends with the first text."""


def judge(dataset: Dataset, settings: BurnedInSettings) -> BurnedInVerdict:
    """Return the verdict over the pixels of `dataset`, which is left untouched, raw elements included.

    Nothing is raised for a bad instance: pixels that cannot be decoded are `unreadable`.
    """
    warnings = ("recognizable_face",) if pixel_risk.may_show_a_face(dataset) else ()
    if pixel_risk.is_document(dataset):
        return BurnedInVerdict("document", ("encapsulated_document",), warnings=warnings)
    if pixel_risk.is_dose_page(dataset):
        return BurnedInVerdict("dose_page", ("dose_report_image",), warnings=warnings)
    if pixel_risk.has_overlay_in_pixels(dataset):
        return BurnedInVerdict("overlay", ("overlay_in_pixels",), warnings=warnings)
    look = pixel_risk.how_to_look(dataset)
    if look is Look.NONE:
        return BurnedInVerdict("not_at_risk", warnings=warnings)
    regions = declared_regions(dataset, settings)
    declared = pixel_risk.declares_text(dataset) or pixel_risk.shows_a_label(dataset)
    if declared and not regions:
        return BurnedInVerdict("declared", ("burned_in_declared",), warnings=warnings)
    try:
        seen = dataset
        if regions:
            seen = frames.image_pixel(dataset)
            redact.apply(seen, regions)
        count, text = _look(seen, Look.READ if declared else look)
    except UnreadablePixelsError:
        return BurnedInVerdict("unreadable", ("pixels_unreadable",), warnings=warnings)
    if text:
        return BurnedInVerdict("text_found", ("burned_in_text",), warnings=warnings, frames=count)
    return BurnedInVerdict("redacted" if regions else "clean", (), regions, warnings, count)


def declared_regions(dataset: Dataset, settings: BurnedInSettings) -> tuple[Region, ...]:
    """Return the regions of every rule of the settings that fits the instance."""
    found = []
    for rule in settings.regions:
        texts = (
            (rule.sop_class_uid, pixel_risk.sop_class_uid(dataset)),
            (rule.modality, frames.text(dataset, 0x00080060)),
            (rule.manufacturer, frames.text(dataset, 0x00080070)),
            (rule.model, frames.text(dataset, 0x00081090)),
        )
        sizes = (
            (rule.rows, frames.number(dataset, 0x00280010)),
            (rule.columns, frames.number(dataset, 0x00280011)),
        )
        if all(wanted is None or wanted.upper() == here for wanted, here in texts) and all(
            wanted is None or wanted == here for wanted, here in sizes
        ):
            found += [Region(*box) for box in rule.boxes]
    return tuple(dict.fromkeys(found))


def _look(dataset: Dataset, look: Look) -> tuple[int, bool]:
    """Look at every frame until text is found; return how many were looked at and whether there is text."""
    shown = display.Display(dataset)
    count, declared = 0, frames.number(dataset, 0x00280008, 1)
    several = progress.each(
        "looking for text in frames", frames.stored_frames(dataset), declared, least=FRAMES_TO_WATCH
    )
    for frame in several:
        count += 1
        if _has_text(frame, look, shown):
            return count, True
    return count, False


def _has_text(frame: np.ndarray, look: Look, shown: display.Display) -> bool:
    from ct_assets.deid.pixels import barcode, glyphs, ocr

    if look is Look.READ or frame.ndim != 2:
        if ocr.find_words(frame) or barcode.has_code(frames.to_8bit(frame)):
            return True
        return any(
            ocr.find_words(picture) or barcode.has_code(picture) for picture in _pictures(shown, frame)
        )
    air, air_below = shown.air if shown.is_hounsfield else (None, 0.0)
    found = glyphs.rows_of_letters(frame, shown.windows, air, air_below)
    turned = [row for row in found if row.direction]
    if any(row.letters >= SURE_LETTERS or _reads_turned(frame, row) for row in turned):
        return True
    rows = [row for row in found if not row.direction]
    if any(row.letters >= SURE_LETTERS for row in rows):
        return True
    places = [_around(frame, row) for row in rows] if len(rows) <= ROWS_READ_ALONE else [frame]
    return any(ocr.find_words(place, least=glyphs.LETTERS_IN_A_ROW) for place in places)


def _reads_turned(frame: np.ndarray, row: "glyphs.Row") -> bool:
    """Whether a turned line of letters reads as text once its letters stand side by side."""
    from ct_assets.deid.pixels import glyphs, ocr

    if row.direction == 90:
        line = _side_by_side(frame, row)
    else:
        middle = (row.column + row.width / 2, row.row + row.height / 2)
        side = int(max(row.width, row.height) * 1.5) + 2 * MARGIN
        matrix = cv2.getRotationMatrix2D(middle, row.direction, 1.0)
        matrix[:, 2] += np.array((side / 2 - middle[0], side / 2 - middle[1]))
        turned = cv2.warpAffine(frame, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
        letter = max(max(right - left, foot - top) for left, top, right, foot in row.boxes)
        line = turned[max(side // 2 - letter - MARGIN, 0) : side // 2 + letter + MARGIN]
    return bool(ocr.find_words(line, least=glyphs.LETTERS_IN_A_TURNED_LINE))


def _side_by_side(frame: np.ndarray, row: "glyphs.Row") -> np.ndarray:
    """Return the letters of a column as a line."""
    height = max(foot - top for _, top, _, foot in row.boxes) + 4
    pieces = []
    for left, top, right, foot in row.boxes:
        piece = frame[max(top - 2, 0) : foot + 2, max(left - 2, 0) : right + 2]
        missing = max(height - piece.shape[0], 0)
        pieces.append(np.pad(piece, ((missing, 0), (0, 0)), mode="edge"))
    return np.pad(np.concatenate([piece[-height:] for piece in pieces], axis=1), MARGIN, mode="edge")


def _pictures(shown: display.Display, frame: np.ndarray) -> Iterator[np.ndarray]:
    """Yield what the header shows of a frame. Raises `UnreadablePixelsError` where its tables cannot be applied."""
    try:
        yield from shown.pictures(frame)
    except Exception as error:
        raise UnreadablePixelsError(type(error).__name__) from None


def _around(frame: np.ndarray, row: "glyphs.Row") -> np.ndarray:
    top, left = max(row.row - MARGIN, 0), max(row.column - MARGIN, 0)
    return frame[top : row.row + row.height + MARGIN, left : row.column + row.width + MARGIN]

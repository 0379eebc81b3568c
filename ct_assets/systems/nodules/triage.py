"""The triage score of a nodule: 1 (no concern) to 10, from its ratings, with the parts it is made of.

Belongs here: the score's rule and its CSV and JSON. It is this project's own scale, not Lung-RADS.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ct_assets import files
from ct_assets.systems.nodules import csv_files

COLUMNS = ("malignancy", "diameter_mm", "spiculation", "texture", "internal_structure", "growing")
RATINGS = {"malignancy": 5, "spiculation": 5, "texture": 5, "internal_structure": 4}
"""Highest value of each rating (LIDC-IDRI); the lowest is 1. Means of several readers lie between."""
SIZE_STEPS = ((20.0, 3), (12.0, 2), (8.0, 1), (4.0, 0))
"""From this diameter in mm on, so many points."""
SMALLEST = -1
"""Points of a diameter below all steps."""
SPICULATED_FROM, SPICULATED = 3.5, 2
GROUND_GLASS_TO, GROUND_GLASS = 2.5, 1
"""LIDC texture: 1 is non-solid, 3 part-solid, 5 solid."""
GROWING = 3
YES = ("1", "true", "yes")
NO = ("0", "false", "no")


@dataclass(frozen=True)
class Ratings:
    """What is known of a nodule; null where it was not rated."""

    malignancy: float | None
    diameter_mm: float | None = None
    spiculation: float | None = None
    texture: float | None = None
    is_growing: bool | None = None


@dataclass(frozen=True)
class Triage:
    """The score and its parts. What was not rated adds nothing; without malignancy there is no score."""

    base: float | None
    size: int
    spiculation: int
    ground_glass: int
    growth: int
    score_exact: float | None
    """Sum of the parts, limited to 1 to 10."""
    score: int | None
    """`score_exact` rounded to a whole number, halves up."""


def triage(ratings: Ratings) -> Triage:
    """Return the score: 1 + (malignancy - 1) 9/4, and points for size, spiculation, ground glass and growth."""
    base = None if ratings.malignancy is None else 1 + (ratings.malignancy - 1) * 9 / 4
    size = 0
    if ratings.diameter_mm is not None:
        size = next((points for least, points in SIZE_STEPS if ratings.diameter_mm >= least), SMALLEST)
    spiculation = SPICULATED if (ratings.spiculation or 0) >= SPICULATED_FROM else 0
    is_ground_glass = ratings.texture is not None and ratings.texture <= GROUND_GLASS_TO
    ground_glass = GROUND_GLASS if is_ground_glass else 0
    growth = GROWING if ratings.is_growing else 0
    exact = None
    if base is not None:
        exact = min(10.0, max(1.0, base + size + spiculation + ground_glass + growth))
    score = None if exact is None else math.floor(exact + 0.5)
    return Triage(base, size, spiculation, ground_glass, growth, exact, score)


def of_file(path: Path) -> list[dict[str, Any]]:
    """Return the score of every row of a CSV with `COLUMNS`; a row with a value out of range has its reasons instead.

    Raises `UsageError` where the file is no such CSV.
    """
    rows = csv_files.read(path, COLUMNS)
    cells = zip(*(rows.columns[name] for name in COLUMNS), strict=True)
    return [_of_row(dict(zip(COLUMNS, row, strict=True))) for row in cells]


def write(path: Path, results: list[dict[str, Any]]) -> None:
    """Write the scores as JSON."""
    files.write_json(path, results)


def _of_row(cells: dict[str, str]) -> dict[str, Any]:
    outside = []
    values: dict[str, float | None] = {}
    for name in ("diameter_mm", *RATINGS):
        value = csv_files.number(cells[name]) if cells[name] else None
        low, high = (1.0, RATINGS[name]) if name in RATINGS else (1e-9, math.inf)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            outside.append(name)
            value = None
        values[name] = value
    growing = cells["growing"].lower()
    if growing and growing not in (*YES, *NO):
        outside.append("growing")
    ratings = Ratings(
        values["malignancy"],
        values["diameter_mm"],
        values["spiculation"],
        values["texture"],
        growing in YES if growing in (*YES, *NO) else None,
    )
    result = asdict(triage(ratings))
    reasons = []
    if outside:
        result |= {"score": None, "score_exact": None}
        reasons.append("rating_out_of_range")
    elif ratings.malignancy is None:
        reasons.append("malignancy_not_rated")
    return result | {"reasons": reasons, "out_of_range": outside}

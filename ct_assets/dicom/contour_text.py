"""Contour Data (3006,0050): the decimal strings of contours as points, a million numbers in a blink.

Belongs here: reading the raw values, and what is tolerated in them. Does not: what a contour encloses
(`imaging.contours`), the objects around it (`dicom.rtstruct`).

Tolerated without a warning: padding with nulls or blanks, blanks and line breaks around numbers. Tolerated
with `REPAIRED`: a backslash at the end, decimal commas. Everything else that is no point after point of
finite numbers, or fewer points than Number of Contour Points (3006,0046) states, is damaged.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

REPAIRED = "repaired"
DAMAGED = "damaged"
MANY_NUMBERS = 2000
"""From here on the table reader is quicker than Python's own conversion."""
_PADDING = b" \0\r\n\t"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Points:
    """What Contour Data holds: (n, 3) LPS millimetres, or None where it is damaged."""

    points: Floats | None
    fault: str = ""
    """`REPAIRED`, `DAMAGED` or nothing."""


def read(texts: Sequence[bytes], stated: Sequence[int | None]) -> list[Points]:
    """Return the points of several contours; `stated` are their Numbers of Contour Points, where told."""
    cleaned = [text.strip(_PADDING) for text in texts]
    counts = [text.count(b"\\") + 1 if text else 0 for text in cleaned]
    values = _together(cleaned) if sum(counts) >= MANY_NUMBERS and all(counts) else None
    if values is not None and values.size == sum(counts):
        several: list[tuple[Floats | None, str]] = [
            (part, "") for part in np.split(values, np.cumsum(counts)[:-1])
        ]
    else:
        several = [_alone(text) for text in cleaned]
    return [_checked(part, fault, told) for (part, fault), told in zip(several, stated, strict=True)]


def _together(texts: Iterable[bytes]) -> Floats | None:
    """Return the numbers of all texts; None where one of them needs a closer look."""
    content = b"\\".join(texts).replace(b"\\", b"\n")
    try:
        column = pl.read_csv(
            io.BytesIO(content), has_header=False, schema={"v": pl.Float64}, quote_char=None
        ).to_series()
    except pl.exceptions.PolarsError:
        return None
    return None if column.null_count() else column.to_numpy()


def _alone(text: bytes) -> tuple[Floats | None, str]:
    if not text:
        return np.empty(0), ""
    fault = ""
    if text.endswith(b"\\"):
        text, fault = text.rstrip(b"\\" + _PADDING), REPAIRED
    if b"," in text and b"." not in text:
        text, fault = text.replace(b",", b"."), REPAIRED
    parts = text.split(b"\\") if text else []
    try:
        return np.array([_number(part.strip(_PADDING)) for part in parts], dtype=np.float64), fault
    except ValueError:
        return None, DAMAGED


def _number(text: bytes) -> float:
    if b"_" in text:  # Python reads 1_000, DICOM does not
        raise ValueError("an underscore is no digit")
    return float(text)


def _checked(values: Floats | None, fault: str, stated: int | None) -> Points:
    if values is None or values.size % 3 or not np.isfinite(values).all():
        return Points(None, DAMAGED)
    points = values.reshape(-1, 3)
    if stated is not None and len(points) < stated:
        return Points(None, DAMAGED)
    return Points(points, fault)

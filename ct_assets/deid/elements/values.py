"""What replaces a value: shifted dates, capped ages, dummies that are valid for their VR.

Belongs here: pure functions from text to text. Does not: deciding which attribute gets what (`rules`).
"""

import re
from datetime import date, timedelta

DUMMY_DATE = "19000101"
DUMMIES: dict[str, str | None] = {
    "AE": "ANONYMIZED",
    "AS": "000Y",
    "CS": "ANONYMIZED",
    "DA": DUMMY_DATE,
    "DS": "0",
    "DT": DUMMY_DATE + "000000",
    "IS": "0",
    "LO": "ANONYMIZED",
    "LT": "ANONYMIZED",
    "PN": "ANONYMIZED",
    "SH": "ANONYMIZED",
    "ST": "ANONYMIZED",
    "TM": "000000",
    "UC": "ANONYMIZED",
    "UR": "urn:anonymized",
    "UT": "ANONYMIZED",
}
"""Text dummies by VR (PS3.5 6.2), all of the default character repertoire."""

BINARY_DUMMIES = {
    "AT": b"\0\0\0\0", "FD": b"\0" * 8, "FL": b"\0" * 4, "OB": b"\0\0", "OD": b"\0" * 8, "OF": b"\0" * 4,
    "OL": b"\0" * 4, "OV": b"\0" * 8, "OW": b"\0\0", "SL": b"\0" * 4, "SS": b"\0\0", "SV": b"\0" * 8,
    "UL": b"\0" * 4, "UN": b"\0\0", "US": b"\0\0", "UV": b"\0" * 8,
}  # fmt: skip
"""Binary dummies by VR: one zero value."""

_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)|(\d{4})\.(\d\d)\.(\d\d)")
_DATE_TIME = re.compile(
    r"(?P<year>\d{4})(?:(?P<month>\d\d)(?:(?P<day>\d\d)"
    r"(?P<time>\d\d(?:\d\d(?:\d\d(?:\.\d{1,6})?)?)?)?)?)?(?P<offset>[+-]\d{4})?"
)
_TIME = re.compile(r"(?:[01]\d|2[0-4])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?")
_OLD_TIME = re.compile(r"(?:[01]\d|2[0-4]):[0-5]\d(?::(?:[0-5]\d|60)(?:\.\d{1,6})?)?")
_AGE = re.compile(r"(\d{1,4})([DWMY]?)")
_YEARS_PER = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0}


def shifted_date(value: str, days: int) -> str | None:
    """Return a DA moved by whole days, in the form it had (`YYYYMMDD`, or ACR-NEMA's `YYYY.MM.DD`).

    None where the value is no date, or the result has no year of four digits.
    """
    found = _DATE.fullmatch(value.strip(" \0"))
    if found is None:
        return None
    dotted = found[4] is not None
    moved = _moved(found[4] or found[1], found[5] or found[2], found[6] or found[3], days)
    if moved is None:
        return None
    return f"{moved:%Y.%m.%d}" if dotted else f"{moved:%Y%m%d}"


def shifted_date_time(value: str, days: int) -> str | None:
    """Return a DT moved by whole days; clock time, offset from UTC and precision stay.

    A partial value (`YYYY`, `YYYYMM`) is moved as the first day it may mean and cut to its precision again.
    None where the value is no DT.
    """
    found = _DATE_TIME.fullmatch(value.strip(" \0"))
    if found is None:
        return None
    moved = _moved(found["year"], found["month"] or "01", found["day"] or "01", days)
    if moved is None:
        return None
    precision = 8 if found["day"] else 6 if found["month"] else 4
    return f"{moved:%Y%m%d}"[:precision] + (found["time"] or "") + (found["offset"] or "")


def is_time(value: str) -> bool:
    """Whether the value is a TM, or ACR-NEMA's form with colons."""
    bare = value.strip(" \0")
    return not bare or bool(_TIME.fullmatch(bare) or _OLD_TIME.fullmatch(bare))


def is_offset(value: str) -> bool:
    """Whether the value is an offset from UTC, `+0100` (PS3.3 C.12.1.1.1)."""
    return re.fullmatch(r"[+-]\d{4}", value.strip(" \0")) is not None


def is_date_time(value: str, vr: str) -> bool:
    """Whether the value is a valid DA or DT (empty is)."""
    bare = value.strip(" \0")
    return not bare or (shifted_date(bare, 0) if vr == "DA" else shifted_date_time(bare, 0)) is not None


def capped_age(value: str, max_years: int) -> str | None:
    """Return an AS whose age is not above `max_years`; all higher ages become `max_years` + 1 years.

    So the highest value stands for everyone older (45 CFR 164.514(b)(2)(i)(C): ages over 89 may only be
    aggregated to "90 or older"). Malformed ages (`93Y`, `093`) are read as what they can mean; None where
    nothing can be read.
    """
    bare = value.strip(" \0").upper()
    if not bare:
        return ""
    found = _AGE.fullmatch(bare.replace(" ", ""))
    if found is None:
        return None
    if int(found[1]) * _YEARS_PER[found[2]] >= max_years + 1:
        return f"{max_years + 1:03d}Y"
    return bare if len(bare) == 4 and found[2] else f"{int(found[1]):03d}{found[2] or 'Y'}"


def is_decimal(value: str) -> bool:
    """Whether every component is a DS (PS3.5 6.2) or empty."""
    return all(
        not part.strip(" \0") or re.fullmatch(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \0]*", part)
        for part in value.split("\\")
    )


def _moved(year: str, month: str, day: str, days: int) -> date | None:
    try:
        moved = date(int(year), int(month), int(day)) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return moved if moved.year >= 1000 else None

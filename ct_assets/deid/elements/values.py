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
_FORMS = {
    "DS": re.compile(r"([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)?"),
    "IS": re.compile(r"([+-]?\d{1,12})?"),
    "CS": re.compile(r"[A-Z0-9 _]{0,16}"),
}
_YEARS_PER = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0}


def shifted_date(value: str, days: int) -> str | None:
    """Return a DA moved by whole days, as `YYYYMMDD` (PS3.5 6.2); ACR-NEMA's `YYYY.MM.DD` is read too.

    None where the value is no date, or the result has no year of four digits.
    """
    found = _DATE.fullmatch(value.strip(" \0"))
    if found is None:
        return None
    moved = _moved(found[4] or found[1], found[5] or found[2], found[6] or found[3], days)
    if moved is None:
        return None
    return f"{moved:%Y%m%d}"


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


def clock_time(value: str) -> str | None:
    """Return a TM (PS3.5 6.2); ACR-NEMA's form with colons is read too. None where the value is no time."""
    bare = value.strip(" \0")
    if not bare or _TIME.fullmatch(bare):
        return bare
    return bare.replace(":", "") if _OLD_TIME.fullmatch(bare) else None


def is_offset(value: str) -> bool:
    """Whether the value is an offset from UTC, `+0100` (PS3.3 C.12.1.1.1)."""
    return re.fullmatch(r"[+-]\d{4}", value.strip(" \0")) is not None


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


def fits(value: bytes, vr: str) -> bool:
    """Whether a text value has the form of its VR (PS3.5 6.2): numbers are numbers, codes are short capitals."""
    form = _FORMS.get(vr)
    parts = value.decode("latin-1").split("\\")
    return form is None or all(form.fullmatch(part.strip(" \0")) for part in parts)


def _moved(year: str, month: str, day: str, days: int) -> date | None:
    try:
        moved = date(int(year), int(month), int(day)) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return moved if moved.year >= 1000 else None

"""Dates in text: in digits, in words, and parts of dates, in the languages and orders of Europe and East Asia.

Belongs here: where a text may mean a date, and which. Does not: dates in DA and DT (`values`).

Two questions are asked. In a description every *plausible* date goes; what reads as a decimal number, a ratio or a
size (`1.25`, `5.1`) is plausible only with another sign of being a date (a month's name, a year, leading zeros). In a
label that research needs, only what agrees with one of the patient's *true* dates goes, however short: one true date
gives away the shift of all (PS3.15 E.3.6).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple

from ct_assets.deid.elements.spelling import words

Span = tuple[int, int]
Day = tuple[int, int, int]
"""Year, month, day."""

_UNITS = r"(?!\s?(?:c?gy|mm|cm|ml|mg|kv|ma|hz|hu|%|s\b|sec|min|x\d|mev|mv|mu))"
_GAP = r"[\s./_,–-]{0,3}"
_NUMERIC_GAP = r"(?:[./_|:–-]|\.\s|,\s?|\s)"
_ERAS = {"令和": 2018, "平成": 1988, "昭和": 1925, "大正": 1911}
_AMBIGUOUS_MONTHS = frozenset(
    words(
        """mar may set out ago mag gen ara eki nis tem haz kas oca lis gru lip sie cze kwi lut sty dic mart kovo liepa
        des ian mai mei maj maja jun jul jan dec sep oct nov apr feb aug abr ene dez okt"""
    )
)
"""Short names that other words or devices have too: in a description they need two digits or a year beside them."""


class Reading(NamedTuple):
    """What a date in a text may be; parts that it does not say are None."""

    year: int | None
    month: int | None
    day: int | None
    week: int | None = None

    def agrees(self, true: Day) -> bool:
        """Whether the true date may be meant."""
        year, month, day = true
        if self.year is not None and self.year != (year if self.year > 99 else year % 100):
            return False
        if self.week is not None:
            return _week(true) == self.week
        return self.month in (None, month) and self.day in (None, day)


@lru_cache(maxsize=1024)
def _week(day: Day) -> int | None:
    try:
        return date(*day).isocalendar().week
    except ValueError:
        return None


class Found(NamedTuple):
    """A place that may be a date."""

    span: Span
    readings: tuple[Reading, ...]
    is_plausible: bool


def spans(text: str, true: Iterable[Day], *, any_plausible: bool) -> list[Span]:
    """Return where dates stand in a text: those that agree with a true date, and where asked all plausible ones."""
    found = _found(text)
    if not found:
        return []
    days = tuple(true)
    return [
        one.span
        for one in found
        if (any_plausible and one.is_plausible)
        or any(reading.agrees(day) for day in days for reading in one.readings)
    ]


def day_of(value: str) -> Day | None:
    """Return the day of a DA or DT value, None where it has none (or is nobody's: 1900-01-01)."""
    digits = re.sub(r"\D", "", value[:10])[:8]
    if len(digits) < 8:
        return None
    try:
        read = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
    return None if read.year < 1850 or digits == "19000101" else (read.year, read.month, read.day)


@lru_cache(maxsize=4096)
def _found(text: str) -> tuple[Found, ...]:
    flat = _flat(text)
    return tuple(
        one for one in _all(flat) if any(reading != (None, None, None, None) for reading in one.readings)
    )


def _flat(text: str) -> str:
    """Return the text in small letters without accents, each character at its place."""
    if text.isascii():
        return text.lower()
    flat = []
    for character in text:
        plain = unicodedata.normalize("NFKD", character).casefold()[:1]
        if unicodedata.category(character) == "Nd":
            plain = str(unicodedata.digit(character))
        flat.append(plain or " ")
    return "".join(flat)


def _all(flat: str) -> Iterator[Found]:
    if any(character.isdigit() for character in flat):
        yield from _in_words(flat)
        yield from _in_digits(flat)
        yield from _weeks(flat)
        yield from _east_asian(flat)


@cache
def _months() -> dict[str, int]:
    listed = (resources.files("ct_assets.deid") / "data" / "month_names.txt").read_text("utf-8")
    months: dict[str, int] = {}
    for line in listed.splitlines():
        if line and not line.startswith("#"):
            for number, forms in enumerate(line.split(), start=1):
                months.update((_flat(form), number) for form in forms.split("/"))
    return months


@cache
def _word_patterns() -> tuple[re.Pattern[str], ...]:
    name = "|".join(sorted(_months(), key=len, reverse=True))
    month = rf"(?<![^\W\d_])(?P<month>{name})(?![^\W\d_])\.?"
    day, year = (
        r"(?<!\d)(?P<day>\d{1,2})(?:st|nd|rd|th|er|\.|o|a)?",
        r"'?(?P<year>(?:1[89]|20)\d\d|\d\d)(?!\d)",
    )
    small = r"(?:(?:of|de|di|den|del)\s)?"
    return (
        re.compile(rf"{day}{_GAP}{small}{month}(?:{_GAP}{small}{year})?"),
        re.compile(rf"{month}{_GAP}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:{_GAP}{year})?"),
        re.compile(rf"{month}{_GAP}(?:{small})?(?P<year>(?:1[89]|20)\d\d)(?!\d)"),
        re.compile(rf"(?<!\d)(?P<year>(?:1[89]|20)\d\d){_GAP}{month}(?:{_GAP}(?P<day>\d{{1,2}})(?!\d))?"),
    )


def _in_words(flat: str) -> Iterator[Found]:
    for pattern in _word_patterns():
        for match in pattern.finditer(flat):
            named = match.groupdict()
            month, name = _months()[named["month"]], named["month"]
            day = int(named["day"]) if named.get("day") else None
            year = int(named["year"]) if named.get("year") else None
            readings = [Reading(year, month, day)] if day is None or 1 <= day <= 31 else []
            if day is not None and year is None:
                readings.append(Reading(day, month, None))  # `Jan20`: the day, or the year
            digits = len(named.get("day") or "")
            is_plain = name not in _AMBIGUOUS_MONTHS or digits == 2 or year is not None
            yield Found(match.span(), tuple(readings), bool(readings) and is_plain)


_TRIPLE = re.compile(
    rf"(?<![\d.,])(\d{{1,4}})({_NUMERIC_GAP})(\d{{1,2}})({_NUMERIC_GAP})(\d{{4}}|\d\d)(?!\d)(?![.,]\d){_UNITS}"
)
_ROMAN = re.compile(
    r"(?<![^\W_])(\d{1,2})[./_\s-]{1,2}(i{1,3}|i?v|vi{1,3}|ix|xi{0,2})[./_\s-]{1,2}(\d{4}|\d\d)(?!\d)"
)
_ROMAN_MONTHS = dict(zip(words("i ii iii iv v vi vii viii ix x xi xii"), range(1, 13), strict=True))
_RUN = re.compile(r"(?<!\d)(?:\d{8}|\d{6})(?!\d)")
_PAIR = re.compile(
    rf"(?<![\d.,])(\d{{1,4}})([./_-])(\d{{4}}|\d\d?)(?!\d)(?P<dot>\.(?!\d))?(?![/-]\d){_UNITS}"
)
_YEAR = re.compile(rf"(?<![\d.])(?:1[89]|20)\d\d(?![\d.]\d?\d){_UNITS}(?!\d)")
_WEEK = re.compile(
    r"(?<![^\W\d_])(?P<name>kw|cw|wk|wo?che?|week|sem(?:aine|ana)?|settimana|uge|vecka|uke|hafta|ww?)"
)
_ISO_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)-?$")
_WEEK_NUMBER = re.compile(r"[\s.:_-]{0,2}(\d{1,2})(?!\d)(?:[\s./_-]{1,2}((?:20)?\d\d)(?!\d))?")


def _in_digits(flat: str) -> Iterator[Found]:
    for match in _TRIPLE.finditer(flat):
        is_clock = ":" in match[2] + match[4] and len(match[5]) < 4
        readings = () if is_clock else _triple(match[1], match[3], match[5])
        is_spaced = match[2].isspace() and match[4].isspace()
        yield Found(
            match.span(),
            readings,
            bool(readings) and (not is_spaced or len(match[5]) == 4 or len(match[1]) == 4),
        )
    for match in _ROMAN.finditer(flat):
        readings = _triple(match[1], str(_ROMAN_MONTHS[match[2]]), match[3])
        yield Found(match.span(), readings, bool(readings) and len(match[3]) == 4)
    for match in _RUN.finditer(flat):
        run = match[0]
        parts = [(run[:4], run[4:6], run[6:]), (run[:2], run[2:4], run[4:])] if len(run) == 8 else []
        parts = parts or [(run[:2], run[2:4], run[4:])]
        yield Found(match.span(), tuple(r for part in parts for r in _triple(*part)), len(run) == 8)
    for match in _PAIR.finditer(flat):
        yield from _pair(match)
    for match in _YEAR.finditer(flat):
        yield Found(match.span(), (Reading(int(match[0]), None, None),), False)


def _pair(match: re.Match[str]) -> Iterator[Found]:
    """Yield day and month, or month and year."""
    first, second, sign = match[1], match[3], match[2]
    a, b = int(first), int(second)
    if len(first) == 4 or len(second) == 4:
        year, month = (a, b) if len(first) == 4 else (b, a)
        if 1850 <= year <= 2099 and 1 <= month <= 12:
            yield Found(match.span(), (Reading(year, month, None),), True)
        return
    if len(first) > 2:
        return
    readings = [Reading(None, m, d) for d, m in ((a, b), (b, a)) if 1 <= d <= 31 and 1 <= m <= 12]
    is_padded, has_dot = len(first) == len(second) == 2, match["dot"] is not None
    is_plausible = (is_padded and (sign != "." or has_dot)) or (has_dot and max(a, b) > 12)
    is_day = bool(readings)
    if is_padded and sign != ".":
        readings += [Reading(y, m, None) for y, m in ((a, b), (b, a)) if 1 <= m <= 12]
    yield Found(match.span(), tuple(readings), is_plausible and is_day)


def _triple(first: str, second: str, third: str) -> tuple[Reading, ...]:
    a, b, c = int(first), int(second), int(third)
    orders = [(a, b, c), (c, b, a), (c, a, b)] if len(first) <= 2 and len(third) == 2 else []
    if len(first) == 4 and len(third) == 2:
        orders = [(a, b, c), (a, c, b)]
    elif len(third) == 4 and len(first) <= 2:
        orders = [(c, b, a), (c, a, b)]
    return tuple(
        Reading(year, month, day)
        for year, month, day in orders
        if 1 <= month <= 12 and 1 <= day <= 31 and (year < 100 or 1850 <= year <= 2099)
    )


def _weeks(flat: str) -> Iterator[Found]:
    for name in _WEEK.finditer(flat):
        number = _WEEK_NUMBER.match(flat, name.end())
        if number is None or not 1 <= int(number[1]) <= 53:
            continue
        year = int(number[2]) if number[2] else None
        start = name.start()
        if year is None and (iso := _ISO_YEAR.search(flat[max(start - 5, 0) : start])):
            year, start = int(iso[1]), start - len(iso[0])
        is_plain = name["name"] not in ("w", "ww", "sem") and (
            len(number[1]) == 2 or name["name"] in ("kw", "cw")
        )
        if is_plain or year is not None:  # `Week 3` is one of a treatment
            yield Found((start, number.end()), (Reading(year, None, None, int(number[1])),), is_plain)


_EAST = re.compile(
    r"(?:(?P<era>令和|平成|昭和|大正)?(?P<year>\d{1,4}|元)[年년]\s?)?(?P<month>\d{1,2})[月월]\s?(?:(?P<day>\d{1,2})[日일号]?)?"
)


def _east_asian(flat: str) -> Iterator[Found]:
    for match in _EAST.finditer(flat):
        year = None
        if match["year"]:
            year = (1 if match["year"] == "元" else int(match["year"])) + _ERAS.get(match["era"] or "", 0)
        month, day = int(match["month"]), int(match["day"]) if match["day"] else None
        yield Found(match.span(), (Reading(year, month, day),), 1 <= month <= 12)

"""Text: cleaning descriptions down to what is harmless.

Belongs here: which words and numbers a description may keep (PS3.15 E.3.5, Clean Descriptors), and the patterns of
identifiers that need no knowledge of the patient. Does not: the patient's known identifiers (`identifiers`), how
spellings are made comparable (`spelling`), dates and ages (`dates`, `ages`).
"""

import re
from bisect import bisect_left
from functools import cache
from importlib import resources

from ct_assets.deid.elements import dates
from ct_assets.deid.elements.spelling import fold

Span = tuple[int, int]

_WORDS_THAT_LEAD_ON = frozenset(
    [
        "of",
        "by",
        "for",
        "from",
        "at",
        "to",
        "with",
        "and",
        "or",
        "the",
        "a",
        "an",
        "in",
        "on",
        "per",
        "von",
        "dem",
        "der",
        "mit",
        "de",
    ]
)

_WORD = re.compile(r"[^\W_]+(?:[.,](?=\d)\d+)?")
_UNIT = (
    r"mm|cm|ml|mg|kv|kvp|ma|mas|s|sec|min|hu|mgy|gy|cgy|x|d|p|deg|bit|b|st|nd|rd|th|ms|hz|khz|mhz|t|mev|mv|mu"
)
_NUMBER_WORD = re.compile(rf"\d{{1,4}}(?:[.,]\d{{1,4}})?(?:{_UNIT})?", re.IGNORECASE)
_TECHNICAL_CODE = re.compile(
    r"[A-Za-z]{1,4}\d{1,3}[A-Za-z]{0,2}|\d{1,3}[A-Za-z]{1,3}|(?:(?i:th|co|lw|[cdtlsb])\d{1,2}){2}"
    r"|[A-Za-z]{1,2}\d{1,2}[A-Za-z]\d"
)
"""A short technical code, as of kernels, vertebrae, sequences and structures (`B31f`, `L5S1`, `GTV1`, `3D`): at most
three digits in a run and four in all. What is longer is somebody's number, unless all its letters are known words."""
_YEAR = re.compile(r"(?:19|20)\d\d")
_ABBREVIATION = re.compile(r"[A-Z]{1,3}|[a-z]")
_PHONE_DIGITS = 7
_BEFORE_A_TELEPHONE = re.compile(
    r"(?i:tel|telefono?n?|tél|phone|ph|fax|mobile?|mob|handy|cell|call|pager|dect|ext|durchwahl|tlf|puh)[\s.:#]*$"
)
_PATTERNS = re.compile(
    r"(?P<mail>(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
    r"|(?P<url>\b(?:https?|ftp)://\S+|\bwww\.\S+)"
    r"|(?P<uid>(?<![\d.])[0-2](?:\.\d+){5,}(?![\d.]))"
    r"|(?P<date>(?<!\d)(?:\d{1,2}[./_-]\d{1,2}[./_-](?:\d{4}|\d\d)|(?:19|20)\d\d[./_-]\d{1,2}[./_-]\d{1,2}"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?!\d))"
    r"|(?P<title>\b(?:Mrs?|Ms|Miss|Dr|Prof|Herrn?|Frau|Mme|Mlle|Sr|Sra)\b\.?(?:\s+[^\W\d_][\w'’-]*){1,3})"
    r"|(?P<phone>(?<![\w.])\+?\(?\d{2,5}\)?(?:[ /-]\(?\d{2,8}\)?){1,4}(?![\w.]))"
    r"|(?P<grouped>(?<![\w.])\d{2,5}(?:[./-]\d{2,5}){2,}(?![\w.]))"
    r"|(?P<number>(?<![\d.])\d{6,}(?![\d.]))",
)


@cache
def harmless_words() -> frozenset[str]:
    """The words that a description may keep, folded."""
    listed = (resources.files("ct_assets.deid") / "data" / "descriptor_words.txt").read_text("utf-8")
    return frozenset(
        word for line in listed.splitlines() if not line.startswith("#") for word in fold(line).split()
    )


def is_harmless_word(word: str) -> bool:
    """Whether one word says nothing about a person: a listed word, a short number or code, an abbreviation."""
    if fold(word) in harmless_words():
        return True
    if _YEAR.fullmatch(word):
        return False
    return any(pattern.fullmatch(word) for pattern in (_NUMBER_WORD, _TECHNICAL_CODE, _ABBREVIATION))


def merged(spans: list[Span]) -> list[Span]:
    """Return the spans in order, those that touch joined to one."""
    joined: list[Span] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


def overlaps(spans: list[Span], start: int, end: int) -> bool:
    """Whether one of the spans, as `merged` returns them, overlaps `start` to `end`."""
    place = bisect_left(spans, (end, end))
    return place > 0 and spans[place - 1][1] > start


def pattern_spans(text: str, *, is_value: bool = False) -> list[Span]:
    """Return where the text has the form of a date, telephone number, address of the net, title with name,
    UID or long number.

    In a technical value (`is_value`) numbers are the rule: only what has the seven digits of a telephone number is
    one, a long number by itself says nothing, `15.5.11` is a version, and a product may be named by where its code is
    published.
    """
    found = [one for one in _PATTERNS.finditer(text) if _is_telling(text, one)]
    return [one.span() for one in found if not is_value or _is_telling_in_value(one)]


def _is_telling(text: str, found: re.Match[str]) -> bool:
    """Whether what has the form of a number in groups is one: doses and fractions (`6600/33`, `45.0/25`) are not."""
    match found.lastgroup:
        case "date":
            return bool(dates.spans(found[0], (), any_plausible=True))
        case "grouped":
            return _is_long(found[0])
        case "phone":
            return (
                _is_long(found[0])
                or found[0].count("/") + found[0].count("-") + found[0].count(" ") > 1
                or _BEFORE_A_TELEPHONE.search(text, max(found.start() - 16, 0), found.start()) is not None
            )
    return True


def _is_telling_in_value(found: re.Match[str]) -> bool:
    match found.lastgroup:
        case "number" | "grouped":
            return False
        case "phone":
            return _is_long(found[0])
        case "date":
            return bool(re.search(r"(?<!\d)(?:19|20)\d\d", found[0]))
        case "url":
            return (
                re.match(
                    r"https?://(?:www\.)?(?:github|gitlab|sourceforge|bitbucket)\.(?:com|net|org)/", found[0]
                )
                is None
            )
    return True


def _is_long(number: str) -> bool:
    """Whether a number in groups has the digits of a telephone number."""
    return sum(character.isdigit() for character in number) >= _PHONE_DIGITS


def clean_description(text: str, known: list[Span]) -> str:
    """Return what a short description may keep: harmless words outside `known` and of no telling pattern.

    Unchanged text comes back as it is; otherwise the words that stay are joined by the signs that stood
    between them where both neighbours stay, else by a blank.
    """
    cut = merged([*known, *pattern_spans(text), *dates.spans(text, (), any_plausible=True)])
    kept: list[str] = []
    last_end: int | None = None
    is_changed = bool(cut)
    for found in _WORD.finditer(text):
        start, end = found.span()
        if overlaps(cut, start, end) or not _is_harmless_piece(found[0]):
            is_changed = True
            last_end = None
            continue
        if kept:
            kept.append(text[last_end:start] if last_end is not None else " ")
        kept.append(found[0])
        last_end = end
    return _without_loose_ends("".join(kept)) if is_changed else text


def _without_loose_ends(text: str) -> str:
    """Take off small words that led to a name: `GTV by`, `Tumour outline of`."""
    words = text.split(" ")
    while words and fold(words[-1]) in _WORDS_THAT_LEAD_ON:
        words.pop()
    return " ".join(words)


def is_harmless_text(text: str) -> bool:
    """Whether a free text as a whole is of harmless words only."""
    return clean_description(text, []) == text


def without_spans(text: str, spans: list[Span]) -> str:
    """Return the text without `spans`; runs of blanks left behind become one."""
    pieces, end = [], 0
    for start, stop in sorted(spans):
        pieces.append(text[end : max(start, end)])
        end = max(end, stop)
    pieces.append(text[end:])
    return re.sub(r" {2,}", " ", " ".join(pieces)).strip(" ,;:-_^/")


def _is_harmless_piece(word: str) -> bool:
    if is_harmless_word(word):
        return True
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", word)
    if len(parts) < 2 or "".join(parts) != word or _YEAR.search(word):
        return False
    has_digits = any(part.isdigit() for part in parts)
    return all(_is_harmless_part(part, beside_digits=has_digits) for part in parts)


def _is_harmless_part(part: str, *, beside_digits: bool) -> bool:
    if part.isdigit():
        return len(part) <= 3
    if beside_digits:  # abbreviations joined to digits are somebody's number
        return len(part) > 1 and (
            fold(part) in harmless_words() or bool(re.fullmatch(_UNIT, part, re.IGNORECASE))
        )
    return len(part) > 1 and is_harmless_word(part)

"""Text: folding for comparison, and cleaning descriptions down to what is harmless.

Belongs here: how spellings are made comparable, which words and numbers a description may keep (PS3.15
E.3.5, Clean Descriptors), and the patterns of identifiers that need no knowledge of the patient. Does not:
the patient's known identifiers (`identifiers`).
"""

import re
import unicodedata
from bisect import bisect_left
from functools import cache, lru_cache
from importlib import resources

Span = tuple[int, int]
LONGEST_REMEMBERED = 256
"""Characters of a text up to which its folded form is remembered."""

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

_LETTERS_THAT_DO_NOT_DECOMPOSE = {
    "ł": "l", "Ł": "l", "ø": "o", "Ø": "o", "đ": "d", "Đ": "d", "ð": "d", "Ð": "d", "þ": "th", "Þ": "th",
    "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ı": "i", "ħ": "h", "Ħ": "h", "ŧ": "t", "Ŧ": "t",
}  # fmt: skip
_TRANSLITERATIONS = str.maketrans(
    {
        "ä": "ae",
        "ö": "oe",
        "ü": "ue",
        "Ä": "Ae",
        "Ö": "Oe",
        "Ü": "Ue",
        "å": "aa",
        "Å": "Aa",
        "ø": "oe",
        "Ø": "Oe",
    }
)

_WORD = re.compile(r"[^\W_]+(?:[.,](?=\d)\d+)?")
_NUMBER_WORD = re.compile(
    r"\d{1,4}(?:[.,]\d{1,4})?(?:mm|cm|ml|mg|kv|kvp|ma|mas|s|sec|min|hu|mgy|gy|cgy|x|d|p|deg|bit|b|st|nd|rd|th)?"
    r"|[a-z]{1,4}\d{1,3}[a-z]{0,2}|\d{1,3}[a-z]{1,3}",
    re.IGNORECASE,
)
_YEAR = re.compile(r"(?:19|20)\d\d")
_ABBREVIATION = re.compile(r"[A-Z]{1,3}")
_PATTERNS = re.compile(
    r"(?P<mail>(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
    r"|(?P<url>\b(?:https?|ftp)://\S+|\bwww\.\S+)"
    r"|(?P<uid>(?<![\d.])[0-2](?:\.\d+){5,}(?![\d.]))"
    r"|(?P<date>(?<!\d)(?:\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d\d)|(?:19|20)\d\d[./-]\d{1,2}[./-]\d{1,2}"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?!\d))"
    r"|(?P<title>\b(?:Mrs?|Ms|Miss|Dr|Prof|Herrn?|Frau|Mme|Mlle|Sr|Sra)\b\.?(?:\s+[^\W\d_][\w'’-]*){1,3})"
    r"|(?P<phone>(?<![\w.])\+?\(?\d{2,5}\)?(?:[ /-]\(?\d{2,8}\)?){1,4}(?![\w.]))"
    r"|(?P<number>(?<![\d.])\d{6,}(?![\d.]))",
)


def fold(text: str) -> str:
    """Return the text as spellings are compared: no case, no accents, every run of other signs one blank."""
    return _fold_short(text) if len(text) <= LONGEST_REMEMBERED else _fold(text)


def _fold(text: str) -> str:
    return "".join(folded for folded, _ in folded_with_places(text)).strip()


_fold_short = lru_cache(maxsize=4096)(_fold)


def folded_with_places(text: str) -> list[tuple[str, int]]:
    """Return the folded characters with the index in `text` each comes from (for cutting spans out)."""
    characters: list[tuple[str, int]] = []
    blank = True
    for place, character in enumerate(text):
        folded = character.lower() if character.isascii() else _folded_character(character)
        for part in folded:
            if part.isalnum():
                characters.append((part, place))
                blank = False
            elif not blank:
                characters.append((" ", place))
                blank = True
    return characters


@lru_cache(maxsize=8192)
def _folded_character(character: str) -> str:
    plain = _LETTERS_THAT_DO_NOT_DECOMPOSE.get(character)
    if plain is None:
        decomposed = unicodedata.normalize("NFKD", character).casefold()
        plain = "".join(part for part in decomposed if not unicodedata.combining(part))
        if not plain and unicodedata.combining(character):
            return ""
    return plain or " "


def spellings(text: str) -> set[str]:
    """Return the folded spellings of a name: accents dropped, and written out (`ü` as u and as ue)."""
    return {fold(text), fold(unicodedata.normalize("NFC", text).translate(_TRANSLITERATIONS))} - {""}


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
    return bool(_NUMBER_WORD.fullmatch(word) or _ABBREVIATION.fullmatch(word))


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


def pattern_spans(text: str) -> list[Span]:
    """Return where the text has the form of a date, telephone number, address of the net, title with name,
    UID or long number."""
    return [found.span() for found in _PATTERNS.finditer(text)]


def clean_description(text: str, known: list[Span]) -> str:
    """Return what a short description may keep: harmless words outside `known` and of no telling pattern.

    Unchanged text comes back as it is; otherwise the words that stay are joined by the signs that stood
    between them where both neighbours stay, else by a blank.
    """
    cut = merged([*known, *pattern_spans(text)])
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
    return (
        len(parts) > 1
        and "".join(parts) == word
        and all(
            is_harmless_word(part) and not _YEAR.fullmatch(part) and (len(part) > 1 or part.isdigit())
            for part in parts
        )
    )

"""The known identifiers of a batch: what identifies its people, in every spelling that text may use.

Belongs here: what counts as an identifier, its spellings, and finding them in a text. Two kinds are kept
apart. *Strong* ones identify wherever they stand and are searched in every file of the batch: names of four
letters and more that are no ordinary word, numbers of five digits and more, addresses, institutions. *Weak*
ones (short names, names that are ordinary words: Hand, Stone, Philips) are searched only in descriptions and
free text of the same patient. Does not: reading them from files (`gather`).
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import ahocorasick
from pydicom._dicom_dict import DicomDictionary

from ct_assets.deid.elements.text import (
    Span,
    fold,
    folded_with_places,
    harmless_words,
    is_harmless_word,
    spellings,
)
from ct_assets.reasons.deid import REASONS

MIN_NAME_LETTERS = 4
MIN_DIGITS = 5
MIN_SUBSTRING_CHARACTERS = 6
"""From this length on an identifier is found inside longer words too, `LarkspindleH`."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass
class Identifiers:
    """Strong identifiers of the batch and weak ones by patient (pseudonym), folded."""

    strong: set[str] = field(default_factory=set)
    accented: set[str] = field(default_factory=set)
    """Words with letters outside ASCII as they are written, in lower case: a search in bytes needs them."""
    births: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Birth dates (`YYYYMMDD`) by patient (pseudonym)."""
    weak: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, kind: str, value: str, owner: str) -> None:
        """Take in one value. `kind`: `name`, `id` or `birth_date`; `owner`: the patient's pseudonym."""
        forms = _FORMS[kind](value)
        for form in forms:
            if is_strong(form):
                self.strong.add(form)
            elif len(form) >= 2 and not form.isdigit():
                self.weak[owner].add(form)
        if kind == "birth_date" and forms:
            self.births[owner].add(re.sub(r"\D", "", value))
        if not value.isascii():
            self.accented.update(
                word
                for word in re.findall(r"[^\W_]+", unicodedata.normalize("NFC", value).lower())
                if not word.isascii() and is_strong(fold(word))
            )

    @property
    def searched_everywhere(self) -> frozenset[str]:
        """What the leak scan searches: strong identifiers, folded and as written."""
        return frozenset(self.strong | self.accented)

    def merge(self, other: "Identifiers") -> None:
        """Take in what another part of the batch gathered."""
        self.strong |= other.strong
        self.accented |= other.accented
        for owner, dates in other.births.items():
            self.births[owner] |= dates
        for owner, forms in other.weak.items():
            self.weak[owner] |= forms


_STANDARD_UID = "1 2 840 10008 "
"""The Standard's root as `fold` writes it."""


@cache
def _nobodys_words() -> frozenset[str]:
    """Words that name nobody: harmless ones, those of DICOM's attributes, and those of our own pages.

    A damaged file can bring any of them where a name is expected; searched everywhere they would hold back
    every object and every page.
    """
    told = " ".join(text for row in REASONS for text in row)
    attributes = " ".join(f"{entry[2]} {entry[4]}" for entry in DicomDictionary.values())
    return harmless_words() | frozenset(fold(f"{told} {attributes} before after digest").split())


def is_strong(form: str) -> bool:
    """Whether a folded identifier identifies wherever it stands."""
    words = form.split()
    if form.startswith(_STANDARD_UID) or all(word in _nobodys_words() for word in words):
        return False
    digits = sum(character.isdigit() for character in form)
    letters = sum(character.isalpha() for character in form)
    if len(words) == 1:
        if not letters:
            return digits >= MIN_DIGITS
        if digits:
            return len(form) >= MIN_DIGITS
        return letters >= (2 if not form.isascii() and _is_ideographic(form) else MIN_NAME_LETTERS)
    if not letters:
        return digits >= MIN_DIGITS
    return digits + letters >= MIN_DIGITS and not all(is_harmless_word(word) for word in words)


def name_forms(value: str) -> set[str]:
    """Return the parts of a person's name and its whole, each in its spellings.

    All component groups count (alphabetic, ideographic, phonetic; PS3.5 6.2.1).
    """
    forms: set[str] = set()
    for group in re.split(r"[=\\]", value):
        for spelling in spellings(group):
            words = spelling.split()
            forms.update(words)
            if len(words) > 1:
                forms.add(" ".join(words))
                forms.add(" ".join((*words[1:], words[0])))
                forms.add(f"{words[1]} {words[0]}")
                forms.add(f"{words[0]} {words[1]}")
            if not spelling.isascii():
                forms.add("".join(words))
    return forms


def id_forms(value: str) -> set[str]:
    """Return a number, code, address or telephone number as one phrase, split and joined."""
    forms: set[str] = set()
    for part in value.split("\\"):
        for spelling in spellings(part):
            forms.add(spelling)
            words = spelling.split()
            if any(character.isdigit() for character in spelling):
                if len(words) > 1 and len(spelling) <= 24:
                    forms.add("".join(words))
                if len(words) == 1:
                    forms.add(" ".join(re.findall(r"[^\W\d]+|\d+", spelling)))
    if "," in value and any(character.isdigit() for character in value):
        forms.update(form for part in value.split(",") for form in spellings(part) if len(form) >= 8)
    return forms


def birth_date_forms(value: str) -> set[str]:
    """Return the spellings of a birth date that notes use."""
    digits = re.sub(r"\D", "", value)
    if len(digits) != 8 or digits.startswith(("0000", "190001")):
        return set()
    year, month, day = digits[:4], digits[4:6], digits[6:]
    forms = {f"{year}{month}{day}", f"{year} {month} {day}", f"{day} {month} {year}", f"{month} {day} {year}"}
    forms |= {f"{day}{month}{year}", f"{int(day)} {int(month)} {year}", f"{int(month)} {int(day)} {year}"}
    if 1 <= int(month) <= 12:
        name = _MONTHS[int(month) - 1]
        forms |= {f"{day} {name} {year}", f"{int(day)} {name} {year}", f"{name} {int(day)} {year}"}
    return forms


_FORMS = {"name": name_forms, "id": id_forms, "birth_date": birth_date_forms}


class Finder:
    """Finds known identifiers in text."""

    def __init__(self, identifiers: Identifiers) -> None:
        self._strong = _automaton(identifiers.strong)
        self._weak = identifiers.weak
        self._weak_automata: dict[str, ahocorasick.Automaton | None] = {}

    def spans(self, text: str, owner: str, *, is_free_text: bool) -> list[Span]:
        """Return where identifiers stand in `text`; in free text the owner's weak ones too."""
        if len(text) < 2:
            return []
        pairs = folded_with_places(unicodedata.normalize("NFC", text) if not text.isascii() else text)
        haystack = "".join(character for character, _ in pairs)
        found = list(_matches(self._strong, haystack, whole_words=False))
        if is_free_text:
            found += _matches(self._weak_of(owner), haystack, whole_words=True)
        return [(pairs[start][1], pairs[end - 1][1] + 1) for start, end in found]

    def _weak_of(self, owner: str) -> ahocorasick.Automaton | None:
        if owner not in self._weak_automata:
            self._weak_automata[owner] = _automaton(self._weak.get(owner, set()))
        return self._weak_automata[owner]


def _automaton(forms: Iterable[str]) -> ahocorasick.Automaton | None:
    automaton = ahocorasick.Automaton()
    for form in forms:
        automaton.add_word(form, len(form))
    if not len(automaton):
        return None
    automaton.make_automaton()
    return automaton


def _matches(automaton: ahocorasick.Automaton | None, haystack: str, *, whole_words: bool) -> Iterable[Span]:
    if automaton is None:
        return
    for last, length in automaton.iter(haystack):
        start, end = last + 1 - length, last + 1
        if _is_bounded(haystack, start, end, whole_words=whole_words):
            yield start, end


def _is_bounded(haystack: str, start: int, end: int, *, whole_words: bool) -> bool:
    """Digits never match inside a longer run of digits; only long single words match inside longer words."""
    before = haystack[start - 1] if start else " "
    after = haystack[end] if end < len(haystack) else " "
    if whole_words:
        return not (before.isalnum() or after.isalnum())
    if (haystack[start].isdigit() and before.isdigit()) or (haystack[end - 1].isdigit() and after.isdigit()):
        return False
    form = haystack[start:end]
    if _is_ideographic(form) or (len(form) >= MIN_SUBSTRING_CHARACTERS and " " not in form):
        return True
    return not (
        (haystack[start].isalpha() and before.isalpha()) or (haystack[end - 1].isalpha() and after.isalpha())
    )


def _is_ideographic(text: str) -> bool:
    return any("\u2e80" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7af" for character in text)

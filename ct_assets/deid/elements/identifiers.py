"""The known identifiers of a batch, by the patient they belong to, and finding them in a text.

Belongs here: whose identifiers are searched where. Does not: the forms of a value (`derive`), reading values from
files (`batch.gather`).

The rule: a patient's identifiers are searched in that patient's objects (everything that shares a patient number or a
study). In the objects of all patients of the batch only what cannot be an ordinary word is searched: whole names,
numbers of six digits and more, codes of letters and digits, addresses of the net; they stand in others' objects where
exports were mixed up. Neither changes coded strings (CS) or codes of standard terminologies, but for a patient's own
identifiers that are no word of medicine.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

import ahocorasick

from ct_assets.deid.elements import ages, dates
from ct_assets.deid.elements.derive import Sure, forms
from ct_assets.deid.elements.spelling import Spelt, fold, is_ideographic, spelt, words

Span = tuple[int, int]

_HONORIFICS = tuple(
    words("女士 先生 小姐 太太 氏 さん さま 様 君 くん ちゃん 님 씨 教授 医生 大夫 老师 同志 夫人 患者")
)
"""What makes a family name of one ideograph a name."""


class Where(Enum):
    """What kind of text is searched."""

    FREE = "free"
    """Descriptions, labels, remarks: everything of the patient's own is searched."""
    KEPT = "kept"
    """Technical values: what identifies for sure."""
    CODED = "coded"
    """Coded strings and standard codes: the patient's own that is no word of medicine."""


Kind = str


class Sought(NamedTuple):
    """Where the leak scan searches a form."""

    owners: frozenset[str] | None
    """Pseudonyms of the patients in whose objects; None: in all."""
    is_inside: bool
    """Inside longer words too."""


@dataclass
class Identifiers:
    """Forms by patient (pseudonym); what belongs to nobody in the batch is under ""."""

    forms: dict[str, dict[str, Sure]] = field(default_factory=lambda: defaultdict(dict))
    written: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Words with letters outside ASCII as they are written, in small letters: a search in bytes needs them."""
    births: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Birth dates (`YYYYMMDD`)."""
    days: dict[str, set[dates.Day]] = field(default_factory=lambda: defaultdict(set))
    """True dates of any kind."""

    def add(self, kind: Kind, value: str, owner: str) -> None:
        """Take in one value of a patient; `kind` as `derive.forms` has it."""
        if kind in ("birth_date", "date"):
            day = _birth_day(value) if kind == "birth_date" else dates.day_of(value)
            if day is not None:
                self.days[owner].add(day)
                if kind == "birth_date":
                    self.births[owner].add("{:04d}{:02d}{:02d}".format(*day))
            if kind == "date":
                return
        known = self.forms[owner]
        for form, sure in _forms(kind, value):
            known[form] = known.get(form, Sure.OWN) | sure
        if not value.isascii():
            self.written[owner].update(
                word
                for word in re.findall(r"[^\W_]+", unicodedata.normalize("NFC", value).lower())
                if not word.isascii() and known.get(fold(word).replace(" ", ""), Sure.OWN) & Sure.STRONG
            )

    def join(self, owners: Iterable[str]) -> None:
        """Make several pseudonyms share what is known of each: they are one person, or share a study."""
        first, *rest = sorted(owners)
        for owner in rest:
            for form, sure in self.forms[owner].items():
                self.forms[first][form] = self.forms[first].get(form, Sure.OWN) | sure
            self.written[first] |= self.written[owner]
            self.births[first] |= self.births[owner]
            self.days[first] |= self.days[owner]
        for owner in rest:
            self.forms[owner], self.written[owner] = self.forms[first], self.written[first]
            self.births[owner], self.days[owner] = self.births[first], self.days[first]

    def searched(self) -> dict[str, Sought]:
        """Return what the leak scan searches: forms and words as written, with the patients in whose objects."""
        owners: dict[str, set[str]] = defaultdict(set)
        sure_of: dict[str, Sure] = defaultdict(lambda: Sure.OWN)
        for owner, known in self.forms.items():
            for form, sure in known.items():
                if sure & Sure.WIDE or (sure & Sure.STRONG and owner):
                    owners[form].add(owner)
                    sure_of[form] |= sure
        for owner, written in self.written.items():
            for word in written if owner else ():
                owners[word].add(owner)
                sure_of[word] |= self.forms[owner].get(fold(word).replace(" ", ""), Sure.OWN) & ~Sure.WIDE
        return {
            form: Sought(
                None if sure_of[form] & Sure.WIDE else frozenset(of), bool(sure_of[form] & Sure.INSIDE)
            )
            for form, of in sorted(owners.items())
        }

    def strong(self, owner: str) -> set[str]:
        """Return the forms that mean a patient in every text of theirs, and the words as written."""
        known = self.forms.get(owner, {})
        return {form for form, sure in known.items() if sure & Sure.STRONG} | self.written.get(owner, set())


@lru_cache(maxsize=16384)
def _forms(kind: Kind, value: str) -> frozenset[tuple[str, Sure]]:
    return frozenset(forms(kind, value))


def _birth_day(value: str) -> dates.Day | None:
    """Return the day of a birth date as DICOM or a clinic's table writes it."""
    digits = re.findall(r"\d+", value)
    if len(digits) == 3 and len(digits[2]) == 4:
        digits.reverse()
    return dates.day_of("".join(part.zfill(2) for part in digits))


class Finder:
    """Finds known identifiers in text."""

    def __init__(self, identifiers: Identifiers) -> None:
        self._forms = identifiers.forms
        self._days = {owner: tuple(sorted(days)) for owner, days in identifiers.days.items()}
        self._births = identifiers.births
        self._wide = _automaton(
            {
                form: sure
                for known in identifiers.forms.values()
                for form, sure in known.items()
                if sure & Sure.WIDE
            }
        )
        self._of = lru_cache(maxsize=64)(self._own)
        self.ages_above = lru_cache(maxsize=64)(self._ages_above)

    def days(self, owner: str) -> tuple[dates.Day, ...]:
        """Return the true dates of a patient."""
        return self._days.get(owner, ())

    def _ages_above(self, years: int, owner: str) -> frozenset[int]:
        """Return the patient's ages above so many years, on the days of the record."""
        births = [day for birth in self._births.get(owner, ()) if (day := dates.day_of(birth))]
        return frozenset(age for age in ages.of_days(births, self.days(owner)) if age > years)

    def spans(self, text: str, owner: str, where: Where = Where.FREE) -> list[Span]:
        """Return where identifiers stand in a text of the patient's object."""
        own = self._of(owner)
        if len(text) < 2 or (own is None and self._wide is None):
            return [] if len(text) < 1 or own is None else _matches(own, spelt(text), text, where)
        read = spelt(text)
        found = _matches(own, read, text, where) if own is not None else []
        if self._wide is not None and where is not Where.CODED:
            found += _matches(self._wide, read, text, where)
        return found

    def _own(self, owner: str) -> ahocorasick.Automaton | None:
        return _automaton(self._forms.get(owner, {}))


def _automaton(known: Mapping[str, Sure]) -> ahocorasick.Automaton | None:
    joined: dict[str, Sure] = {}
    for form, sure in known.items():
        bare = form.replace(" ", "")
        joined[bare] = joined.get(bare, Sure.OWN) | sure
    automaton = ahocorasick.Automaton()
    for bare, sure in joined.items():
        automaton.add_word(bare, (len(bare), int(sure)))
    if not len(automaton):
        return None
    automaton.make_automaton()
    return automaton


def _matches(automaton: ahocorasick.Automaton, read: Spelt, text: str, where: Where) -> list[Span]:
    found = []
    for last, (length, flags) in automaton.iter(read.letters):
        sure = Sure(flags)
        start, end = last + 1 - length, last + 1
        if where is not Where.FREE and not sure & Sure.STRONG:
            continue
        if _is_found(read, text, start, end, sure):
            found.append(read.span(start, end))
    return found


def _is_found(read: Spelt, text: str, start: int, end: int, sure: Sure) -> bool:
    form = read.letters[start:end]
    if len(form) == 1:
        return is_ideographic(form) and _is_addressed(read, end)
    is_unbroken = read.is_unbroken(start, end)
    if (form[0].isdigit() and not read.begins[start]) or (form[-1].isdigit() and not read.ends[end - 1]):
        return False
    if read.is_whole(start, end):
        first, stop = read.span(start, end)
        # `4.711` is a number, not the identifier 4711
        return is_unbroken or len(form) > 5 or not (form.isdigit() and set(".,") & set(text[first:stop]))
    return bool(sure & Sure.INSIDE) and is_unbroken


def _is_addressed(read: Spelt, end: int) -> bool:
    """Whether a family name of one ideograph stands alone or before a form of address."""
    if any(read.letters.startswith(fold(title).replace(" ", ""), end) for title in _HONORIFICS):
        return True
    is_alone_behind = (
        end >= len(read.letters)
        or read.gaps[end] > read.gaps[end - 1]
        or not is_ideographic(read.letters[end])
    )
    before = end - 2
    is_alone_before = (
        before < 0 or read.gaps[before] < read.gaps[end - 1] or not is_ideographic(read.letters[before])
    )
    return is_alone_behind and is_alone_before

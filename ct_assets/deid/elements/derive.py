"""From one known value of a patient to every form in which a text may repeat it.

Belongs here: names (parts, joined, initials, particles, romanised), numbers (parts, without leading zeros), addresses
and telephone numbers (parts), each with how sure a find of the form is. Does not: searching (`identifiers`).

The guard against false alarms: a form that is a word of medicine or of DICOM identifies only where its own patient's
free text holds it as a word of its own; what is joined from parts (`LuNg`) and is such a word is dropped.
"""

import re
import unicodedata
from collections.abc import Iterator
from enum import IntFlag
from functools import cache

from pydicom._dicom_dict import DicomDictionary

from ct_assets.deid.elements.spelling import fold, is_ideographic, medical_words, words
from ct_assets.deid.elements.text import harmless_words
from ct_assets.reasons.deid import REASONS

MIN_NAME_LETTERS = 4
MIN_DIGITS = 5
MIN_SUBSTRING_CHARACTERS = 6
"""From this length on a name is found inside longer words too, `LarkspindleH`."""
MIN_WIDE_LETTERS, MIN_WIDE_DIGITS = 7, 6
MIN_PART_DIGITS, MIN_PART_LETTERS = 4, 5


class Sure(IntFlag):
    """How sure it is that a form means the patient."""

    OWN = 0
    """In the patient's own descriptions, labels and free texts, as whole words."""
    STRONG = 1
    """In every text of the patient's objects; the leak scan searches it."""
    INSIDE = 2
    """Inside longer words too."""
    WIDE = 4
    """In the objects of all patients of the batch: a whole name, a long number, an address of the net."""


Form = tuple[str, Sure]
"""Words in normal form with a blank between them, and how sure a find is."""

_PARTICLES = frozenset(
    words(
        """van von vom zu zum zur de der den del della dello di da das do dos du des la le les el al ter ten ibn bin binti
        bint abu mac mc o st san santa af av und y e i ben bat dal degli d l"""
    )
)
_TITLES = frozenset(
    words(
        """dr prof professor mr mrs ms miss mx herr frau mme mlle md phd jr sr ii iii iv med dipl ing sir lady dame dott
        sra fr hr geb nee esq rn mag bsc msc"""
    )
)
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
_OTHER_ROMANISATIONS: tuple[dict[int, str], ...] = (
    str.maketrans({"х": "h", "ж": "j", "ц": "c", "ч": "c", "ш": "s", "щ": "sc", "ю": "ju", "я": "ja", "й": "j", "ё": "jo"}
                  | {"ы": "y", "э": "e", "Х": "H", "Ж": "J", "Ц": "C", "Ю": "Ju", "Я": "Ja", "Й": "J", "Ё": "Jo"}),
    str.maketrans({"х": "ch", "ж": "sch", "в": "w", "з": "s", "ц": "z", "ч": "tsch", "ш": "sch", "щ": "schtsch"}
                  | {"ю": "ju", "я": "ja", "й": "j", "ё": "jo", "В": "W", "З": "S", "Ц": "Z", "Ч": "Tsch", "Ш": "Sch"}),
    str.maketrans({"ё": "yo", "й": "y", "Ё": "Yo", "Й": "Y", "г": "h", "Г": "H", "и": "y", "И": "Y"}),
    str.maketrans({"η": "e", "υ": "u", "χ": "h", "φ": "ph", "β": "b", "Η": "E", "Υ": "U", "Χ": "H", "Φ": "Ph", "Β": "B"}),
)  # fmt: skip
_KANA = dict(
    zip(
        "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん",
        words(
            """a i u e o ka ki ku ke ko sa shi su se so ta chi tsu te to na ni nu ne no ha hi fu he ho ma mi mu me mo
            ya yu yo ra ri ru re ro wa o n"""
        ),
        strict=True,
    )
) | dict(
    zip(
        "がぎぐげござじずぜぞだぢづでどばびぶべぼぱぴぷぺぽ",
        words("ga gi gu ge go za ji zu ze zo da ji zu de do ba bi bu be bo pa pi pu pe po"),
        strict=True,
    )
)
_HANGUL = tuple(
    row.split(",")
    for row in (
        "g,kk,n,d,tt,r,m,b,pp,s,ss,,j,jj,ch,k,t,p,h",
        "a,ae,ya,yae,eo,e,yeo,ye,o,wa,wae,oe,yo,u,wo,we,wi,yu,eu,ui,i",
        ",k,k,k,n,n,n,t,l,k,m,l,l,l,p,l,m,p,p,t,t,ng,t,t,k,t,p,t",
    )
)
"""Initial consonants, vowels and final consonants in the order of Unicode's syllables."""
_STANDARD_UID = "1 2 840 10008 "


@cache
def _ambiguous_words() -> frozenset[str]:
    """Words that name nobody by themselves: of medicine, of DICOM, and those of our own pages."""
    told = " ".join(text for row in REASONS for text in row)
    attributes = " ".join(f"{entry[2]} {entry[4]}" for entry in DicomDictionary.values())
    return (
        harmless_words()
        | medical_words()
        | frozenset(fold(f"{told} {attributes} before after digest").split())
    )


def is_ambiguous(word: str) -> bool:
    """Whether a folded word is one of medicine or of DICOM."""
    return word in _ambiguous_words()


def forms(kind: str, value: str) -> set[Form]:
    """Return the forms of one value. `kind`: `name`, `patient_id`, `id`, `birth_date`, `date` or `note`."""
    made: Iterator[Form]
    match kind:
        case "name":
            made = _of_name(value)
        case "patient_id":
            made = _of_id(value, is_patient=True)
        case "id":
            made = _of_id(value, is_patient=False)
        case "note":
            made = _of_note(value)
        case "birth_date":
            made = _of_birth_date(value)
        case _:
            return set()
    best: dict[str, Sure] = {}
    for form, sure in made:
        if form and not form.startswith(_STANDARD_UID):
            best[form] = best.get(form, Sure.OWN) | sure
    return set(best.items())


def spellings(text: str) -> set[str]:
    """Return the folded spellings of a name: accents dropped, written out (`ü` as u and as ue) and the way back."""
    composed = unicodedata.normalize("NFC", text)
    found = {fold(composed), fold(composed.translate(_TRANSLITERATIONS))}
    if not composed.isascii():
        found |= {fold(composed.translate(table)) for table in _OTHER_ROMANISATIONS}
    plain = fold(composed)
    found.add(plain.replace("ue", "u").replace("oe", "o").replace("ae", "a"))
    romanised = _romanised(composed)
    if romanised:
        found.add(fold(romanised))
    return found - {""}


def _romanised(text: str) -> str:
    """Return kana and Hangul in Latin letters (Hepburn, Revised Romanisation); "" where there are none."""
    pieces: list[str] = []
    has_any, doubles = False, False
    for character in unicodedata.normalize("NFKC", text):
        code = ord(character)
        if "\u30a1" <= character <= "\u30f6":
            character = chr(code - 0x60)
        if 0xAC00 <= code <= 0xD7A3:
            first, rest = divmod(code - 0xAC00, 588)
            pieces.append(_HANGUL[0][first] + _HANGUL[1][rest // 28] + _HANGUL[2][rest % 28])
            has_any = True
        elif character in "ゃゅょ" and pieces and pieces[-1].endswith("i"):
            vowel = {"ゃ": "a", "ゅ": "u", "ょ": "o"}[character]
            stem = pieces[-1][:-1]
            pieces[-1] = stem + ("" if stem.endswith(("sh", "ch", "j")) else "y") + vowel
        elif character == "っ":
            doubles = True
        elif character in _KANA:
            sound = _KANA[character]
            pieces.append((sound[0] if doubles else "") + sound)
            has_any, doubles = True, False
        elif character == "ー":
            continue
        else:
            pieces.append(character)
    return "".join(pieces) if has_any else ""


# Names


def _of_name(value: str) -> Iterator[Form]:
    for group in re.split(r"[=\\]", value):
        if not group.strip(" ^"):
            continue
        given_first = "^" not in group and "," not in group
        parts = group.replace(",", "^", 1).split("^") if "^" not in group else group.split("^")
        for whole in spellings(" ".join(parts)):
            yield from ((word, _sure_of_word(word)) for word in whole.split() if _names(word))
        family = _components(parts[0])
        given = [word for part in parts[1:3] for word in _components(part)]
        if given_first and len(family) > 1:
            family, given = [family[-1]], family[:-1]
        yield from _joined(family, given)
        if any(character.isdigit() for character in group):
            yield from _of_id(group, is_patient=False)
        if "@" in group:
            yield from _of_mail(group)


def _components(part: str) -> list[set[str]]:
    """Return the words of a component, each as its spellings without signs (`o'brien` as `obrien`)."""
    words = [word for word in part.split() if fold(word).replace(" ", "") not in _TITLES]
    return [{spelling.replace(" ", "") for spelling in spellings(word)} for word in words if fold(word)]


def _joined(family: list[set[str]], given: list[set[str]]) -> Iterator[Form]:
    """Yield family and given names joined, with and without particles, and with initials."""
    core = [word for word in family if not word & _PARTICLES] or family
    families = _runs(family) | _runs(core) | {name for word in core for name in word}
    givens = _runs(given) | {name for word in given for name in word}
    for name in families | givens:
        if _names(name):
            yield name, _sure_of_word(name)
    for first in sorted(families - _PARTICLES):
        for second in sorted(givens - _PARTICLES):
            yield _form_of_pair(first, second)
            yield _form_of_pair(second, first)
    initials = {"".join(choice) for choice in _initials(given)}
    for name in sorted(families - _PARTICLES):
        for initial in sorted(initials - {""}):
            for joined in (initial + name, name + initial):
                if (
                    not is_ideographic(joined)
                    and not is_ambiguous(joined)
                    and len(joined) >= MIN_NAME_LETTERS
                ):
                    yield joined, Sure.STRONG if len(joined) > MIN_NAME_LETTERS else Sure.OWN


def _runs(words: list[set[str]]) -> set[str]:
    """Return the words joined, in each of their spellings (of few)."""
    joined = {""}
    for word in words[:5]:
        joined = {before + spelling for before in joined for spelling in sorted(word)[:4]}
        if len(joined) > 16:
            joined = set(sorted(joined)[:16])
    return joined - {""}


def _initials(given: list[set[str]]) -> set[tuple[str, ...]]:
    letters = [tuple(sorted({spelling[0] for spelling in word})) for word in given if word]
    found: set[tuple[str, ...]] = set()
    if letters:
        found |= {(letter,) for letter in letters[0]}
        found.add(tuple(choice[0] for choice in letters))
    return found


def _form_of_pair(first: str, second: str) -> Form:
    joined = first + second
    letters = sum(character.isalpha() for character in joined)
    if is_ideographic(joined):
        wide = Sure.WIDE if letters >= 3 else Sure.OWN
        return f"{first} {second}", Sure.STRONG | Sure.INSIDE | wide
    if is_ambiguous(joined) or letters < MIN_NAME_LETTERS:
        return "", Sure.OWN
    if min(len(first), len(second)) < 2 or letters < MIN_WIDE_LETTERS:
        return f"{first} {second}", Sure.STRONG if letters > MIN_NAME_LETTERS else Sure.OWN
    if is_ambiguous(first) and is_ambiguous(second):
        return f"{first} {second}", Sure.OWN
    return f"{first} {second}", Sure.STRONG | Sure.WIDE


def _names(word: str) -> bool:
    """Whether a word of a name is no particle and no title."""
    return word not in _PARTICLES and word not in _TITLES and (len(word) > 1 or is_ideographic(word))


def _sure_of_word(word: str) -> Sure:
    """Return how sure a single word is."""
    if is_ambiguous(word):
        return Sure.OWN
    if is_ideographic(word):
        return Sure.STRONG | Sure.INSIDE if len(word) >= 2 else Sure.OWN
    letters = sum(character.isalpha() for character in word)
    if letters < MIN_NAME_LETTERS:
        return Sure.OWN
    return Sure.STRONG | (Sure.INSIDE if len(word) >= MIN_SUBSTRING_CHARACTERS else Sure.OWN)


# Numbers, codes, addresses


def _of_id(value: str, *, is_patient: bool) -> Iterator[Form]:
    for part in value.split("\\"):
        if "@" in part:
            yield from _of_mail(part)
        for spelling in spellings(part):
            yield from _of_whole_id(spelling, is_patient=is_patient)
        yield from _of_parts(part, is_patient=is_patient)
        yield from _of_telephone(part)


def _of_whole_id(spelling: str, *, is_patient: bool) -> Iterator[Form]:
    words = spelling.split()
    joined = "".join(words)
    digits = sum(character.isdigit() for character in joined)
    if len(joined) < 2 or (len(words) == 1 and is_ambiguous(spelling) and not is_patient):
        return
    if all(is_ambiguous(word) for word in words) and not (is_patient and digits):
        if is_patient:
            yield spelling, Sure.OWN
        return
    if joined.isdigit():
        for number in {joined, joined.lstrip("0")}:
            yield number, _sure_of_number(number)
        return
    if not digits:
        if len(words) == 1:
            yield spelling, _sure_of_word(spelling)
        elif len(joined) >= MIN_DIGITS:
            yield spelling, Sure.STRONG
        return
    if len(joined) < MIN_DIGITS:
        yield joined, Sure.OWN
        return
    is_wide = len(joined) <= 24 and (
        digits >= MIN_WIDE_DIGITS or (digits >= 3 and len(joined) >= MIN_WIDE_LETTERS)
    )
    inside = Sure.INSIDE if len(joined) >= MIN_SUBSTRING_CHARACTERS else Sure.OWN
    yield spelling, Sure.STRONG | (Sure.WIDE if is_wide else Sure.OWN)
    if len(joined) <= 24:
        yield joined, Sure.STRONG | inside | (Sure.WIDE if is_wide else Sure.OWN)
        yield " ".join(re.findall(r"[^\W\d]+|\d+", joined)), Sure.STRONG


def _sure_of_number(number: str) -> Sure:
    if len(number) < MIN_DIGITS:
        return Sure.OWN
    return Sure.STRONG | (Sure.WIDE if len(number) >= MIN_WIDE_DIGITS else Sure.OWN)


def _of_parts(value: str, *, is_patient: bool) -> Iterator[Form]:
    """Yield the parts of a composite identifier that identify by themselves: `QV-44719`, `VellmontSaskia57`."""
    runs = re.findall(r"\d+|[^\W\d_]+", value)
    if len(runs) < 2 and not re.search(r"(?<=[a-z])[A-Z]", value):
        return
    is_sure = len(value.split()) == 1 or any(run.isdigit() for run in runs)  # names of institutions are words
    for run in runs:
        if run.isdigit():
            if len(run) >= MIN_DIGITS or (is_patient and len(run) >= MIN_PART_DIGITS):
                for number in {run, run.lstrip("0")}:
                    yield number, _sure_of_number(number) & ~Sure.WIDE
            continue
        for word in (run, *re.findall(r"[^\W\d_a-z][^\W\d_A-Z]+", run)):
            for spelling in spellings(word):
                if len(spelling) >= MIN_PART_LETTERS and " " not in spelling and not is_ambiguous(spelling):
                    yield spelling, _sure_of_word(spelling) if is_sure else Sure.OWN


def _of_telephone(value: str) -> Iterator[Form]:
    """Yield the ends of a telephone number that stand for it: without country and area."""
    if not re.fullmatch(r"[\d\s()+./-]{7,24}", value.strip()) or not re.search(r"\d[\s()./-]+\d", value):
        return
    groups = re.findall(r"\d+", value)
    for start in range(len(groups)):
        number = "".join(groups[start:])
        if 6 <= len(number) <= 15:
            yield number, Sure.STRONG | (Sure.WIDE if len(number) > 8 else Sure.OWN)
            yield f"0{number}", Sure.STRONG


def _of_mail(value: str) -> Iterator[Form]:
    for local, domain in re.findall(r"([\w.+-]{1,64})@([\w.-]{1,253})", value):
        yield fold(f"{local}@{domain}"), Sure.STRONG | Sure.WIDE
        for word in (*fold(local).split(), *fold(domain).split()[:-1]):
            if len(word) >= MIN_NAME_LETTERS and not is_ambiguous(word):
                yield word, _sure_of_word(word)


def _of_birth_date(value: str) -> Iterator[Form]:
    """Yield the spellings of a birth date that are searched in bytes; `dates` knows more of them in texts."""
    parts = re.findall(r"\d+", value)
    if len(parts) == 3 and len(parts[2]) == 4:
        parts.reverse()
    digits = "".join(part.zfill(2) for part in parts)
    if len(digits) != 8 or digits.startswith(("0000", "190001")):
        return
    year, month, day = digits[:4], digits[4:6], digits[6:]
    yield from ((form, Sure.STRONG) for form in (f"{year}{month}{day}", f"{day}{month}{year}"))
    for first, second, third in ((year, month, day), (day, month, year), (month, day, year)):
        yield f"{first} {second} {third}", Sure.STRONG
        yield f"{int(first)} {int(second)} {int(third)}", Sure.STRONG
    if 1 <= int(month) <= 12:
        name = _MONTHS[int(month) - 1]
        yield from ((f"{day} {name} {year}", Sure.STRONG), (f"{name} {int(day)} {year}", Sure.STRONG))


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CALLED = re.compile(
    r"(?i:known as|called|alias|a\.?k\.?a\.?|nickname|nick|goes by|genannt|gen\.|n[ée]e|geb\.|geborene?|dite?"
    r"|dett[oa]|apodo|llamad[ao]|zwan[ay]|kaldt|kallad|born|formerly|maiden name)[\s:\"'„“(]{1,4}([^\W\d_][\w'’-]+)"
)
_CAPITALISED = re.compile(r"(?<![\w])[^\W\d_](?:[^\W\d_]|['’-]){3,}")


def _of_note(value: str) -> Iterator[Form]:
    """Yield the names in a remark about the patient: who is called so, and unusual capitalised words."""
    names = set(_CALLED.findall(value))
    names |= {word for word in _CAPITALISED.findall(value) if word[0].isupper()}
    for name in names:
        for spelling in spellings(name):
            joined = spelling.replace(" ", "")
            if not is_ambiguous(joined):
                yield joined, _sure_of_word(joined)

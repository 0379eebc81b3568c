"""Spelling: the one normal form in which texts and identifiers are compared.

Belongs here: case, accents, full and half width, look-alike letters, zero-width signs, romanisation, variant
ideographs, and where words begin and end. Does not: what an identifier is (`derive`), searching (`identifiers`).

A word of Latin letters with Cyrillic or Greek look-alikes among them is read as Latin; a word that is wholly
Cyrillic or Greek is romanised, so that `Иванов` and `Ivanov` compare equal whichever of them the header holds.
Ideographs compare in their simplified form; katakana as hiragana.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

LONGEST_REMEMBERED = 256
"""Longer texts are folded anew each time, so that memory stays bounded."""


def words(listed: str) -> list[str]:
    """Return the words of a list that is written with blanks between them."""
    return listed.split()


LETTERS_THAT_DO_NOT_DECOMPOSE = {
    "ł": "l", "Ł": "l", "ø": "o", "Ø": "o", "đ": "d", "Đ": "d", "ð": "d", "Ð": "d", "þ": "th", "Þ": "th",
    "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ı": "i", "ħ": "h", "Ħ": "h", "ŧ": "t", "Ŧ": "t", "ß": "ss",
    "ẞ": "ss", "ŋ": "n", "ə": "a", "Ə": "a", "ĸ": "k",
}  # fmt: skip

_CYRILLIC = {
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ж": "zh", "з": "z", "и": "i", "к": "k",
    "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t", "у": "u", "ф": "f", "х": "kh",
    "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ы": "y", "ь": "", "э": "e", "ю": "yu", "я": "ya",
    "є": "ye", "і": "i", "ј": "j", "љ": "lj", "њ": "nj", "ћ": "c", "ђ": "d", "џ": "dz", "ґ": "g", "ә": "a",
    "ғ": "g", "қ": "k", "ң": "n", "ө": "o", "ү": "u", "ұ": "u", "һ": "h", "ў": "u", "ѓ": "g", "ќ": "k", "ѕ": "dz",
}  # fmt: skip
_GREEK = {
    "α": "a", "β": "v", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "i", "θ": "th", "ι": "i", "κ": "k",
    "λ": "l", "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p", "ρ": "r", "σ": "s", "ς": "s", "τ": "t", "υ": "y",
    "φ": "f", "χ": "ch", "ψ": "ps", "ω": "o",
}  # fmt: skip
_OMICRONS, _UPSILONS = "οόΟΌ", "υύΥΎ"
"""Together they are one vowel, `ου`."""
_ARMENIAN = dict(
    zip(
        "աբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփքօֆև",
        words("a b g d e z e y t zh i l kh ts k h dz gh ch m y n sh o ch p j r s v t r ts v p k o f ev"),
        strict=True,
    )
)
_GEORGIAN = dict(
    zip(
        "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
        words("a b g d e v z t i k l m n o p zh r s t u p k gh q sh ch ts dz ts ch kh j h"),
        strict=True,
    )
)
ROMANISED = {**_CYRILLIC, **_GREEK, **_ARMENIAN, **_GEORGIAN}
LOOK_ALIKE = {
    "а": "a", "в": "b", "е": "e", "ѕ": "s", "і": "i", "ј": "j", "к": "k", "м": "m", "н": "h", "о": "o", "р": "p",
    "с": "c", "т": "t", "у": "y", "х": "x", "һ": "h", "ԛ": "q", "ԝ": "w", "г": "r", "п": "n",
    "α": "a", "β": "b", "ε": "e", "ζ": "z", "η": "n", "ι": "i", "κ": "k", "μ": "m", "ν": "v", "ο": "o", "ρ": "p",
    "τ": "t", "υ": "u", "χ": "x", "γ": "y", "ω": "w", "σ": "o", "օ": "o", "ո": "n", "ս": "u", "հ": "h",
}  # fmt: skip
_IN_CAPITALS = {
    "Н": "h",
    "В": "b",
    "Ρ": "p",
    "Ν": "n",
    "Η": "h",
    "Υ": "y",
    "Χ": "x",
    "Β": "b",
    "Ζ": "z",
    "Μ": "m",
}
"""Capitals that look like another Latin letter than their small form does."""


@dataclass(slots=True)
class Spelt:
    """A text in normal form, without anything between the letters and digits.

    `places[i]` is where character i comes from; `begins[i]` and `ends[i]` say whether a word begins or ends with
    it; `gaps[i]` counts the separators before it, so that a span crosses none where the counts are equal.
    """

    letters: str
    places: list[int]
    begins: list[bool]
    ends: list[bool]
    gaps: list[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where characters start to end stand in the text."""
        return self.places[start], self.places[end - 1] + 1

    def is_whole(self, start: int, end: int) -> bool:
        """Whether the characters are whole words."""
        return self.begins[start] and self.ends[end - 1]

    def is_unbroken(self, start: int, end: int) -> bool:
        """Whether nothing stands between the characters."""
        return self.gaps[start] == self.gaps[end - 1]


@lru_cache(maxsize=4096)
def _fold_short(text: str) -> str:
    return "".join(character for character, _ in folded_with_places(text)).strip()


def fold(text: str) -> str:
    """Return the text as spellings are compared: normal form, every run of other signs one blank."""
    if len(text) > LONGEST_REMEMBERED:
        return _fold_short.__wrapped__(text)
    return _fold_short(text)


def folded_with_places(text: str) -> list[tuple[str, int]]:
    """Return the folded characters with the index in `text` each comes from (for cutting spans out)."""
    characters: list[tuple[str, int]] = []
    latin = None if text.isascii() else _reads_as_latin(text)
    blank, before = True, " "
    for place, character in enumerate(text):
        folded = (
            character.lower()
            if character.isascii()
            else _folded(character, latin is not None and latin[place])
        )
        if folded == "y" and before in _OMICRONS and character in _UPSILONS:
            folded = "u"
        before = character
        for part in folded:
            if part.isalnum():
                characters.append((part, place))
                blank = False
            elif not blank:
                characters.append((" ", place))
                blank = True
    return characters


def spelt(text: str) -> Spelt:
    """Return the text in normal form with its word boundaries: separators, letter to digit, camel case."""
    letters: list[str] = []
    places: list[int] = []
    begins: list[bool] = []
    ends: list[bool] = []
    gaps: list[int] = []
    gap, last = 0, ""
    for character, place in folded_with_places(text):
        if character == " ":
            gap += 1
            if ends:
                ends[-1] = True
            last = ""
            continue
        is_new = not last or (place != places[-1] and _is_boundary(text, place, places[-1], character, last))
        if is_new and ends:
            ends[-1] = True
        letters.append(character)
        places.append(place)
        begins.append(is_new)
        ends.append(False)
        gaps.append(gap)
        last = character
    if ends:
        ends[-1] = True
    return Spelt("".join(letters), places, begins, ends, gaps)


def _is_boundary(text: str, place: int, before: int, character: str, last: str) -> bool:
    if character.isdigit() != last.isdigit() or is_ideographic(character) or is_ideographic(last):
        return True
    is_upper, was_upper = text[place].isupper(), text[before].isupper()
    if is_upper and not was_upper:
        return True
    if text[place].islower() and was_upper and before and text[before - 1].isupper():
        return True  # `GTVsmith`, beside `GTVSmith`
    return is_upper and was_upper and text[place + 1 : place + 2].islower()


def is_ideographic(text: str) -> bool:
    """Whether ideographs, kana or Hangul are in the text: scripts that part no words."""
    return any(
        "\u2e80" <= sign <= "\u9fff" or "\uac00" <= sign <= "\ud7af" or "\u1100" <= sign <= "\u11ff"
        for sign in text
    )


def _reads_as_latin(text: str) -> list[bool]:
    """Return for each character whether its word holds Latin letters or two scripts: look-alikes are Latin there."""
    marks = [False] * len(text)
    start, scripts = 0, set()
    for place in range(len(text) + 1):
        character = text[place] if place < len(text) else " "
        if character.isalnum() or unicodedata.category(character) in ("Cf", "Mn"):
            scripts.add(_script(character))
            continue
        if "LATIN" in scripts or len(scripts & {"CYRILLIC", "GREEK", "ARMENIAN"}) > 1:
            marks[start:place] = [True] * (place - start)
        start, scripts = place + 1, set()
    return marks


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""


@lru_cache(maxsize=16384)
def _folded(character: str, is_in_latin_word: bool) -> str:
    """Return what one character is compared as; "" where it is invisible."""
    category = unicodedata.category(character)
    if category in ("Cf", "Mn", "Me") or character == "\u0640":  # Arabic tatweel lengthens a word only
        return ""
    plain = LETTERS_THAT_DO_NOT_DECOMPOSE.get(character)
    if plain is not None:
        return plain
    decomposed = unicodedata.normalize("NFKD", character)
    parts = [part for part in decomposed if not unicodedata.combining(part)]
    if is_in_latin_word and len(parts) == 1 and parts[0] in _IN_CAPITALS:
        return _IN_CAPITALS[parts[0]]
    folded = "".join(parts).casefold()
    table = LOOK_ALIKE if is_in_latin_word else ROMANISED
    spelled = "".join(table.get(part, ROMANISED.get(part, _variant(part))) for part in folded)
    return spelled if spelled or folded else " "


def _variant(character: str) -> str:
    if "\u30a1" <= character <= "\u30f6":
        return chr(ord(character) - 0x60)  # katakana as hiragana
    return han_variants().get(character, character)


@cache
def han_variants() -> dict[str, str]:
    """Return the simplified form of traditional and Japanese ideographs."""
    pairs = _data("han_variants.txt").replace("\n", "")
    return {pairs[at]: pairs[at + 1] for at in range(0, len(pairs), 2)}


def _data(name: str) -> str:
    return (resources.files("ct_assets.deid") / "data" / name).read_text("utf-8")


@cache
def medical_words() -> frozenset[str]:
    """Return words of medicine and of DICOM: a name that is one of them is ambiguous."""
    return frozenset(_data("medical_words.txt").split())

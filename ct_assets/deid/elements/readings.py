"""Readings: what text bytes may mean, as declared and otherwise.

Belongs here: decoding by the declared character set, the plausible other decodings where the declaration is missing or
wrong, defined terms that are misspelt, and encoding again. Does not: what is done to the text (`engine`).

Identifiers are learnt in one plausible reading, so that no fragment of bytes wrongly read becomes one. Texts are
searched in every reading that other programs might give them.
"""

import re
from contextlib import suppress
from functools import lru_cache

from pydicom import charset

from ct_assets.deid.elements.spelling import is_ideographic

TEXT_DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C}
"""Control characters that end the reach of an escape sequence (PS3.5 6.1.2.5.3)."""
_NAME_DELIMITERS = TEXT_DELIMITERS | {0x5E, 0x3D}
ESCAPE = re.compile(r"\x1b[ -/]*[0-~]?")
_ESCAPES = {
    b"$)C": "euc_kr",
    b"$)A": "gb2312",
    b"$B": "iso2022_jp",
    b"$@": "iso2022_jp",
    b"$(D": "iso2022_jp_2",
}
"""Escape sequences of multi-byte repertoires (PS3.3 table C.12-4) that hold whatever is declared."""
_EAST_ASIAN = ("gb18030", "shift_jis", "euc_jp", "euc_kr", "big5")
_ONE_BYTE = ("cp1252", *(f"iso8859_{part}" for part in (2, 5, 7, 8, 9, 6)), "koi8_r", "cp1251", "tis_620")


@lru_cache(maxsize=256)
def defined_terms(raw: bytes) -> tuple[str, ...] | None:
    """Return the defined terms of a SpecificCharacterSet value, spelt right; None where one is unknown."""
    terms = [term.strip(" \0") for term in raw.decode("ascii", "replace").split("\\")]
    corrected = [_corrected(term) for term in terms]
    return None if any(term is None for term in corrected) else tuple(term or "" for term in corrected)


def _corrected(term: str) -> str | None:
    if term in charset.python_encoding:
        return term
    bare = re.sub(r"[^A-Z0-9]", "", term.upper())
    if bare in ("UTF8", "UNICODE11UTF8"):
        return "ISO_IR 192"
    latin = re.fullmatch(r"ISO8859(\d{1,2})", bare)
    if latin:
        by_part = {
            "1": "100",
            "2": "101",
            "3": "109",
            "4": "110",
            "5": "144",
            "6": "127",
            "7": "126",
            "8": "138",
            "9": "148",
        }
        return f"ISO_IR {by_part[latin[1]]}" if latin[1] in by_part else None
    for known in charset.python_encoding:
        if known and re.sub(r"[^A-Z0-9]", "", known.upper()) == bare:
            return known
    return None


def declared(raw: bytes, encodings: tuple[str, ...]) -> str | None:
    """Return the text as declared, without escape sequences that announce nothing; None where it cannot be read."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    try:
        if b"\x1b" in raw:
            return ESCAPE.sub("", charset.decode_bytes(raw, list(encodings), TEXT_DELIMITERS))
        if len(encodings) == 1:
            return raw.decode(encodings[0] if encodings[0] != "iso8859" else "latin-1")
        return charset.decode_bytes(raw, list(encodings), TEXT_DELIMITERS)
    except Exception:
        return None


def others(raw: bytes, text: str | None) -> tuple[str, ...]:
    """Return what else the bytes may mean; nothing for plain ASCII."""
    if raw.isascii() and b"\x1b" not in raw:
        return ()
    found = [] if text is None else _encoded_twice(text)
    if b"\x1b" in raw:
        found += _by_escapes(raw)
    for codec in ("utf_8", *_EAST_ASIAN, *_ONE_BYTE):
        with suppress(UnicodeError):
            found.append(ESCAPE.sub("", raw.decode(codec)))
    return tuple(dict.fromkeys(reading for reading in found if reading != text))


def _encoded_twice(text: str) -> list[str]:
    for codec in ("latin-1", "cp1252"):
        with suppress(UnicodeError):
            again = text.encode(codec).decode("utf-8")
            return [again] if again != text else []
    return []


def _by_escapes(raw: bytes) -> list[str]:
    """Return the text read by its own escape sequences, declared or not."""
    pieces = raw.split(b"\x1b")
    read = pieces[0].decode("latin-1")
    for piece in pieces[1:]:
        for escape, codec in _ESCAPES.items():
            if piece.startswith(escape):
                body = b"\x1b" + piece if codec.startswith("iso2022") else piece[len(escape) :]
                read += body.decode(codec, "ignore")
                break
        else:
            read += ESCAPE.sub("", "\x1b" + piece.decode("latin-1"))
    return [read]


@lru_cache(maxsize=16384)
def of_identifier(raw: bytes, encodings: tuple[str, ...]) -> tuple[str, ...]:
    """Return the plausible readings of an identifier: UTF-8 where it is that, else as declared.

    Bytes that are well-formed UTF-8 beyond ASCII are nothing else in practice. Where a character set of single bytes
    is declared or none at all, ideographs in one of the usual encodings are a second reading.
    """
    bare = raw.strip(b" \0")
    if not bare:
        return ()
    if bare.isascii() and b"\x1b" not in bare:
        return (bare.decode("ascii"),)
    if b"\x1b" not in bare:
        with suppress(UnicodeError):
            return (bare.decode("utf-8"),)
    readings = []
    with suppress(Exception):
        readings.append(ESCAPE.sub("", charset.decode_bytes(bare, list(encodings), _NAME_DELIMITERS)))
    if b"\x1b" in bare:
        readings += _by_escapes(bare)
    elif not readings or len(encodings[0].partition("8859")[1]):
        for codec in _EAST_ASIAN:
            with suppress(UnicodeError):
                reading = bare.decode(codec)
                foreign = [sign for sign in reading if not sign.isascii()]
                if len(foreign) >= 2 and all(map(is_ideographic, foreign)):
                    readings.append(reading)
    return tuple(sorted({*readings} or {bare.decode("latin-1")}))


def encode(value: str, encodings: tuple[str, ...]) -> bytes:
    """Return the text in the declared character set; what that cannot hold is left out."""
    if value.isascii():
        return value.encode("ascii")
    try:
        return charset.encode_string(value, list(encodings))
    except Exception:
        return value.encode("ascii", "ignore")

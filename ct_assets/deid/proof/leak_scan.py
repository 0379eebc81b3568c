"""The leak scan: the proof that nothing of the originals stands in what is about to be released.

Belongs here: a search that shares no code with the engine beyond the list of what to search for. It parses
the released files with a parser of its own, searches bytes rather than decoded text, in every encoding that
text may have, and looks at names, audits and pages too. One hit and nothing is released.

What is searched: every identifier of a patient that is no word of medicine (`elements.derive`; names of four letters
and more, numbers of five digits and more) in the patient's objects, whole names and long numbers in all objects, and
every old UID. In coded strings and codes only the patient's own are searched. Numbers match at digit boundaries and
not inside UIDs or other numbers; valid times and numbers are searched for whole values only, valid dates are verified
against the patient's birth dates; in binary values names have six letters and more. Samples and entropy-coded
data are outside the search where their keyed digest proves that they are the source's; all else in pixel elements,
found by a walk of its own (`coded_data`), is inside.
"""

import re
import string
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import ahocorasick
from blake3 import blake3

from ct_assets.deid.elements.identifiers import Sought
from ct_assets.deid.proof import coded_data
from ct_assets.identity.key import SecretKey

MIN_LETTERS, MIN_DIGITS = 4, 5
SHORTEST_TOKEN = MIN_LETTERS
"""The shortest token that is searched everywhere, in characters."""
WHOLE_NUMBER_DIGITS = 7
"""From how many digits on a whole numeric value is compared with the identifiers."""
INSIDE_WORDS = 6
IN_CODED_DATA = 8
"""The shortest token that is searched in compressed data that are not parsed: shorter ones stand there by chance."""

_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_BINARY_VRS = frozenset(
    (b"AT", b"FD", b"FL", b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SL", b"SS", b"SV", b"UL", b"US", b"UV")
)
_METHOD = ("(00120063)", "(00120064)")
"""DeidentificationMethod and its code sequence."""
_CODES = frozenset((0x00080100, 0x00080102, 0x00080103, 0x00080104, 0x00080119))
_TRANSFER_SYNTAX = 0x00020010
_PIXELS = frozenset((0x7FE00010, 0x7FE00008, 0x7FE00009))
_UID_RUN = re.compile(rb"[0-2](?:\.[0-9]+){3,}")
_NUMBER = re.compile(rb"[ +\-0-9.eE\\\0]*")
_TIME = re.compile(rb"(?:[0-2][0-9](?:[0-5][0-9](?:[0-6][0-9](?:\.[0-9]{1,6})?)?)?[ \0]*\\?)*")
_DATE = re.compile(rb"(?:[12][0-9]{3}[01][0-9][0-3][0-9][0-9.+\-]*[ \0]*\\?)*")
_ALWAYS_READABLE = f"\0.{string.digits}{string.ascii_letters}".encode()
_PATH = re.compile(rb'"path":"[^"]*"')
_WORD = re.compile(rb"[A-Za-z0-9]+")
_HEX_RUN = re.compile(rb"\b[0-9a-f]{32,}\b")


@dataclass(frozen=True, slots=True)
class Hit:
    """One find: which released object, where in it, of what kind; never the value."""

    where: str
    element: str
    kind: str
    digest: str
    """Keyed digest of what was found, the same for equal values."""

    @property
    def is_of_object(self) -> bool:
        """Whether it is in a released DICOM object, not in its name, the audit or the page."""
        return self.where.endswith(".dcm")


@dataclass(frozen=True, slots=True)
class Searched:
    """What is searched: identifiers (folded, and as written where not ASCII) and where, old UIDs, and birth dates
    (`YYYYMMDD`) by the patient's pseudonym, since a valid date is held against its own patient only."""

    identifiers: Mapping[str, Sought]
    old_uids: frozenset[str] = frozenset()
    births: Mapping[str, frozenset[str]] = field(default_factory=dict)
    own_words: frozenset[str] = frozenset()
    """Words and numbers that the platform's own texts hold whatever a patient is called (folded): a name `Rule`,
    a number 113105. They are no find in audit, page and DeidentificationMethod; in all else they are."""


class LeakScanner:
    """Searches bytes for the identifiers and old UIDs of one batch."""

    def __init__(self, searched: Searched, key: SecretKey) -> None:
        self._key = key
        self._births, self._own_words = searched.births, searched.own_words
        self._old_uids = frozenset(uid.encode("ascii", "ignore") for uid in searched.old_uids)
        self._numbers: set[bytes] = set()
        self._clean_lines: set[bytes] = set()
        automaton = ahocorasick.Automaton()
        self._sought = searched.identifiers
        readable = bytearray(_ALWAYS_READABLE)
        for form in searched.identifiers:
            if form.isdigit() and len(form) >= WHOLE_NUMBER_DIGITS:
                self._numbers.add(form.encode())
            for pattern, step, lead in byte_patterns(form):
                automaton.add_word(pattern.decode("latin-1"), (len(pattern), form, step, lead))
                readable += pattern if len(form) >= IN_CODED_DATA else b""
        self._automaton = automaton if len(automaton) else None
        self._is_readable = bytes(byte in readable for byte in range(256))
        if self._automaton is not None:
            self._automaton.make_automaton()

    def file(self, content: bytes, where: str, owner: str, pixel_digest: str | None) -> list[Hit]:
        """Return what is found in one released DICOM file of the patient `owner` (pseudonym).

        `pixel_digest` is what `pixel_digest_of` gave for the source's pixels; pixels that differ from it
        are searched like everything else.
        """
        texts, codes, numbers, method, coded = (_Haystack() for _ in range(5))
        texts.add(content[:128], "preamble")
        hits: list[Hit] = []
        syntax = b""
        sizes: dict[int, bytes] = {}
        for path, tag, vr, value in elements(content):
            if tag in coded_data.SIZES:
                if path == f"({tag:08X})":
                    sizes[tag] = value
            elif tag == _TRANSFER_SYNTAX:
                syntax = value.strip(b" \0")
            if tag in _PIXELS and pixel_digest is not None:
                if pixel_digest_of(value, self._key) == pixel_digest:
                    beside, unfollowed = coded_data.readable_bytes(value, tag, syntax, sizes)
                    if len(beside) > 1:
                        numbers.add(beside, path)
                    if unfollowed:
                        coded.add(b"\x1f".join(self._readable_runs(unfollowed)), path)
                    continue
            elif vr in (b"IS", b"DS") and _NUMBER.fullmatch(value):
                if len(value) >= WHOLE_NUMBER_DIGITS:
                    hits += self._whole_numbers(value, where, path, owner)
                continue
            elif vr == b"TM" and _TIME.fullmatch(value):
                continue
            elif vr in (b"DA", b"DT") and _DATE.fullmatch(value):
                hits += self._birth_dates(value, where, path, owner)
                continue
            if path.startswith(_METHOD):
                method.add(value, path)
                continue
            haystack = numbers if vr in _BINARY_VRS else codes if vr == b"CS" or tag in _CODES else texts
            haystack.add(value, path)
        hits += self._search(texts, where, shortest=SHORTEST_TOKEN, owner=owner)
        hits += self._search(codes, where, shortest=SHORTEST_TOKEN, owner=owner, is_code=True)
        hits += self._search(method, where, shortest=SHORTEST_TOKEN, is_own=True)
        hits += self._search(numbers, where, shortest=INSIDE_WORDS, owner=owner)
        hits += self._search(coded, where, shortest=IN_CODED_DATA, owner=owner, is_coded=True)
        return hits

    def _readable_runs(self, coded: bytes) -> Iterator[bytes]:
        """Yield the runs of bytes that may hold what is searched in coded data: a search through all of it takes
        ten times as long as de-identifying the file."""
        marked, start = coded.translate(self._is_readable), 0
        while (start := marked.find(b"\1" * IN_CODED_DATA, start)) >= 0:
            end = marked.find(b"\0", start)
            end = end if end >= 0 else len(coded)
            yield coded[start:end]
            start = end

    def text(self, content: bytes, where: str) -> list[Hit]:
        """Return what is found in lines of text (a page); digests in hex are no text."""
        haystack = _Haystack(_HEX_RUN.sub(b"\x1f", content))
        return self._search(haystack, where, shortest=SHORTEST_TOKEN, is_own=True)

    def audit(self, content: bytes, where: str) -> list[Hit]:
        """Return what is found in audit lines.

        Keywords of the data dictionary in the paths of elements are not searched: they are the Standard's
        words, whatever a patient is called.
        """
        fresh = {piece for piece in content.split(b"},{") if piece not in self._clean_lines}
        rest = b"\n".join(
            _PATH.sub(lambda found: _WORD.sub(_without_keyword, found[0]), piece) for piece in sorted(fresh)
        )
        hits = self.text(rest, where)
        if not hits:
            self._clean_lines |= {piece for piece in fresh if len(piece) < 300}
        return hits

    def name(self, name: str) -> list[Hit]:
        """Return what is found in the path of a released file."""
        content = name.encode("utf-8", "surrogateescape")
        return self._search(_Haystack(content), "name of a released file", shortest=SHORTEST_TOKEN)

    def _whole_numbers(self, value: bytes, where: str, path: str, owner: str) -> list[Hit]:
        return [
            self._hit(where, path, "identifier", part)
            for part in (piece.strip(b" \0") for piece in value.split(b"\\"))
            if part in self._numbers and self._is_sought(part.decode("ascii"), owner, is_code=False)
        ]

    def _is_sought(self, form: str, owner: str | None, *, is_code: bool) -> bool:
        """Whether a form is searched in objects of this patient; without one it is searched in any case."""
        owners = self._sought[form].owners
        if owner is None:
            return True
        return owner in owners if owners is not None else not is_code

    def _birth_dates(self, value: bytes, where: str, path: str, owner: str) -> list[Hit]:
        births = self._births.get(owner, frozenset())
        return [
            self._hit(where, path, "birth date", part)
            for part in value.split(b"\\")
            if part.replace(b".", b"")[:8].decode("ascii", "ignore") in births
        ]

    def _search(
        self,
        haystack: "_Haystack",
        where: str,
        *,
        shortest: int,
        owner: str | None = None,
        is_own: bool = False,
        is_coded: bool = False,
        is_code: bool = False,
    ) -> list[Hit]:
        content = haystack.content
        hits: list[Hit] = []
        if not content:
            return hits
        uid_spans: list[tuple[int, int]] = []
        for view, step in _uid_views(content):
            for run in _UID_RUN.finditer(view):
                if step == 1:
                    uid_spans.append(run.span())
                for uid in _prefixes(run[0]):
                    if uid in self._old_uids:
                        hits.append(self._hit(where, haystack.place(run.start() * step), "old UID", uid))
        if self._automaton is None:
            return hits
        lowered = content.lower().decode("latin-1")
        for last, (length, form, step, lead) in self._automaton.iter(lowered):
            start, end = last + 1 - length, last + 1
            if len(form) < shortest and (is_coded or (form.isascii() and not form.isdigit())):
                continue
            if is_own and self._own_words.issuperset(form.split()):
                continue
            sought = self._sought[form]
            if not self._is_sought(form, owner, is_code=is_code):
                continue
            if not is_bounded(
                lowered, start - step + lead, end + lead, step, form, is_inside=sought.is_inside
            ):
                continue
            if form.isdigit() and any(begin <= start and end <= stop for begin, stop in uid_spans):
                continue
            hits.append(self._hit(where, haystack.place(start), "identifier", form.encode()))
        return hits

    def _hit(self, where: str, element: str, kind: str, value: bytes) -> Hit:
        return Hit(where, element, kind, self._key.digest("leak", value).hex()[:16])


class _Haystack:
    """Values joined for one search, and which element each byte is of."""

    def __init__(self, content: bytes = b"") -> None:
        self._values = [content]
        self._places = [(0, "")]
        self._end = len(content)

    def add(self, value: bytes, place: str) -> None:
        self._places.append((self._end, place))
        self._values += (value, b"\x1f\x1f")
        self._end += len(value) + 2

    @property
    def content(self) -> bytes:
        return b"".join(self._values)

    def place(self, offset: int) -> str:
        return self._places[bisect_right(self._places, offset, key=lambda place: place[0]) - 1][1]


def pixel_digest_of(value: bytes, key: SecretKey) -> str:
    """Return the keyed digest of a pixel element's value field (encapsulated: all fragments)."""
    return blake3(value, key=key.digest("pixel digest")).hexdigest()


def byte_patterns(form: str) -> set[tuple[bytes, int, int]]:
    """Return the byte patterns of one identifier, with bytes a character and where in them its letter is.

    Words may be parted by any of the usual separators; letters outside ASCII stand in the encodings in use.
    The haystack is lower-cased for ASCII only, so both cases of other letters are patterns.
    """
    words = form.split(" ")
    spelt = {separator.join(words) for separator in _separators(words)}
    if not form.isascii():
        spelt |= {change(text) for text in spelt for change in (str.upper, str.title, _upper_but_sharp_s)}
    patterns = set()
    for text in spelt:
        patterns |= {(text.encode(codec).lower(), 1, 0) for codec in _codecs_for(text)}
    for text in {separator.join(words) for separator in (" ", "^")} | (spelt if len(words) == 1 else set()):
        patterns.add((text.encode("utf-16-le").lower(), 2, 0))
        patterns.add((text.encode("utf-16-be").lower(), 2, 1))
    return patterns


def _upper_but_sharp_s(text: str) -> str:
    """Return capitals, with letters that have no single capital as they are (`GRÖßE`)."""
    return "".join(letter.upper() if len(letter.upper()) == 1 else letter for letter in text)


def _separators(words: list[str]) -> tuple[str, ...]:
    return ("",) if len(words) == 1 else (" ", "^", ", ", "-", ".", "/", "_", "  ", " - ", ". ", ",")


def _codecs_for(text: str) -> Iterator[str]:
    if text.isascii():
        yield "ascii"
        return
    yield "utf-8"
    for codec in _ONE_BYTE_AND_ASIAN_CODECS:
        try:
            text.encode(codec)
        except UnicodeEncodeError:
            continue
        yield codec


_ONE_BYTE_AND_ASIAN_CODECS = (
    *(f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 15)),
    "cp1252", "koi8_r", "tis_620", "shift_jis", "euc_jp", "iso2022_jp", "iso2022_jp_2", "euc_kr", "gb18030", "big5",
)  # fmt: skip


def is_bounded(
    haystack: str, before_at: int, after_at: int, step: int, form: str, *, is_inside: bool
) -> bool:
    """Whether the find is no part of a longer number, nor (where short) of a longer word."""
    before, after = _at(haystack, before_at), _at(haystack, after_at)
    if form[0].isdigit() and _is_digit(before):
        return False
    if form[-1].isdigit() and _is_digit(after):
        return False
    if form.isdigit():
        is_fraction = before == "." and _is_digit(_at(haystack, before_at - step))
        has_fraction = after == "." and _is_digit(_at(haystack, after_at + step))
        return not (is_fraction or has_fraction)
    if is_inside:
        return True
    return not ((form[0].isalpha() and _is_letter(before)) or (form[-1].isalpha() and _is_letter(after)))


def _at(haystack: str, place: int) -> str:
    return haystack[place] if 0 <= place < len(haystack) else "\x1f"


def _is_digit(character: str) -> bool:
    return "0" <= character <= "9"


def _is_letter(character: str) -> bool:
    return "a" <= character <= "z" or character >= "\x80"


def _uid_views(haystack: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the bytes as they are, and where there may be UTF-16, every second byte."""
    yield haystack, 1
    if b"1\0.\0" in haystack or b"\0.\0" in haystack:
        yield haystack[::2], 2
        yield haystack[1::2], 2


def _prefixes(run: bytes) -> Iterator[bytes]:
    """Yield a dotted number and its beginnings of four components and more."""
    parts = run.split(b".")
    for count in range(len(parts), 3, -1):
        yield b".".join(parts[:count])


@cache
def _keywords() -> frozenset[bytes]:
    from pydicom._dicom_dict import DicomDictionary

    return frozenset(entry[4].encode() for entry in DicomDictionary.values() if entry[4])


def _without_keyword(found: re.Match[bytes]) -> bytes:
    return b"" if found[0] in _keywords() else found[0]


def elements(content: bytes) -> Iterator[tuple[str, int, bytes, bytes]]:
    """Yield path, tag, VR and value of every element of a Part 10 file, sequences unfolded.

    A parser of its own: written from PS3.5 7.1 and PS3.10 7.1, for files as the engine writes them; what it
    cannot follow is yielded as one value, so that it is searched all the same.
    """
    position, syntax = 132, b"1.2.840.10008.1.2"
    while position + 8 <= len(content) and content[position : position + 2] == b"\x02\0":
        tag, vr, length, head = _header(content, position, False, "<")
        value = content[position + head : position + head + length]
        if tag == 0x00020010:
            syntax = value.strip(b" \0")
        yield f"({tag:08X})", tag, vr, value
        position += head + length
    body = content[position:]
    if syntax == b"1.2.840.10008.1.2.1.99":
        body = zlib.decompressobj(-15).decompress(body)
    order = ">" if syntax == b"1.2.840.10008.1.2.2" else "<"
    yield from _data_set(body, 0, len(body), syntax == b"1.2.840.10008.1.2", order, "")


def _data_set(
    body: bytes, position: int, end: int, is_implicit: bool, order: str, path: str
) -> Iterator[tuple[str, int, bytes, bytes]]:
    while position + 8 <= end:
        tag, vr, length, head = _header(body, position, is_implicit, order)
        start = position + head
        here = f"{path}({tag:08X})"
        if length == 0xFFFFFFFF:  # encapsulated pixels: fragments up to the delimiter
            stop = _end_of_fragments(body, start, order)
            yield here, tag, vr, body[start:stop]
            position = stop + 8
            continue
        stop = start + length
        if stop > end:
            yield here, tag, b"UN", body[position:end]
            return
        item = struct.pack(f"{order}HH", 0xFFFE, 0xE000)
        if vr == b"SQ" or ((is_implicit or vr == b"UN") and body[start : start + 4] == item and length >= 8):
            yield from _items(body, start, stop, is_implicit or vr == b"UN", order, here)
        else:
            yield here, tag, vr or _vr_of(tag), body[start:stop]
        position = stop


def _items(
    body: bytes, position: int, end: int, is_implicit: bool, order: str, path: str
) -> Iterator[tuple[str, int, bytes, bytes]]:
    number, previous = 0, b""
    while position + 8 <= end:
        length = struct.unpack_from(f"{order}L", body, position + 4)[0]
        if position + 8 + length > end:
            yield path, 0, b"UN", body[position:end]
            return
        start, position = position + 8, position + 8 + length
        content = body[start:position]
        if content != previous:  # the same bytes again hold nothing else
            yield from _data_set(body, start, position, is_implicit, order, f"{path}[{number}]")
            previous = content
        number += 1


def _header(body: bytes, position: int, is_implicit: bool, order: str) -> tuple[int, bytes, int, int]:
    group, element = struct.unpack_from(f"{order}HH", body, position)
    tag = group << 16 | element
    if is_implicit:
        return tag, b"", struct.unpack_from(f"{order}L", body, position + 4)[0], 8
    vr = body[position + 4 : position + 6]
    if vr in _LONG_VRS:
        if position + 12 > len(body):
            return tag, b"UN", len(body), 8
        return tag, vr, struct.unpack_from(f"{order}L", body, position + 8)[0], 12
    return tag, vr, struct.unpack_from(f"{order}H", body, position + 6)[0], 8


def _end_of_fragments(body: bytes, position: int, order: str) -> int:
    while position + 8 <= len(body):
        group, element, length = struct.unpack_from(f"{order}HHL", body, position)
        if (group, element) == (0xFFFE, 0xE0DD):
            return position
        position += 8 + length
    return len(body)


_VRS: dict[int, bytes] = {}


def _vr_of(tag: int) -> bytes:
    vr = _VRS.get(tag)
    if vr is None:
        from pydicom._dicom_dict import DicomDictionary

        entry = DicomDictionary.get(tag)
        vr = _VRS[tag] = entry[0].encode() if entry else b"UN"
    return vr


def scan_files(scanner: LeakScanner, root: Path, released: Iterable[tuple[str, str | None]]) -> Iterator[Hit]:
    """Yield the finds in released files: `released` gives path below `root` and the source's pixel digest."""
    for relative, digest in released:
        yield from scanner.name(relative)
        owner, name = relative.partition("/")[0], relative.rpartition("/")[2]
        yield from scanner.file((root / relative).read_bytes(), name, owner, digest)

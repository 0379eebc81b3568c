"""Carrying out the rules on one instance.

Belongs here: the walk over the elements, in every sequence at every depth, and the new values. Works on raw
elements: what a rule keeps is copied byte for byte, what it changes is written anew in the source's own
encoding. Does not: which rule holds (`rules`), what happens to the file (`run`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from ct_assets import progress
from ct_assets.deid.batch import dicomfile
from ct_assets.deid.batch.dicomfile import Source
from ct_assets.deid.batch.gather import encodings_of
from ct_assets.deid.batch.raw_items import MANY_TO_WATCH, RawItems
from ct_assets.deid.elements import bulk, cleaning, readings, table, text, values, vrs
from ct_assets.deid.elements.derive import MIN_SUBSTRING_CHARACTERS
from ct_assets.deid.elements.identifiers import Finder, Where
from ct_assets.deid.elements.rules import (
    TEXT_VRS,
    UIDS_OF_STANDARD_KINDS,
    Do,
    Rule,
    Rules,
    keyword_of,
    vr_in_dictionary,
)
from ct_assets.deid.elements.table import AttributeTypes
from ct_assets.identity.key import SecretKey
from ct_assets.identity.uids import bare_uid, new_uid
from ct_assets.settings.deid import DeidProfile

Fate = tuple[str, str, str]
"""Path of the element, rule, action taken."""

KEPT, REMOVED, EMPTIED, REPLACED = cleaning.KEPT, "removed", "emptied", "replaced"
SHIFTED, REMAPPED = "shifted", "uid replaced"

MEMO_ENTRIES, MEMO_VALUE_BYTES = 20000, 8192
BULK_BYTES = 1 << 20
_TEXT_FOR_PEOPLE = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_CODED = frozenset((0x00080100, 0x00080102, 0x00080103, 0x00080104, 0x00080119))
_SCHEME = 0x00080102
_ITEM = re.compile(r"\[\d+\]")
_BYTES_A_NUMBER = {"AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}


@dataclass(frozen=True, slots=True)
class Person:
    """Whose instance it is, in the new world."""

    pseudonym: str
    shift_days: int


@dataclass
class Deidentified:
    """One instance after the rules: its encoded data set and what happened to each element."""

    chunks: list[bytes]
    fates: list[bytes] = field(repr=False)
    """JSON objects `{path, rule, action}` of the audit line."""

    @property
    def empties_bulk_data(self) -> bool:
        """Whether a table or waveform that stays, at any depth, is emptied as nothing says where its values end."""
        return any(_EMPTIES_BULK_DATA in fate for fate in self.fates)


class Engine:
    """The rules of one profile under one key; remembers what it did to equal elements of a patient."""

    def __init__(self, profile: DeidProfile, key: SecretKey, finder: Finder) -> None:
        self.profile, self._key, self._finder = profile, key, finder
        self.rules = Rules(profile)
        self.cleaner = cleaning.Cleaner(profile, finder)
        self._uids: dict[str, str] = {}
        self._memo: dict[object, tuple[bytes, bytes]] = {}
        self._memo_of: object = None
        self.kept_texts: set[tuple[str, str]] = set()
        """Keyword and text of what stayed readable, for a person to look through once."""

    def deidentify(
        self,
        source: Source,
        sop_class: str,
        person: Person,
        stated: Mapping[int, bytes],
        *,
        pixel_action: str = KEPT,
    ) -> Deidentified:
        """Return the data set of `source` under the rules, with the encoded elements `stated` put in.

        The source is left as it is; `pixel_action` is what its pixel data underwent before.
        """
        types = table.load().types_of(sop_class)
        root = source.dataset
        own = dicomfile.elements(root)
        walk = _Walk(self, source, types, person, sop_class)
        encodings = encodings_of(own, ("iso8859",))
        scope = (person, sop_class, encodings, source.is_implicit, source.is_little_endian)
        if scope != self._memo_of or len(self._memo) > MEMO_ENTRIES:
            self._memo, self._memo_of = {}, scope
        memo = self._memo
        chunks: dict[int, tuple[bytes, ...]] = {}
        fates: list[bytes] = []
        creators = walk.creators(root)
        plain = {int(tag): element for tag, element in own.items()}  # a BaseTag compares in Python, slowly
        for tag, (rewritten, label, action) in bulk.rewritten(plain).items():
            plain[tag] = rewritten
            fates.append(_fate_json(keyword_of(tag), label, action))
        for tag in sorted(plain):
            element = plain[tag]
            value = element.value if isinstance(element, RawDataElement) else None
            if tag in dicomfile.PIXEL_TAGS and isinstance(element, RawDataElement):
                chunks[tag] = dicomfile.raw_element(tag, element, source)
                fates.append(_fate_json(keyword_of(tag), "pixels", pixel_action))
                continue
            memo_key = None
            if value is None or len(value) <= MEMO_VALUE_BYTES:
                creator = creators.get((tag >> 16, tag >> 8 & 0xFF)) if tag >> 16 & 1 else None
                if tag >> 16 & 1 and tag & 0xFFFF <= 0xFF:
                    creator = creators.get((tag >> 16, tag & 0xFF))
                memo_key = (tag, element.VR, value, creator) if isinstance(element, RawDataElement) else None
                known = memo.get(memo_key) if memo_key is not None else None
                if known is not None:
                    if known[0]:
                        chunks[tag] = (known[0],)
                    fates.append(known[1])
                    continue
            walk.fates = []
            encoded = walk.element(tag, element, "", "", encodings, creators)
            told = b",".join(_fates_json(walk.fates))
            if encoded:
                chunks[tag] = encoded
            fates.append(told)
            if memo_key is not None:
                memo[memo_key] = (b"".join(encoded), told)
        for tag, encoded_element in stated.items():
            chunks[tag] = (encoded_element,)
            fates.append(_fate_json(keyword_of(tag), "written by de-identification", REPLACED))
        ordered = [chunk for tag in sorted(chunks) for chunk in chunks[tag]]
        return Deidentified(ordered, [told for told in fates if told])

    def uid(self, old: str) -> str:
        """Return the new UID of an old one."""
        new = self._uids.get(old)
        if new is None:
            if len(self._uids) > 200_000:
                self._uids.clear()
            new = self._uids[old] = new_uid(self._key, old)
        return new

    def is_in_binary(self, value: str, person: Person) -> bool:
        """Whether an identifier long enough not to stand there by chance is in bytes read as text."""
        return any(
            end - start >= MIN_SUBSTRING_CHARACTERS or value[start:end].isdigit()
            for start, end in self.spans(value, person, Where.KEPT)
        )

    def spans(self, value: str, person: Person, where: Where) -> list[text.Span]:
        """Return where known identifiers stand in a text of this person's instance."""
        return self._finder.spans(value, person.pseudonym, where)


class Creator(NamedTuple):
    """A private creator, and whether an element of its block stays."""

    name: str
    is_needed: bool


Creators = dict[tuple[int, int], Creator]


class _Walk:
    """The walk through one instance."""

    def __init__(
        self, engine: Engine, source: Source, types: AttributeTypes, person: Person, sop_class: str
    ) -> None:
        self.engine, self.source, self.types, self.person = engine, source, types, person
        self.sop_class = sop_class
        self.is_standard_code = False
        """Whether the item in hand is a code of a standard terminology."""
        self.fates: list[Fate] = []

    def element(
        self,
        tag: int,
        element: RawDataElement | DataElement,
        place: str,
        shown: str,
        encodings: tuple[str, ...],
        creators: "Creators",
        in_dummy: bool = False,
    ) -> tuple[bytes, ...]:
        """Return the element under its rule, encoded; () where it goes.

        `place` joins the keywords of the enclosing sequences, `shown` is the same with item numbers.
        """
        element = vrs.in_dictionary_vr(tag, element)
        vr = dicomfile.effective_vr(element, tag)
        if tag >> 16 & 1:
            rule, safe_vr = self._private(tag, creators)
            rule = _rule_by_vr(rule, element, safe_vr)
            vr = safe_vr or vr
            path = f"{shown}({tag >> 16:04X},{tag & 0xFFFF:04X})"
        else:
            rule = self.engine.rules.rule_for(tag, vr, place, self.types, in_dummy)
            path = shown + keyword_of(tag)
        if rule.do is Do.REMOVE:
            self.fates.append((path, rule.label, REMOVED))
            return ()
        items = dicomfile.items_of(element) if self._may_be_sequence(element, vr) else None
        if items is not None and (items or vr == "SQ"):
            return self._sequence(tag, element, items, rule, path, place, encodings)
        is_text_of_sequence = vr in TEXT_VRS and not tag >> 16 & 1 and vr_in_dictionary(tag) == "SQ"
        if vr == "SQ" or is_text_of_sequence or not isinstance(element, RawDataElement):
            self.fates.append((path, rule.label, REMOVED))  # bytes that no parser can follow
            return ()
        raw = dicomfile.raw_bytes(element)
        if not raw and rule.do not in (Do.PATIENT_ID, Do.PATIENT_NAME, Do.REPLACE):
            self.fates.append((path, rule.label, KEPT))
            return dicomfile.raw_element(tag, element, self.source)
        new, action = self._value(tag, vr, raw, rule, encodings)
        self.fates.append((path, rule.label, action))
        if new is None:
            return ()
        if new is raw and (not len(raw) & 1 or element.length == dicomfile.UNDEFINED):
            return dicomfile.raw_element(tag, element, self.source)
        written_vr = str(element.VR or vr) if dicomfile.is_known_vr(element) else vr
        return (dicomfile.encode(tag, written_vr, new, self.source),)

    def creators(self, dataset: Dataset) -> "Creators":
        """Return the private creators of a data set by group and block, and whether any element of the
        block stays (PS3.5 7.8.1)."""
        own = dicomfile.elements(dataset)
        private = [tag for tag in own if tag >> 16 & 1]
        found: Creators = {}
        for tag in private:
            element = own[tag]
            if 0x10 <= tag & 0xFFFF <= 0xFF and isinstance(element, RawDataElement):
                name = dicomfile.raw_bytes(element).decode("ascii", "replace").strip(" \0")
                found[tag >> 16, tag & 0xFF] = Creator(name, False)
        for tag in private:
            block = (tag >> 16, tag >> 8 & 0xFF)
            if tag & 0xFFFF > 0xFF and block in found and not found[block].is_needed:
                rule, _ = self.engine.rules.private_rule(found[block].name, tag)
                found[block] = Creator(found[block].name, rule.do is not Do.REMOVE)
        return found

    def _private(self, tag: int, creators: "Creators") -> tuple[Rule, str]:
        group, number = tag >> 16, tag & 0xFFFF
        if number <= 0xFF:
            creator = creators.get((group, number))
            is_needed = creator is not None and creator.is_needed
            return (_CREATOR_KEPT if is_needed else _CREATOR_REMOVED), "LO"
        creator = creators.get((group, number >> 8))
        return self.engine.rules.private_rule(creator.name if creator else None, tag)

    def _may_be_sequence(self, element: RawDataElement | DataElement, vr: str) -> bool:
        if not isinstance(element, RawDataElement):
            return True
        if element.VR == "UN" and element.length == dicomfile.UNDEFINED:
            return True  # only items can be (PS3.5 7.1.1)
        return vr == "SQ" or (element.VR in ("UN", None) and vr in ("UN", "SQ"))

    def _sequence(
        self,
        tag: int,
        element: RawDataElement | DataElement,
        items: Sequence[Dataset],
        rule: Rule,
        path: str,
        place: str,
        encodings: tuple[str, ...],
    ) -> tuple[bytes, ...]:
        if rule.do is Do.EMPTY:
            self.fates.append((path, rule.label, EMPTIED))
            return (dicomfile.encode(tag, "SQ", b"", self.source),)
        as_unknown = isinstance(element, RawDataElement) and element.VR == "UN"
        inner = Source(self.source.dataset, "", True, True) if as_unknown else self.source
        in_dummy = rule.do in (Do.DESCEND_DUMMY, Do.DUMMY)
        inner_place = f"{place}.{keyword_of(tag)}" if place else keyword_of(tag)
        self.fates.append((path, rule.label, KEPT if not in_dummy else REPLACED))
        outer, self.source = self.source, inner
        try:
            content = self._items(items, path, inner_place, encodings, in_dummy)
        finally:
            self.source = outer
        return (dicomfile.encode(tag, "UN" if as_unknown else "SQ", content, self.source),)

    def _items(
        self, items: Sequence[Dataset], path: str, place: str, encodings: tuple[str, ...], in_dummy: bool
    ) -> bytes:
        """Return the encoded items; of very many, each content is worked out once."""
        done: list[bytes] = []
        known: dict[bytes, tuple[bytes, list[Fate]]] = {}
        numbers = progress.each(
            "de-identifying items of one sequence", range(len(items)), len(items), least=MANY_TO_WATCH
        )
        for number in numbers:
            raw = items.raw(number) if isinstance(items, RawItems) else b""
            if raw in known:
                content, fates = known[raw]
                self.fates += [(_renumbered(fate, path, number)) for fate in fates]
            else:
                before = len(self.fates)
                inner = self._item(items[number], place, f"{path}[{number}].", encodings, in_dummy)
                content = dicomfile.item(inner, self.source)
                if raw:
                    known[raw] = content, self.fates[before:]
            done.append(content)
        return b"".join(done)

    def _item(
        self, dataset: Dataset, place: str, shown: str, encodings: tuple[str, ...], in_dummy: bool
    ) -> bytes:
        own = dicomfile.elements(dataset)
        encodings = encodings_of(own, encodings)
        creators = self.creators(dataset)
        chunks: list[bytes] = []
        rewritten = bulk.rewritten(own)
        self.fates += [(shown + keyword_of(tag), label, act) for tag, (_, label, act) in rewritten.items()]
        outer = self.is_standard_code
        for tag in sorted(own):
            element = rewritten[tag][0] if tag in rewritten else own[tag]
            self.is_standard_code = int(tag) in _CODED and _is_of_standard_scheme(own)
            chunks += self.element(int(tag), element, place, shown, encodings, creators, in_dummy)
        self.is_standard_code = outer
        return b"".join(chunks)

    def _value(
        self, tag: int, vr: str, raw: bytes, rule: Rule, encodings: tuple[str, ...]
    ) -> tuple[bytes | None, str]:
        """Return the new value (None where the element goes, `raw` itself where it stays) and the action."""
        match rule.do:
            case Do.EMPTY | Do.DUMMY:
                return _instead(rule.do, vr)
            case Do.PATIENT_ID | Do.PATIENT_NAME:
                return self.person.pseudonym.encode(), REPLACED
            case Do.REPLACE:
                return rule.value.encode(), REPLACED
            case Do.UID:
                return self._uid(raw), REMAPPED
            case Do.CHARACTER_SET:
                return _character_set(raw)
            case Do.SHIFT | Do.TIME | Do.AGE | Do.SEX:
                return self._by_form(vr, raw, rule)
        if vr not in TEXT_VRS and not _looks_like_text(vr, raw):
            return self._binary(vr, raw, rule)
        return self._text(tag, vr, raw, rule, encodings)

    def _uid(self, raw: bytes) -> bytes:
        old = raw.decode("ascii", "ignore").split("\\")
        return "\\".join(self.engine.uid(uid) for uid in old).encode()

    def _kind(self, raw: bytes) -> tuple[bytes, str]:
        """Keep the Standard's classes and the instance's own (which may be a maker's); any other UID may be an
        instance's that got there by damage, and is replaced."""
        old = [bare_uid(uid) for uid in raw.decode("ascii", "ignore").split("\\")]
        new = [uid if uid == self.sop_class else self.engine.uid(uid) for uid in old]
        return (raw, KEPT) if new == old else ("\\".join(new).encode(), REMAPPED)

    def _by_form(self, vr: str, raw: bytes, rule: Rule) -> tuple[bytes | None, str]:
        """Dates, times, ages, sex: kept or moved where the value has its form, else as if not kept."""
        old = [part.strip(" \0") for part in raw.decode("ascii", "replace").split("\\")]
        by_form = self._form(vr, rule)
        new = [by_form(part) if part else "" for part in old]
        if None in new:
            return _instead(rule.otherwise, vr)
        if new == old:
            return raw, KEPT
        joined = "\\".join(part or "" for part in new)
        return joined.encode(), SHIFTED if rule.do is Do.SHIFT else REPLACED

    def _form(self, vr: str, rule: Rule) -> Callable[[str], str | None]:
        days, oldest = self.person.shift_days, self.engine.profile.max_age_years
        if rule.do is Do.AGE:
            return lambda part: values.capped_age(part, oldest)
        if rule.do is Do.SEX:
            return lambda part: part if part in ("M", "F", "O") else None
        if rule.do is Do.SHIFT:
            return lambda part: (
                values.shifted_date(part, days) if vr == "DA" else values.shifted_date_time(part, days)
            )
        if vr in ("DA", "DT"):
            shifted = values.shifted_date if vr == "DA" else values.shifted_date_time
            return lambda part: shifted(part, 0)
        if vr == "SH":  # TimezoneOffsetFromUTC
            return lambda part: part if values.is_offset(part) else None
        return values.clock_time

    def _text(
        self, tag: int, vr: str, raw: bytes, rule: Rule, encodings: tuple[str, ...]
    ) -> tuple[bytes | None, str]:
        if tag in UIDS_OF_STANDARD_KINDS and not self.engine.profile.retain_uids:
            return self._kind(raw)
        if vr == "UI":
            return raw, KEPT
        new, kept, action = self.engine.cleaner.clean(
            vr, raw, rule, encodings, self.person.pseudonym, is_standard_code=self.is_standard_code
        )
        if vr in _TEXT_FOR_PEOPLE and tag not in _CODED:
            self.engine.kept_texts.update((keyword_of(tag), part) for part in kept if part)
        return _instead(rule.otherwise, vr) if new is None else (new, action)

    def _binary(self, vr: str, raw: bytes, rule: Rule) -> tuple[bytes | None, str]:
        """Numbers in binary and opaque bytes stay unless a known identifier can be read in them."""
        if len(raw) % _BYTES_A_NUMBER.get(vr, 1):
            return _instead(rule.otherwise, vr)  # not one that any reader could decode
        if len(raw) < 4 or len(raw) > BULK_BYTES:
            return raw, KEPT
        for codec in ("latin-1", "utf-16-le", "utf-16-be"):
            if codec != "latin-1" and b"\0" not in raw:
                break
            if self.engine.is_in_binary(raw.decode(codec, "replace"), self.person):
                return _instead(rule.otherwise, vr)
        return raw, KEPT


_EMPTIES_BULK_DATA = orjson.dumps(bulk.EMPTIED)
_CREATOR_KEPT = Rule(Do.KEEP, "creator of kept elements")
_OTHER_VR = Rule(Do.REMOVE, "private, of another VR than the safe one")
_CREATOR_REMOVED = Rule(Do.REMOVE, "creator of removed elements")


def _renumbered(fate: Fate, path: str, number: int) -> Fate:
    """Return the fate of the same element in another item of the sequence at `path`."""
    if fate[2] == KEPT:
        return fate  # told once for all items
    rest = fate[0][len(path) :]
    return f"{path}[{number}{rest[rest.index(']') :]}", fate[1], fate[2]


def _rule_by_vr(rule: Rule, element: RawDataElement | DataElement, safe_vr: str) -> Rule:
    """Return the rule of a safe private element; its value goes where it is of another VR than the safe one."""
    if not safe_vr or rule.do is Do.REMOVE:
        return rule
    says_another = element.VR not in (None, "UN", safe_vr)
    raw = dicomfile.raw_bytes(element) if isinstance(element, RawDataElement) else b""
    return _OTHER_VR if says_another or not values.fits(raw, safe_vr) else rule


def _instead(do: Do, vr: str) -> tuple[bytes | None, str]:
    """Carry out remove, empty or dummy."""
    if do is Do.REMOVE:
        return None, REMOVED
    if do is Do.EMPTY:
        return b"", EMPTIED
    if vr in values.BINARY_DUMMIES:
        dummy = values.BINARY_DUMMIES[vr]
        return dummy, REPLACED
    return (values.DUMMIES.get(vr) or "").encode(), REPLACED


def _character_set(raw: bytes) -> tuple[bytes | None, str]:
    """Keep a SpecificCharacterSet of defined terms (PS3.3 C.12.1.1.2), misspelt ones put right; other values may
    say anything.

    They go altogether: the element is Type 1C, so an empty one would be an error that was not there before.
    """
    terms = readings.defined_terms(raw)
    if terms is None:
        return None, REMOVED
    written = "\\".join(terms).encode()
    return (raw, KEPT) if written == raw.rstrip(b" \0") else (written, REPLACED)


def _is_of_standard_scheme(own: Mapping[int, RawDataElement | DataElement]) -> bool:
    scheme = own.get(_SCHEME)
    if not isinstance(scheme, RawDataElement):
        return False
    return dicomfile.raw_bytes(scheme).decode("ascii", "replace").strip(" \0") in cleaning.STANDARD_SCHEMES


def _looks_like_text(vr: str, raw: bytes) -> bool:
    return vr == "UN" and all(32 <= byte < 127 or byte in (0, 9, 10, 13) for byte in raw[:256])


def _fates_json(fates: list[Fate]) -> list[bytes]:
    """Return the fates as JSON; what is kept alike in every item of a sequence is told once, as `[*]`."""
    if len(fates) == 1:
        return [_fate_json(*fates[0])]
    told: dict[Fate, int] = {}
    for path, rule, action in fates:
        shown = _ITEM.sub("[*]", path) if action == KEPT else path
        told[shown, rule, action] = told.get((shown, rule, action), 0) + 1
    return [_fate_json(*fate, count) for fate, count in told.items()]


def _fate_json(path: str, rule: str, action: str, count: int = 1) -> bytes:
    fate: dict[str, object] = {"path": path, "rule": rule, "action": action}
    if count > 1:
        fate["count"] = count
    return orjson.dumps(fate)

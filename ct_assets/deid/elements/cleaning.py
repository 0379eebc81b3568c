"""Cleaning one text value under its rule.

Belongs here: what stays of a text, whatever its rule, VR and character set. Does not: the walk over elements
(`engine`), which rule holds (`rules`), what is searched (`identifiers`, `dates`, `ages`, `text`).
"""

import re
from urllib.parse import urlsplit

from ct_assets.deid.elements import ages, dates, readings, text
from ct_assets.deid.elements.identifiers import Finder, Where
from ct_assets.deid.elements.rules import PUBLIC_HOSTS, Do, Rule
from ct_assets.deid.elements.spelling import words
from ct_assets.settings.deid import DeidProfile

LONGEST_TEXT_BYTES = 1 << 18
"""A longer value goes by its rule's `otherwise` before anything searches it."""
_IDENTIFYING_DIGITS = 7
_SINGLE_VALUED = frozenset(("LT", "ST", "UT", "UR"))
_ONE_NUMBER = rb"[ \0]*(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?[ \0]*)?"
_NUMBERS = re.compile(_ONE_NUMBER + rb"(?:\\" + _ONE_NUMBER + rb")*")
_CODE_STRING = re.compile(r"[A-Z0-9 _]{0,16}")
STANDARD_SCHEMES = frozenset(
    words(
        """SCT SRT SNM3 99SDM DCM DCMUID LN UCUM FMA RADLEX NCIt NCIT ICD10 ICD-10 I10 I10P ICD10CM I9 I9C I11 ICDO ICDO3
        ACR BI C4 C5 CD2 E5 HPC ISO3166_1 ISO3166_2 ISO639_1 ISO639_2 ISO_OID MDC NEU UMLS PATHLEX ITIS_TSN PUBCHEM_CID
        RXNORM RX CTCAE MA MAYOASRS MGI CDT CVX SNM IBSI NICIP NDC LOINC UNS NYUMCCG MSH DCNPDBX SBSM SD ARRIVE EV GMDN
        ISBT UBERON CHEBI"""
    )
)
"""Coding schemes of PS3.16 chapter 8: their codes and meanings are nobody's."""

CLEANED, CUT, KEPT, EMPTIED = "cleaned", "identifier cut out", "kept", "emptied"


class Cleaner:
    """Cleans the texts of one patient's instances."""

    def __init__(self, profile: DeidProfile, finder: Finder) -> None:
        self._profile, self._finder = profile, finder

    def clean(
        self,
        vr: str,
        raw: bytes,
        rule: Rule,
        encodings: tuple[str, ...],
        owner: str,
        *,
        is_standard_code: bool,
    ) -> tuple[bytes | None, list[str], str]:
        """Return the new value (`raw` itself where it stays, None where the rule's `otherwise` holds), the texts
        that stay, and the action."""
        if rule.do is Do.NUMBER or vr in ("IS", "DS"):
            return (raw if self._is_harmless_number(raw, owner) else None), [], KEPT
        if len(raw) > LONGEST_TEXT_BYTES:
            return None, [], KEPT
        separator = "\0" if vr in _SINGLE_VALUED else "\\"
        read = self._read(raw, rule, encodings, separator, vr, owner, is_standard_code)
        if read is None:
            return None, [], KEPT
        is_as_declared, parts, new = read
        if new == parts and is_as_declared:
            return raw, new, KEPT
        if not any(new):
            return None, [], KEPT
        action = CLEANED if rule.do in (Do.CLEAN, Do.CLEAN_WHOLE) else CUT
        return readings.encode(separator.join(new), encodings), new, action

    def _read(
        self,
        raw: bytes,
        rule: Rule,
        encodings: tuple[str, ...],
        separator: str,
        vr: str,
        owner: str,
        is_standard_code: bool,
    ) -> tuple[bool, list[str], list[str]] | None:
        """Return whether the text is read as declared, its parts, and what stays of them.

        As declared, unless an identifier can be read in the bytes another way.
        """
        declared = readings.declared(raw, encodings)
        if declared is None and rule.do in (Do.CLEAN, Do.CLEAN_WHOLE):
            return None
        where = Where.CODED if is_standard_code else _where(rule, vr)
        old = raw.decode("latin-1") if declared is None else declared
        is_as_declared = not (b"\x1b" in raw and "\x1b" not in old and old.isascii())
        for other in readings.others(raw, declared):
            if any(not other[a:b].isascii() for a, b in self._finder.spans(other, owner, where)):
                old, is_as_declared = other, False
                break
        parts = [part.strip(" \0\r\n") for part in old.split(separator)]
        new = [self._part(part, rule, vr, owner, is_standard_code) for part in parts]
        return is_as_declared, parts, new

    def _part(self, part: str, rule: Rule, vr: str, owner: str, is_standard_code: bool) -> str:
        """Return what stays of one text value."""
        if not part:
            return ""
        where = Where.CODED if is_standard_code else _where(rule, vr)
        known = self._finder.spans(part, owner, where)
        if rule.do is Do.ADDRESS:
            return "" if known or not _is_public_address(part) else part
        if rule.do is Do.KEEP and (vr != "CS" or _CODE_STRING.fullmatch(part)):
            return text.without_spans(part, known) if known else part
        if is_standard_code:
            return text.without_spans(part, known) if known else part
        known += self._ages(part, owner, beside_sex=rule.do in (Do.CLEAN, Do.CLEAN_WHOLE))
        known += self._true_dates(part, owner)
        match rule.do:
            case Do.CLEAN:
                return text.clean_description(part, known)
            case Do.CLEAN_WHOLE:
                return "" if known or not text.is_harmless_text(part) else part
            case Do.RESEARCH_LABEL:
                known += text.pattern_spans(part)
            case _:
                known += text.pattern_spans(part, is_value=True)
        return text.without_spans(part, known) if known else part

    def _ages(self, part: str, owner: str, *, beside_sex: bool) -> list[text.Span]:
        cap = self._profile.max_age_years
        return ages.spans(part, cap, beside_sex=beside_sex, own=self._finder.ages_above(cap, owner))

    def _true_dates(self, part: str, owner: str) -> list[text.Span]:
        if self._profile.retain_longitudinal == "full":
            return []
        return dates.spans(part, self._finder.days(owner), any_plausible=False)

    def _is_harmless_number(self, raw: bytes, owner: str) -> bool:
        """Whether a numeric string is one, and no whole value of seven digits and more is a known number."""
        if not _NUMBERS.fullmatch(raw):
            return False
        if len(raw) < _IDENTIFYING_DIGITS:
            return True
        for part in raw.split(b"\\"):
            digits = part.strip(b" \0")
            is_long = len(digits) >= _IDENTIFYING_DIGITS and digits.isdigit()
            if is_long and self._finder.spans(digits.decode("ascii"), owner, Where.KEPT):
                return False
        return True


def _where(rule: Rule, vr: str) -> Where:
    if vr == "CS":
        return Where.CODED
    return Where.KEPT if rule.do in (Do.KEEP, Do.VALUE, Do.CODE, Do.ADDRESS) else Where.FREE


def _is_public_address(value: str) -> bool:
    """Whether an address is of a host that publishes coding schemes, or a URN of a registered number."""
    if value.lower().startswith(("urn:oid:", "urn:iso:", "urn:ietf:", "urn:hl7", "urn:umls:")):
        return True
    try:
        host = urlsplit(value).hostname or ""
    except ValueError:
        return False
    return host.lower() in PUBLIC_HOSTS

"""What the profile says to each attribute: the Standard's table, the options in force, the site's own rules.

Belongs here: the decision from tag, VR, place and Type to one `Rule`. Does not: carrying it out (`engine`).

Where the table is silent, the Basic Profile keeps an attribute. This room is stricter in the places where an
unlisted attribute can identify by its nature: persons' names, UIDs, dates, network addresses, free text and
attributes that the data dictionary does not know (PS3.15 E.1.1: the table is no upper bound).
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from pydicom.datadict import dictionary_keyword, dictionary_VR, keyword_for_tag, tag_for_keyword

from ct_assets.deid.elements import table
from ct_assets.deid.elements.spelling import words
from ct_assets.deid.elements.table import AttributeTypes, Row
from ct_assets.errors import UsageError
from ct_assets.settings.deid import DeidProfile, SiteRule


class Do(Enum):
    """What happens to an element."""

    REMOVE = "remove"
    EMPTY = "empty"
    DUMMY = "dummy"
    KEEP = "keep"
    """The value stays; known identifiers in it are searched."""
    VALUE = "value"
    """A technical value: stays but for known identifiers, dates, telephone numbers and addresses."""
    CODE = "code"
    """A code or its meaning: stays where its scheme is a standard terminology, else like a technical value."""
    CLEAN = "clean"
    """A short description: harmless words stay."""
    CLEAN_WHOLE = "clean whole"
    """A free text: stays if it is harmless as a whole."""
    RESEARCH_LABEL = "research label"
    """Name of a segment or region: stays exactly unless a known identifier or a telling pattern is in it."""
    SHIFT = "shift"
    """A date: moved by the patient's days."""
    TIME = "time"
    """A clock time: stays where it is one."""
    NUMBER = "number"
    """An IS or DS: stays where it is a number."""
    ADDRESS = "address"
    """An address of the net: stays where its host publishes coding schemes."""
    AGE = "age"
    UID = "uid"
    DESCEND = "descend"
    """A sequence: each item by its own rules."""
    DESCEND_DUMMY = "descend dummy"
    """A sequence to be replaced: its structure stays, its texts become dummies."""
    REPLACE = "replace"
    PATIENT_ID = "patient id"
    PATIENT_NAME = "patient name"
    SEX = "sex"
    CHARACTER_SET = "character set"
    """SpecificCharacterSet: its defined terms stay."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One decision, and what the audit calls it."""

    do: Do
    label: str
    otherwise: Do = Do.REMOVE
    """What happens where `do` leaves nothing (or finds a malformed value): remove, empty or dummy by Type."""
    value: str = ""


TEXT_VRS = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
FREE_TEXT_VRS = frozenset(("LT", "ST", "UT"))
DESCRIPTION_VRS = frozenset(("LO", "SH", "UC", "CS", "AE", "PN"))

RESEARCH_LABELS = frozenset(
    tag_for_keyword(keyword)
    for keyword in ("ROIName", "ROIObservationLabel", "SegmentLabel", "SegmentAlgorithmName", "TrackingID")
)
"""Labels of regions and segments: research reads them, so they stay word by word."""

UIDS_OF_KINDS = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        "SOPClassUID", "RelatedGeneralSOPClassUID", "OriginalSpecializedSOPClassUID", "SOPClassesInStudy",
        "CodingSchemeUID", "ContextUID", "MappingResourceUID", "StoredInstanceTransferSyntaxUID",
        "ReferencedSOPClassUID", "SOPClassesSupported", "AvailableTransferSyntaxUID", "FlowTransferSyntaxUID",
        "MACCalculationTransferSyntaxUID", "EncryptedContentTransferSyntaxUID", "PertinentSOPClassesInStudy",
        "PertinentSOPClassesInSeries", "ReferencedTransferSyntaxUIDInFile", "ReferencedSOPClassUIDInFile",
    )
)  # fmt: skip
"""UIDs that name a kind of thing (class, coding scheme, transfer syntax), never a thing: not replaced."""

UIDS_OF_STANDARD_KINDS = UIDS_OF_KINDS - {
    tag_for_keyword(keyword) for keyword in ("CodingSchemeUID", "ContextUID", "MappingResourceUID")
}
"""Of these, the classes and transfer syntaxes: the Standard's own stay (and the instance's own class)."""

UNLISTED_SEQUENCES_THAT_IDENTIFY = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        "IssuerOfPatientIDQualifiersSequence", "IssuerOfAccessionNumberSequence", "AssigningFacilitySequence",
        "AssigningJurisdictionCodeSequence", "AssigningAgencyOrDepartmentCodeSequence",
        "OrderPlacerIdentifierSequence", "OrderFillerIdentifierSequence",
    )
)  # fmt: skip
"""Sequences that the table forgets: issuers and orders that lead to a person."""

PUBLIC_HOSTS = frozenset(
    words(
        """dicom.nema.org nema.org medical.nema.org loinc.org snomed.info www.snomed.org unitsofmeasure.org ucum.org
        hl7.org terminology.hl7.org www.hl7.org radlex.org www.radlex.org purl.org purl.obolibrary.org ncit.nci.nih.gov
        www.nlm.nih.gov bioontology.org purl.bioontology.org www.omg.org who.int www.who.int icd.who.int www.w3.org
        id.who.int"""
    )
)
"""Hosts that publish coding schemes: addresses there name no clinic."""

STRUCTURED_CONTENT_CODE, GRAPHICS_CODE = "113104", "113103"
CHARACTER_SET = 0x00080005
PATIENT_ID, PATIENT_NAME, PATIENT_SEX = 0x00100020, 0x00100010, 0x00100040
WRITTEN_BY_THE_ENGINE = frozenset((0x00120062, 0x00120063, 0x00120064, 0x00280303))
"""PatientIdentityRemoved, DeidentificationMethod and its code sequence,
LongitudinalTemporalInformationModified: what an input claims there is replaced by what was done."""


class Rules:
    """The profile as decisions; what is decided once is remembered."""

    def __init__(self, profile: DeidProfile) -> None:
        self.profile = profile
        self._table = table.load()
        self._site: dict[int, tuple[int, SiteRule]] = {}
        self._site_creators: dict[str, tuple[int, SiteRule]] = {}
        for number, rule in enumerate(profile.site_rules, start=1):
            self._take_site_rule(number, rule)
        self._safe_private = dict(self._table.safe_private) if profile.retain_safe_private else {}
        for element in profile.safe_private if profile.retain_safe_private else ():
            creator = table.fold_creator(element.creator)
            self._safe_private[creator, int(element.group, 16), int(element.element, 16)] = ""
        self.rule_for = lru_cache(maxsize=65536)(self._rule_for)

    def private_rule(self, creator: str | None, tag: int) -> tuple[Rule, str]:
        """Return the rule of a private element and its VR where the safe list tells it, else "".

        By creator and element within the block, never by block number (PS3.5 7.8.1); default deny.
        """
        if creator is None:
            return Rule(Do.REMOVE, "private without creator"), ""
        folded = table.fold_creator(creator)
        site = self._site_creators.get(folded)
        if site is not None:
            number, rule = site
            do = Do.KEEP if rule.action == "keep" else Do.REMOVE
            return Rule(do, f"site rule {number}"), ""
        vr = self._safe_private.get((folded, tag >> 16, tag & 0xFF))
        if vr is None:
            return Rule(Do.REMOVE, "private, not on the safe list"), ""
        if vr in ("OB", "OW", "UN"):
            return Rule(Do.REMOVE, "private, binary"), ""
        return Rule(self._safe_private_action(vr), "113111 safe private"), vr

    def _safe_private_action(self, vr: str) -> Do:
        """A UID is a UID like any other (PS3.15 E.3.10 keeps none), and a text is searched as a label is."""
        if vr == "UI" and not self.profile.retain_uids:
            return Do.UID
        if vr in FREE_TEXT_VRS:
            return Do.CLEAN_WHOLE
        return Do.RESEARCH_LABEL if vr in ("LO", "SH", "UC") else Do.KEEP

    def _rule_for(self, tag: int, vr: str, path: str, types: AttributeTypes, in_dummy: bool) -> Rule:
        group, element = tag >> 16, tag & 0xFFFF
        if group < 0x0008 or element == 0:
            return Rule(Do.REMOVE, "not part of a data set" if element else "group length (retired)")
        if tag in WRITTEN_BY_THE_ENGINE:
            return Rule(Do.REMOVE, "earlier claim")
        if tag == CHARACTER_SET:
            return Rule(Do.CHARACTER_SET, "not in E.1-1")
        if tag in self._site:
            return self._site_rule(tag, vr, path, types)
        if table.is_curve(tag) or table.is_overlay(tag):
            return Rule(Do.REMOVE, "E.1-1 X (whole repeating group)")
        if _is_of_signature_or_encryption(tag):
            return Rule(Do.REMOVE, "signature or encryption")
        if table.is_pixel_data(tag):
            is_table = tag in (0x7FE00001, 0x7FE00002) and not path
            return Rule(Do.KEEP, "pixels") if is_table else Rule(Do.REMOVE, "pixel data beside the image")
        if tag == PATIENT_ID:
            return Rule(Do.PATIENT_ID, "E.1-1 Z/D")
        if tag == PATIENT_NAME:
            return Rule(Do.PATIENT_NAME, "E.1-1 Z")
        row = self._table.rows.get(tag)
        if row is not None:
            return self._listed(tag, vr, row, types.of(path, tag))
        return self._unlisted(tag, vr, types.of(path, tag), in_dummy)

    def _listed(self, tag: int, vr: str, row: Row, attribute_type: int) -> Rule:
        otherwise = _by_type(row.action, attribute_type)
        chosen = self._option(row)
        if chosen is not None:
            code, action = chosen
            label = f"{code} {action}"
            if vr == "SQ":
                return Rule(_sequence_option(action, code), label, otherwise)
            if code in ("113106", "113107"):
                do = Do.TIME if vr not in ("DA", "DT") else Do.SHIFT if code == "113107" else Do.TIME
                return Rule(do, label, otherwise)
            if action == "K":
                return Rule(_kept(tag, vr), label, otherwise)
            if tag in RESEARCH_LABELS:
                return Rule(Do.RESEARCH_LABEL, label, otherwise)
            if vr in FREE_TEXT_VRS:
                return Rule(Do.CLEAN_WHOLE, label, otherwise)
            if vr in DESCRIPTION_VRS:
                return Rule(Do.CLEAN, label, otherwise)
        label = f"E.1-1 {row.action}" + (f", Type {attribute_type}" if attribute_type < 3 else "")
        if row.action == "U":
            return Rule(Do.UID, label, otherwise)
        if vr == "UI" and otherwise is Do.DUMMY:
            return Rule(Do.UID, label)
        if vr == "SQ" and "U" in row.action:
            return Rule(Do.DESCEND, label)
        if vr == "SQ" and otherwise is Do.DUMMY:
            return Rule(Do.DESCEND_DUMMY, label)
        return Rule(otherwise, label)

    def _option(self, row: Row) -> tuple[str, str] | None:
        """Return code and action of the option that decides: dates first, then keeping, then cleaning."""
        profile, options = self.profile, row.options
        for name, code, is_in_force in (
            ("retain_modified_dates", "113107", profile.retain_longitudinal == "modified"),
            ("retain_full_dates", "113106", profile.retain_longitudinal == "full"),
            ("retain_patient_characteristics", "113108", profile.retain_patient_characteristics),
            ("retain_device_identity", "113109", profile.retain_device_identity),
            ("retain_institution", "113112", profile.retain_institution),
            ("retain_uids", "113110", profile.retain_uids),
            ("clean_descriptors", "113105", profile.clean_descriptors),
            ("clean_structured_content", STRUCTURED_CONTENT_CODE, profile.clean_structured_content),
            ("clean_graphics", GRAPHICS_CODE, profile.clean_graphics),
        ):
            if is_in_force and name in options:
                return code, options[name]
        return None

    def _unlisted(self, tag: int, vr: str, attribute_type: int, in_dummy: bool) -> Rule:
        label = "not in E.1-1"
        otherwise = Do.DUMMY if attribute_type == 1 else Do.EMPTY if attribute_type == 2 else Do.DUMMY
        keyword = keyword_for_tag(tag)
        if not keyword:
            return Rule(Do.REMOVE, "unknown attribute")
        kind = table.text_kinds().get(tag, "")
        gone = _by_type("X/Z/D", attribute_type)
        if kind == "identifier" or tag in UNLISTED_SEQUENCES_THAT_IDENTIFY:
            return Rule(gone, "unlisted identifier")
        if vr == "SQ":
            return Rule(Do.DESCEND_DUMMY if in_dummy else Do.DESCEND, label)
        if vr == "PN":
            return Rule(Do.DUMMY, "unlisted person's name")
        if vr == "UI":
            if tag in UIDS_OF_KINDS:
                return Rule(Do.KEEP, label)
            return Rule(Do.KEEP if self.profile.retain_uids else Do.UID, "unlisted UID", otherwise)
        if vr in ("DA", "DT", "TM"):
            return self._unlisted_date(vr)
        if kind == "address" or vr == "UR":
            return Rule(Do.ADDRESS, "unlisted network address", Do.DUMMY)
        if vr == "AS":
            return Rule(Do.AGE, label, Do.EMPTY)
        if (
            in_dummy
            and vr in ("LO", "SH", "ST", "LT", "UT", "UC", "AE")
            and not keyword.startswith("CodingScheme")
        ):
            return Rule(Do.DUMMY, "inside a replaced sequence")
        if vr in ("IS", "DS"):
            return Rule(Do.NUMBER, label, Do.EMPTY if attribute_type < 3 else Do.REMOVE)
        if tag in RESEARCH_LABELS:
            return Rule(Do.RESEARCH_LABEL, label, Do.DUMMY)
        if kind == "code":
            return Rule(Do.CODE, label, otherwise)
        cleans = self.profile.clean_descriptors
        if vr in FREE_TEXT_VRS and kind != "value":
            return Rule(Do.CLEAN_WHOLE if cleans else Do.EMPTY, "unlisted free text", Do.EMPTY)
        if kind == "description":
            return Rule(Do.CLEAN if cleans else Do.EMPTY, "unlisted description", Do.EMPTY)
        return Rule(Do.VALUE if vr in ("LO", "SH", "UC", *FREE_TEXT_VRS) else Do.KEEP, label, otherwise)

    def _unlisted_date(self, vr: str) -> Rule:
        label = "unlisted date or time"
        match self.profile.retain_longitudinal:
            case "modified":
                return Rule(Do.TIME if vr == "TM" else Do.SHIFT, label, Do.EMPTY)
            case "full":
                return Rule(Do.TIME, label, Do.EMPTY)
            case _:
                return Rule(Do.EMPTY, label)

    def _site_rule(self, tag: int, vr: str, path: str, types: AttributeTypes) -> Rule:
        number, rule = self._site[tag]
        label = f"site rule {number}"
        attribute_type = types.of(path, tag)
        if rule.action == "keep":
            return Rule(Do.DESCEND if vr == "SQ" else Do.KEEP, label, _by_type("X/Z/D", attribute_type))
        if rule.action == "remove":
            return Rule(_by_type("X/Z/D", attribute_type), label)
        return Rule(Do.REPLACE, label, value=rule.value or "")

    def _take_site_rule(self, number: int, rule: SiteRule) -> None:
        """Take in a site rule, or refuse it where it contradicts the profile or another rule."""
        name = f"site_rules[{number - 1}]"
        if rule.private_creator is not None:
            folded = table.fold_creator(rule.private_creator)
            if folded in self._site_creators:
                raise UsageError(f"{name}: a second rule for private creator {rule.private_creator!r}")
            self._site_creators[folded] = (number, rule)
            return
        tag = _tag_of(rule, name)
        shown = f"{keyword_for_tag(tag) or 'attribute'} ({tag >> 16:04X},{tag & 0xFFFF:04X})"
        if tag in self._site:
            raise UsageError(f"{name}: a second rule for {shown}; keep one of them")
        if tag in WRITTEN_BY_THE_ENGINE or tag in _NEVER_BY_SITE or tag >> 16 < 0x0008:
            raise UsageError(f"{name}: {shown} follows from the profile and cannot be set by a site rule")
        row = self._table.rows.get(tag)
        if table.is_curve(tag) or table.is_overlay(tag):
            row = Row("X", {})
        if rule.action == "keep" and row is not None and self._option(row) is None:
            options = ", ".join(sorted(row.options)) or "none"
            raise UsageError(
                f"{name}: keep {shown} contradicts the profile, whose table says {row.action}. Switch on an "
                f"option that keeps it (there: {options}), or take the rule out."
            )
        if rule.action != "keep" and tag in _NEEDED:
            raise UsageError(f"{name}: {rule.action} {shown} would make the objects unusable; take it out")
        if rule.action == "replace":
            _check_replacement(name, shown, tag, rule.value or "")
        self._site[tag] = (number, rule)


def _is_of_signature_or_encryption(tag: int) -> bool:
    """Whether the attribute is of digital signatures, their MAC or encryption (PS3.3 C.12.1.1.3, C.12.1.1.4):
    they prove or contain what was, so they go as a whole, whatever their Type."""
    return 0x04000005 <= tag <= 0x04000520 or tag in (0x4FFE0001, 0xFFFAFFFA)


_NEVER_BY_SITE = frozenset((PATIENT_ID, PATIENT_NAME, 0x0020000D, 0x0020000E, 0x00080018))
_NEEDED = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        "SOPClassUID", "SpecificCharacterSet", "Modality", "PixelData", "Rows", "Columns", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation",
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
        "SegmentSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
        "ReferencedSeriesSequence", "FrameOfReferenceUID", "NumberOfFrames",
    )
)  # fmt: skip


def _tag_of(rule: SiteRule, name: str) -> int:
    if rule.keyword is not None:
        tag = tag_for_keyword(rule.keyword)
        if tag is None:
            raise UsageError(f"{name}: {rule.keyword!r} is no keyword of the data dictionary")
        return tag
    tag = int("".join(character for character in rule.tag or "" if character.isalnum()), 16)
    if tag >> 16 & 1:
        raise UsageError(f"{name}: {rule.tag} is private; name its creator, since blocks move")
    return tag


def _check_replacement(name: str, shown: str, tag: int, value: str) -> None:
    vr = dictionary_VR(tag) if keyword_for_tag(tag) else "UN"
    if vr not in TEXT_VRS or vr in ("UI", "DA", "DT", "TM"):
        raise UsageError(f"{name}: {shown} has VR {vr}; a text can be replaced only by a text")
    longest = {"SH": 16, "CS": 16, "AE": 16, "LO": 64, "PN": 64, "DS": 16, "IS": 12, "AS": 4}.get(vr, 10240)
    if len(value) > longest or not value.isascii():
        raise UsageError(f"{name}: the value for {shown} must be ASCII of at most {longest} characters")


def _by_type(action: str, attribute_type: int) -> Do:
    """Resolve an action by the attribute's Type (PS3.15 Table E.1-1a).

    An attribute of Type 1 is never emptied or removed, one of Type 2 never removed, also where the table
    names the simple action only: the object must stay one of its IOD. Where Z or D would do and the IOD does
    not say (editions differ, as on ContentCreatorName of a segmentation), the dummy is valid for both.
    """
    if action == "K":
        return Do.KEEP
    if "X" in action:
        return (Do.DUMMY, Do.EMPTY, Do.REMOVE)[attribute_type - 1]
    if action == "Z/D":
        return Do.EMPTY if attribute_type == 2 else Do.DUMMY
    if "Z" in action:
        return Do.DUMMY if attribute_type == 1 else Do.EMPTY
    return Do.DUMMY


def _sequence_option(action: str, code: str) -> Do:
    if action == "K" or code in (STRUCTURED_CONTENT_CODE, GRAPHICS_CODE):
        return Do.DESCEND
    return Do.REMOVE


def _kept(tag: int, vr: str) -> Do:
    if vr == "AS":
        return Do.AGE
    if tag == PATIENT_SEX:
        return Do.SEX
    if vr in FREE_TEXT_VRS:
        return Do.CLEAN_WHOLE
    if vr in ("LO", "SH") and tag >> 16 == 0x0010:
        return Do.CLEAN
    return Do.KEEP


def vr_in_dictionary(tag: int) -> str:
    """Return the data dictionary's VR of a public tag, "UN" where it knows none."""
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    return vr if len(vr) == 2 else "OW"


def keyword_of(tag: int) -> str:
    """Return the keyword of a tag, or its digits."""
    try:
        return dictionary_keyword(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    except KeyError:
        return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"

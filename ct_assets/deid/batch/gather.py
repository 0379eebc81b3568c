"""The first pass: what each file is, whom it belongs to, its UIDs and its identifiers.

Belongs here: reading one file into `FileFacts`, and collecting what the second pass and the leak scan must
know of the whole batch before the first instance is released. Does not: deciding about duplicates or
releasing anything (`dispositions`, `engine`).
"""

import hashlib
import os
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from pydicom import charset
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from ct_assets import progress
from ct_assets.deid.batch import dicomfile
from ct_assets.deid.batch.dicomfile import NotReadableError, Source
from ct_assets.deid.batch.raw_items import MANY_TO_WATCH, RawItems
from ct_assets.deid.elements import readings, table
from ct_assets.deid.elements.rules import PATIENT_ID, PATIENT_NAME, UIDS_OF_KINDS, vr_in_dictionary
from ct_assets.identity.uids import bare_uid, is_standard

BEGINNING_BYTES = 1 << 16
"""What is read of a file at first: nearly every header ends before."""
LONGEST_REMEMBERED = 1024
"""Bytes of a value up to which its readings are remembered."""
SOP_CLASS, SOP_INSTANCE, STUDY, SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
FRAME_OF_REFERENCE, ISSUER, BIRTH_DATE, CHARACTER_SET = 0x00200052, 0x00100021, 0x00100030, 0x00080005
DEIDENTIFICATION_METHOD = 0x00120063
OTHER_PATIENT_IDS, PATIENT_COMMENTS = 0x00101000, 0x00104000
_DATES = frozenset(
    tag for tag, entry in DicomDictionary.items() if entry[0] in ("DA", "DT") and tag >> 16 >= 8
)
"""Dates of any kind: one true date gives away the shift of all (PS3.15 E.3.6)."""

_NOT_IDENTIFYING = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        "EthnicGroup", "PatientReligiousPreference", "CountryOfResidence", "RegionOfResidence", "MilitaryRank",
        "BranchOfService", "PatientState", "Allergies", "MedicalAlerts", "SmokingStatus", "PregnancyStatus",
        "PatientSexNeutered", "ResponsiblePersonRole", "TimezoneOffsetFromUTC", "LensMake", "LensModel",
        "ReasonForTheAttributeModification", "InstanceOriginStatus", "PatientSize", "PatientWeight",
        "ConfidentialityConstraintOnPatientDataDescription", "CurrentPatientLocation", "VisitStatusID",
        "PatientInstitutionResidence", "TimeSource", "ROIName", "ContextGroupVersion",
    )
)  # fmt: skip
"""Rows of the table that describe rather than identify: their values are taken out where they stand, but not
searched elsewhere (`Catholic`, `Germany` are no one's name)."""

_PERSON_CODES = frozenset((0x00080100, 0x00080104, 0x00080119))
"""CodeValue, CodeMeaning, LongCodeValue: inside a person's identification they are number and name."""
_IDENTIFIER_VRS = frozenset(("LO", "SH", "AE", "UC", "ST", "UT", "LT"))

_UID_TYPES = {
    STUDY: "study",
    SERIES: "series",
    SOP_INSTANCE: "instance",
    0x00081155: "instance",  # ReferencedSOPInstanceUID
    FRAME_OF_REFERENCE: "frame_of_reference",
    0x30060024: "frame_of_reference",  # ReferencedFrameOfReferenceUID
    0x300600C2: "frame_of_reference",  # RelatedFrameOfReferenceUID
    0x00200200: "synchronization_frame_of_reference",
    0x00209164: "dimension_organization",
    0x00209161: "concatenation",
    0x00620021: "tracking",
    0x00181002: "device",
    0x00083010: "irradiation_event",
    0x00041511: "instance",
    0x0040A124: "content_item",
}
_SEQUENCES_THAT_REFER_TO = {
    0x00081110: "study",  # ReferencedStudySequence
    0x30060012: "study",  # RTReferencedStudySequence
    0x00081111: "procedure_step",  # ReferencedPerformedProcedureStepSequence
    0x00081120: "patient",  # ReferencedPatientSequence
}


READING_ITEMS = "reading items of one sequence"
DEEPEST = 64
"""Levels of sequences inside each other that are kept; the Standard's deepest IODs have some ten."""


class NestedTooDeepError(Exception):
    """Sequences lie deeper inside each other than is kept."""


@dataclass(slots=True)
class FileFacts:
    """What the first pass knows of one file; `code` is set where it is no usable instance."""

    path: str
    sha256: str | None = None
    """None as long as nobody had to read the whole file."""
    code: str | None = None
    sop_class: str = ""
    sop_instance: str = ""
    study: str = ""
    series: str = ""
    patient_id: str = ""
    issuer: str = ""
    modality: str = ""
    name: str = ""
    birth_date: str = ""
    content: str | None = None
    """Digest of what the instance says (`dicom.content`), where several files of unequal bytes have its UID."""
    mark: str = ""
    """The last value of DeidentificationMethod: under Retain UIDs our own output has its keyed proof there."""


@dataclass
class UidSeen:
    """One old UID as the batch shows it; `parent` is the old UID above it where an object says so."""

    uid_type: str
    parent: str = ""
    is_object: bool = False


@dataclass
class Gathered:
    """What one part of the batch adds: facts in order, identifiers by person, UIDs."""

    files: list[FileFacts] = field(default_factory=list)
    values: set[tuple[str, str, str, str]] = field(default_factory=set)
    """Kind, value, raw patient ID, issuer."""
    uids: dict[str, UidSeen] = field(default_factory=dict)


def facts_of_file(path: Path, relative: str, into: Gathered, *, with_digest: bool) -> None:
    """Read one file, as far as needed, and add what it tells to `into`. Never raises for a bad file.

    Of a long ordinary file the beginning is enough, and then its digest is left out, unless `with_digest`.
    """
    try:
        with path.open("rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            content = opened.read(BEGINNING_BYTES) or b""
            if size > len(content) and not with_digest:
                source = dicomfile.read_beginning(content, size)
                facts = FileFacts(relative)
                if source is not None and _could_take(source, facts, into):
                    into.files.append(facts)
                    return
            content += opened.readall() or b""
    except OSError:
        into.files.append(FileFacts(relative, None, "unreadable_file"))
        return
    facts_of(relative, content, into)


def _could_take(source: Source, facts: FileFacts, into: Gathered) -> bool:
    try:
        _take(source, facts, into)
    except Exception:
        return False
    return facts.code is None


def facts_of(path: str, content: bytes, into: Gathered) -> None:
    """Do as `facts_of_file` with the whole content of a file, and digest it."""
    facts = FileFacts(path, hashlib.sha256(content).hexdigest())
    into.files.append(facts)
    try:
        source = dicomfile.read(content)
    except NotReadableError as error:
        facts.code = error.code
        return
    except RecursionError:
        facts.code = "nested_too_deep"
        return
    except Exception:
        facts.code = "unreadable_dicom"
        return
    try:
        _take(source, facts, into)
    except (NestedTooDeepError, RecursionError):
        facts.code = "nested_too_deep"
    except Exception:
        facts.code = "unreadable_dicom"


def _take(source: Source, facts: FileFacts, into: Gathered) -> None:
    root = source.dataset
    own = dicomfile.elements(root)
    encodings = encodings_of(own, ("iso8859",))
    facts.sop_class = _uid(own, SOP_CLASS) or _media_class(root)
    if facts.sop_class == dicomfile.DICOMDIR_CLASS or 0x00041220 in own:
        facts.code = "dicomdir"
    facts.sop_instance, facts.study, facts.series = (_uid(own, tag) for tag in (SOP_INSTANCE, STUDY, SERIES))
    facts.patient_id, facts.issuer, facts.modality = (
        _text(own, tag, encodings) for tag in (PATIENT_ID, ISSUER, 0x00080060)
    )
    facts.name, facts.birth_date = (_text(own, tag, encodings) for tag in (PATIENT_NAME, BIRTH_DATE))
    facts.mark = _text(own, DEIDENTIFICATION_METHOD, encodings).rpartition("\\")[2].strip()[:64]
    person = (facts.patient_id, facts.issuer)
    _see(into.uids, facts.study, UidSeen("study", is_object=True))
    _see(into.uids, facts.series, UidSeen("series", facts.study, is_object=True))
    _see(into.uids, facts.sop_instance, UidSeen("instance", facts.series, is_object=True))
    _see(into.uids, _uid(own, FRAME_OF_REFERENCE), UidSeen("frame_of_reference", facts.study, is_object=True))
    _walk(root, encodings, person, into, parent_tag=0, in_identification=False)


def _media_class(root: Dataset) -> str:
    meta = getattr(root, "file_meta", None)
    return bare_uid(str(meta.get("MediaStorageSOPClassUID", "") or "")) if meta is not None else ""


def _walk(
    dataset: Dataset,
    encodings: tuple[str, ...],
    person: tuple[str, str],
    into: Gathered,
    *,
    parent_tag: int,
    in_identification: bool,
    depth: int = 0,
) -> None:
    if depth > DEEPEST:
        raise NestedTooDeepError
    own = dicomfile.elements(dataset)
    encodings = encodings_of(own, encodings)
    sources, sequences = _source_tags(), _sequence_tags()
    for base_tag, element in own.items():
        tag, vr = int(base_tag), element.VR  # a BaseTag compares in Python, slowly
        if vr == "PN" and not tag >> 16 & 1 and vr_in_dictionary(tag) not in ("PN", "UN"):
            vr = None  # a damaged file must not make a name of a SOP class
        if tag >> 16 & 1 and vr in (None, "UN") and _safe_private_vr(own, tag) == "UI":
            vr = "UI"
        if (
            tag in sources
            or vr == "PN"
            or vr == "UI"
            or vr == "DA"
            or vr == "DT"
            or (in_identification and tag in _PERSON_CODES)
        ):
            _take_element(tag, vr, element, encodings, person, into, parent_tag, in_identification)
        elif vr == "SQ" or ((vr is None or vr == "UN") and (tag in sequences or tag >> 16 & 1)):
            if isinstance(element, RawDataElement) and not dicomfile.raw_bytes(element):
                continue
            identification = in_identification or tag in _identification_sequences()
            items = dicomfile.items_of(element) or ()
            if isinstance(items, RawItems):
                items = items.distinct()
            for item in progress.each(READING_ITEMS, items, len(items), least=MANY_TO_WATCH):
                _walk(
                    item,
                    encodings,
                    person,
                    into,
                    parent_tag=tag,
                    in_identification=identification,
                    depth=depth + 1,
                )


def _safe_private_vr(own: dict[int, RawDataElement | DataElement], tag: int) -> str:
    """Return the VR that the safe private list gives to a private element; "" where it is not on the list."""
    creator = own.get(tag >> 16 << 16 | tag >> 8 & 0xFF)
    if not isinstance(creator, RawDataElement):
        return ""
    name = table.fold_creator(dicomfile.raw_bytes(creator).decode("ascii", "replace"))
    return table.load().safe_private.get((name, tag >> 16, tag & 0xFF), "")


def _take_element(
    tag: int,
    known_vr: str | None,
    element: RawDataElement | DataElement,
    encodings: tuple[str, ...],
    person: tuple[str, str],
    into: Gathered,
    parent_tag: int,
    in_identification: bool,
) -> None:
    vr = "UI" if known_vr == "UI" else dicomfile.effective_vr(element, tag)
    raw = dicomfile.raw_bytes(element) if isinstance(element, RawDataElement) else b""
    if not raw or len(raw) > 65536:
        return
    if vr == "UI":
        if tag in UIDS_OF_KINDS:
            return  # these stay as they are, so they are no old UIDs that could leak
        kind = _UID_TYPES.get(tag, "other")
        if tag == 0x00081155:
            kind = _SEQUENCES_THAT_REFER_TO.get(parent_tag, kind)
        for uid in raw.decode("ascii", "ignore").split("\\"):
            bare = bare_uid(uid)
            if bare not in into.uids:
                _see(into.uids, bare, UidSeen(kind))
            elif into.uids[bare].uid_type == "other":
                into.uids[bare].uid_type = kind
        return
    kind = _kind(tag, vr)
    if kind == "id" and in_identification and tag == 0x00080104:
        kind = "name"  # CodeMeaning of a person's code is the person's name
    for text in decodings(raw, encodings):
        into.values.add((kind, text, *person))


def _kind(tag: int, vr: str) -> str:
    """Return what a value is to `derive.forms`."""
    if tag == BIRTH_DATE:
        return "birth_date"
    if tag in _DATES or vr in ("DA", "DT"):
        return "date"
    if vr == "PN":
        return "name"
    if tag == PATIENT_COMMENTS:
        return "note"
    return "patient_id" if tag in (PATIENT_ID, OTHER_PATIENT_IDS) else "id"


def decodings(raw: bytes, encodings: tuple[str, ...]) -> tuple[str, ...]:
    """Return the plausible readings of an identifier (`readings.of_identifier`)."""
    if len(raw) <= LONGEST_REMEMBERED:
        return readings.of_identifier(raw, encodings)
    return readings.of_identifier.__wrapped__(raw, encodings)


def encodings_of(own: dict[int, RawDataElement | DataElement], inherited: tuple[str, ...]) -> tuple[str, ...]:
    """Return the Python codecs of a data set's SpecificCharacterSet, or those of the one around it."""
    element = own.get(CHARACTER_SET)
    if not isinstance(element, RawDataElement):
        return inherited
    return _codecs(dicomfile.raw_bytes(element)) or inherited


@lru_cache(maxsize=256)
def _codecs(raw: bytes) -> tuple[str, ...]:
    terms = readings.defined_terms(raw)
    if terms is None:
        terms = tuple(term.strip(" \0") for term in raw.decode("ascii", "ignore").split("\\"))
    return tuple(charset.python_encoding[term] for term in terms if term in charset.python_encoding)


def _text(own: dict[int, RawDataElement | DataElement], tag: int, encodings: tuple[str, ...]) -> str:
    element = own.get(tag)
    if not isinstance(element, RawDataElement):
        return ""
    raw = dicomfile.raw_bytes(element).strip(b" \0\t\r\n")
    if raw.isascii():
        return raw.decode("ascii")
    try:
        return charset.decode_bytes(raw, list(encodings), readings.TEXT_DELIMITERS)
    except Exception:
        return raw.decode("latin-1")


def _uid(own: dict[int, RawDataElement | DataElement], tag: int) -> str:
    element = own.get(tag)
    if not isinstance(element, RawDataElement):
        return ""
    return bare_uid(dicomfile.raw_bytes(element).decode("ascii", "ignore"))


def _see(uids: dict[str, UidSeen], uid: str, seen: UidSeen) -> None:
    if not uid or is_standard(uid):
        return
    known = uids.get(uid)
    uids[uid] = seen if known is None else joined(known, seen)


def joined(first: UidSeen, second: UidSeen) -> UidSeen:
    """Return what two sights of one UID say together; the order does not matter.

    An object says more than a reference, a named type more than `other`; among equals the smaller text.
    """
    if first.is_object != second.is_object:
        strong, weak = (first, second) if first.is_object else (second, first)
        return UidSeen(strong.uid_type, strong.parent or weak.parent, True)
    kinds = sorted({first.uid_type, second.uid_type} - {"other"}) or ["other"]
    parents = sorted({first.parent, second.parent} - {""}) or [""]
    return UidSeen(kinds[0], parents[0], first.is_object)


@cache
def _source_tags() -> frozenset[int]:
    """Tags whose values identify: rows of Table E.1-1 that hold texts, persons' names and UIDs anywhere."""
    listed = {
        tag
        for tag, row in table.load().rows.items()
        if vr_in_dictionary(tag) in _IDENTIFIER_VRS
        and "clean_descriptors" not in row.options
        and tag not in _NOT_IDENTIFYING
    }
    by_vr = {tag for tag, entry in DicomDictionary.items() if entry[0] in ("PN", "UI")}
    return frozenset(listed | by_vr | _DATES | {BIRTH_DATE, PATIENT_COMMENTS})


@cache
def _sequence_tags() -> frozenset[int]:
    return frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")


@cache
def _identification_sequences() -> frozenset[int]:
    return frozenset(
        tag for tag, entry in DicomDictionary.items() if entry[4] == "PersonIdentificationCodeSequence"
    )

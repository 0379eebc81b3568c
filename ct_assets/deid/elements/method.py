"""What a released object says about its own de-identification.

Belongs here: DeidentificationMethod and its code sequence, derived from the options in force so that they
cannot say more than was done (PS3.3 C.7.1.1, PS3.16 CID 7050), and the flags beside them.
"""

from ct_assets.deid.batch import dicomfile
from ct_assets.deid.batch.dicomfile import Source
from ct_assets.deid.elements import table
from ct_assets.settings.deid import DeidProfile

CODE_MEANINGS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}
"""CID 7050. 113102, Clean Recognizable Visual Features, is not here: nothing in this house removes faces."""

_SCHEME = "DCM"


def codes(profile: DeidProfile, *, is_redacted: bool = False) -> tuple[str, ...]:
    """Return the codes of the options in force, in ascending order."""
    in_force = {
        "113101": is_redacted,
        "113103": profile.clean_graphics,
        "113104": profile.clean_structured_content,
        "113105": profile.clean_descriptors,
        "113106": profile.retain_longitudinal == "full",
        "113107": profile.retain_longitudinal == "modified",
        "113108": profile.retain_patient_characteristics,
        "113109": profile.retain_device_identity,
        "113110": profile.retain_uids,
        "113111": profile.retain_safe_private,
        "113112": profile.retain_institution,
    }
    return ("113100", *(code for code in sorted(in_force) if in_force[code]))


def own_text() -> str:
    """Return every word that DeidentificationMethod and its code sequence may hold."""
    words = ("CT_ASSETS PS3.15", table.load().edition, _SCHEME, *CODE_MEANINGS, *CODE_MEANINGS.values())
    return " ".join(words)


def method_text(profile: DeidProfile, *, is_redacted: bool = False, mark: str = "") -> str:
    """Return DeidentificationMethod (0012,0063), LO of several values.

    `mark` is a keyed UID that proves the object to be this project's where its own UIDs are retained and
    prove nothing.
    """
    edition = table.load().edition
    told = (f"CT_ASSETS PS3.15 {edition}", *codes(profile, is_redacted=is_redacted), mark)
    return "\\".join(filter(None, told))


def elements(
    profile: DeidProfile,
    source: Source,
    *,
    is_redacted: bool,
    has_no_text: bool,
    may_show_a_face: bool,
    mark: str = "",
) -> dict[int, bytes]:
    """Return the elements that state the de-identification, encoded, by tag; `mark` as in `method_text`.

    BurnedInAnnotation (0028,0301) is NO only where the pixels were looked at and no text was found, whatever
    the input says; RecognizableVisualFeatures (0028,0302) is YES where a face may be seen.
    """
    longitudinal = {"modified": b"MODIFIED", "full": b"UNMODIFIED", "no": b"REMOVED"}
    method = method_text(profile, is_redacted=is_redacted, mark=mark).encode()
    stated = {
        0x00120062: dicomfile.encode(0x00120062, "CS", b"YES", source),
        0x00120063: dicomfile.encode(0x00120063, "LO", method, source),
        0x00120064: dicomfile.encode(
            0x00120064, "SQ", _code_items(codes(profile, is_redacted=is_redacted), source), source
        ),
        0x00280303: dicomfile.encode(0x00280303, "CS", longitudinal[profile.retain_longitudinal], source),
    }
    if has_no_text:
        stated[0x00280301] = dicomfile.encode(0x00280301, "CS", b"NO", source)
    if may_show_a_face:
        stated[0x00280302] = dicomfile.encode(0x00280302, "CS", b"YES", source)
    return stated


def _code_items(in_force: tuple[str, ...], source: Source) -> bytes:
    return b"".join(
        dicomfile.item(
            dicomfile.encode(0x00080100, "SH", code.encode(), source)
            + dicomfile.encode(0x00080102, "SH", _SCHEME.encode(), source)
            + dicomfile.encode(0x00080104, "LO", CODE_MEANINGS[code].encode(), source),
            source,
        )
        for code in in_force
    )

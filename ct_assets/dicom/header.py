"""The header suite: which top-level element stands in which column, and how its raw value is read.

Belongs here: a line a column (tag, reader) and the readers of value representations, tolerant and telling.
Does not: finding the values in a file (`dicom.elements`), sequences (`dicom.nested`), the table's schema
(`ct_assets.tables.audits.MetadataAudit`).

A reader returns (value, oddity): the value is None where nothing usable stands there, the oddity names what
had to be read tolerantly. Oddities never repeat the value.
"""

import datetime as dt
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ct_assets.dicom.uids import is_uid

Read = tuple[Any, str | None]
Reader = Callable[[bytes], Read]

NOT_A_NUMBER = "not_a_number"
NOT_AN_INTEGER = "not_an_integer"
NOT_FINITE = "not_finite"
SEVERAL_VALUES = "several_values"
WRONG_NUMBER_OF_VALUES = "wrong_number_of_values"
NOT_A_DATE = "not_a_date"
NOT_A_TIME = "not_a_time"
NOT_AN_AGE = "not_an_age"
DECIMAL_COMMA = "decimal_comma"
WRONG_LENGTH = "wrong_length"
BLANKS = "blanks_around_the_value"
NOT_A_UID = "not_a_uid"

SPECIFIC_CHARACTER_SET = 0x00080005
IS_DIGITS = 12
"""An IS has at most 12 characters (PS3.5 table 6.2-1)."""
_PADDING = b" \0"


def text(raw: bytes) -> Read:
    """Read one text value; non-ASCII bytes are decoded by the caller, who knows the character set."""
    return _decode(raw).strip(" \0") or None, None


def identifier(raw: bytes) -> Read:
    """Read a text value in which blanks at the ends mean nothing (PS3.5 6.2) but are worth telling."""
    value = _decode(raw).rstrip("\0")
    stripped = value.strip(" ")
    odd = value.rstrip(" ") != stripped or len(value) - len(stripped) > 1
    return stripped or None, BLANKS if odd and stripped else None


def uid(raw: bytes) -> Read:
    """Read a UID (PS3.5 9.1); another alphabet is kept and told."""
    value = _decode(raw).strip(" \0")
    if not value:
        return None, None
    return value, None if is_uid(value) else NOT_A_UID


def texts(raw: bytes) -> Read:
    """Read several text values."""
    value = _decode(raw).strip(" \0")
    return [part.strip() for part in value.split("\\")] if value else None, None


def joined(raw: bytes) -> Read:
    """Read one or several text values as one, with `/` between them."""
    values, oddity = texts(raw)
    return "/".join(values) if values else None, oddity


def number(raw: bytes) -> Read:
    """Read one decimal string (DS)."""
    stripped = raw.strip(_PADDING)
    if not stripped:
        return None, None
    first, several, _ = stripped.partition(b"\\")
    value, oddity = _float(first)
    return value, oddity or (SEVERAL_VALUES if several else None)


def numbers(count: int) -> Reader:
    """Return a reader of exactly `count` decimal strings; another count gives None and an oddity."""

    def read(raw: bytes) -> Read:
        stripped = raw.strip(_PADDING)
        if not stripped:
            return None, None
        parts = stripped.split(b"\\")
        if len(parts) != count:
            return None, WRONG_NUMBER_OF_VALUES
        values = [_float(part) for part in parts]
        oddity = next((told for _, told in values if told), None)
        if any(value is None for value, _ in values):
            return None, oddity or NOT_A_NUMBER
        return [value for value, _ in values], oddity

    return read


def integer(raw: bytes) -> Read:
    """Read one integer string (IS)."""
    stripped = raw.strip(_PADDING)
    if not stripped:
        return None, None
    first, several, _ = stripped.partition(b"\\")
    sign, digits = (first[:1], first[1:]) if first[:1] in (b"-", b"+") else (b"", first)
    if digits.isdigit() and len(digits) <= IS_DIGITS:
        return int(sign + digits), SEVERAL_VALUES if several else None
    value, _ = _float(first)
    if value is None or not value.is_integer() or abs(value) >= 10**IS_DIGITS:
        return None, NOT_AN_INTEGER
    return int(value), NOT_AN_INTEGER


def unsigned(raw: bytes) -> Read:
    """Read one US."""
    if len(raw) == 2:
        return raw[0] | raw[1] << 8, None
    return None, WRONG_LENGTH if raw else None


def unsigned_long(raw: bytes) -> Read:
    """Read one UL."""
    if len(raw) == 4:
        return int.from_bytes(raw, "little"), None
    return None, WRONG_LENGTH if raw else None


def single(raw: bytes) -> Read:
    """Read one FL."""
    if len(raw) != 4:
        return None, WRONG_LENGTH if raw else None
    (value,) = struct.unpack("<f", raw)
    return (value, None) if math.isfinite(value) else (None, NOT_FINITE)


def double(raw: bytes) -> Read:
    """Read one FD."""
    if len(raw) != 8:
        return None, WRONG_LENGTH if raw else None
    (value,) = struct.unpack("<d", raw)
    return (value, None) if math.isfinite(value) else (None, NOT_FINITE)


def date(raw: bytes) -> Read:
    """Read one DA (PS3.5 6.2); the old form with dots is read too."""
    value = _decode(raw).strip(" \0")
    if not value:
        return None, None
    digits = value.replace(".", "") if len(value) == 10 else value
    try:
        return dt.datetime.strptime(digits, "%Y%m%d").date(), None if digits == value else NOT_A_DATE
    except ValueError:
        return None, NOT_A_DATE


def time_of_day(raw: bytes) -> Read:
    """Read one TM as seconds since midnight; the old form with colons is read too."""
    value = _decode(raw).strip(" \0")
    if not value:
        return None, None
    digits = value.replace(":", "")
    whole, _, fraction = digits.partition(".")
    if not whole.isdecimal() or len(whole) not in (2, 4, 6) or (fraction and not fraction.isdecimal()):
        return None, NOT_A_TIME
    hours, minutes, seconds = (int(whole[at : at + 2] or 0) for at in (0, 2, 4))
    if hours > 23 or minutes > 59 or seconds > 60:
        return None, NOT_A_TIME
    return hours * 3600 + minutes * 60 + seconds + float(f"0.{fraction or 0}"), None


def age(raw: bytes) -> Read:
    """Read one AS (nnnD, nnnW, nnnM, nnnY) as years."""
    value = _decode(raw).strip(" \0")
    if not value:
        return None, None
    years_per_unit = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}.get(value[-1].upper())
    if years_per_unit is None or not value[:-1].isdecimal():
        return None, NOT_AN_AGE
    return round(int(value[:-1]) * years_per_unit, 4), None


SUITE: dict[str, tuple[int, Reader]] = {
    "patient_id": (0x00100020, identifier),
    "issuer_of_patient_id": (0x00100021, identifier),
    "study_instance_uid": (0x0020000D, uid),
    "series_instance_uid": (0x0020000E, uid),
    "sop_instance_uid": (0x00080018, uid),
    "sop_class_uid": (0x00080016, uid),
    "frame_of_reference_uid": (0x00200052, uid),
    "modality": (0x00080060, text),
    "image_type": (0x00080008, texts),
    "series_number": (0x00200011, integer),
    "acquisition_number": (0x00200012, integer),
    "instance_number": (0x00200013, integer),
    "study_date": (0x00080020, date),
    "series_date": (0x00080021, date),
    "acquisition_date": (0x00080022, date),
    "content_date": (0x00080023, date),
    "series_time_s": (0x00080031, time_of_day),
    "acquisition_time_s": (0x00080032, time_of_day),
    "content_time_s": (0x00080033, time_of_day),
    "study_description": (0x00081030, text),
    "series_description": (0x0008103E, text),
    "body_part_examined": (0x00180015, text),
    "derivation_description": (0x00082111, text),
    "lossy_image_compression": (0x00282110, text),
    "temporal_position_identifier": (0x00200100, integer),
    "temporal_position_index": (0x00209128, unsigned_long),
    "nominal_percentage_of_cardiac_phase": (0x00209241, single),
    "trigger_time_ms": (0x00181060, number),
    "image_position_patient_mm": (0x00200032, numbers(3)),
    "image_orientation_patient": (0x00200037, numbers(6)),
    "pixel_spacing_mm": (0x00280030, numbers(2)),
    "rows": (0x00280010, unsigned),
    "columns": (0x00280011, unsigned),
    "number_of_frames": (0x00280008, integer),
    "concatenation_uid": (0x00209161, uid),
    "in_concatenation_number": (0x00209162, unsigned),
    "in_concatenation_total_number": (0x00209163, unsigned),
    "concatenation_frame_offset": (0x00209228, unsigned_long),
    "slice_thickness_mm": (0x00180050, number),
    "spacing_between_slices_mm": (0x00180088, number),
    "slice_location_mm": (0x00201041, number),
    "gantry_detector_tilt_deg": (0x00181120, number),
    "patient_position": (0x00185100, text),
    "reconstruction_diameter_mm": (0x00181100, number),
    "data_collection_diameter_mm": (0x00180090, number),
    "table_height_mm": (0x00181130, number),
    "samples_per_pixel": (0x00280002, unsigned),
    "photometric_interpretation": (0x00280004, text),
    "bits_allocated": (0x00280100, unsigned),
    "bits_stored": (0x00280101, unsigned),
    "high_bit": (0x00280102, unsigned),
    "pixel_representation": (0x00280103, unsigned),
    "rescale_slope": (0x00281053, number),
    "rescale_intercept": (0x00281052, number),
    "rescale_type": (0x00281054, text),
    "multienergy_ct_acquisition": (0x00189361, text),
    "pixel_padding_value": (0x00280120, unsigned),
    "pixel_padding_range_limit": (0x00280121, unsigned),
    "kvp_kv": (0x00180060, number),
    "convolution_kernel": (0x00181210, joined),
    "filter_type": (0x00181160, joined),
    "contrast_bolus_agent": (0x00180010, text),
    "exposure_mas": (0x00181152, number),
    "exposure_time_ms": (0x00181150, number),
    "xray_tube_current_ma": (0x00181151, number),
    "spiral_pitch_factor": (0x00189311, double),
    "ctdi_vol_mgy": (0x00189345, double),
    "single_collimation_width_mm": (0x00189306, double),
    "total_collimation_width_mm": (0x00189307, double),
    "scan_options": (0x00180022, joined),
    "manufacturer": (0x00080070, text),
    "manufacturer_model_name": (0x00081090, text),
    "software_versions": (0x00181020, joined),
    "institution_name": (0x00080080, text),
    "patient_age_years": (0x00101010, age),
    "patient_sex": (0x00100040, text),
    "patient_size_m": (0x00101020, number),
    "patient_weight_kg": (0x00101030, number),
    "segmentation_type": (0x00620001, text),
    "maximum_fractional_value": (0x0062000E, unsigned),
    "segments_overlap": (0x00620013, text),
}
"""Column, tag and reader of every top-level element of the suite (PS3.6 names them)."""

WANTED = frozenset(tag for tag, _ in SUITE.values()) | {SPECIFIC_CHARACTER_SET}

SIGNED_WHERE_PIXELS_ARE = ("pixel_padding_value", "pixel_padding_range_limit")

_TEXT_READERS = (text, identifier, texts, joined)
_CACHED: dict[str, Callable[[bytes], Read]] = {
    name: lru_cache(maxsize=4096)(reader) for name, (_, reader) in SUITE.items()
}
_CACHED_SUITE = tuple((name, tag, _CACHED[name]) for name, (tag, _) in SUITE.items())
_TEXT_COLUMNS = frozenset(name for name, (_, reader) in SUITE.items() if reader in _TEXT_READERS)


_NAME_OF = {tag: (name, reader) for name, tag, reader in _CACHED_SUITE}
_EMPTY_ROW: dict[str, Any] = dict.fromkeys(SUITE)
_DECIDING_SIGN = SUITE["pixel_representation"][0]
_SIGNED = b"\1\0"
_DECIDE_OTHERS = frozenset((SPECIFIC_CHARACTER_SET, _DECIDING_SIGN))
"""Elements by which others are read; where one differs, everything is read again."""


@dataclass(slots=True)
class _Before:
    """The header read last: the next one of its series differs in a few values."""

    values: dict[int, bytes]
    row: dict[str, Any]
    oddities: dict[str, str]


_before = _Before({}, _EMPTY_ROW, {})


def interpret(values: dict[int, bytes]) -> tuple[dict[str, Any], list[str]]:
    """Return the suite's columns from raw values by tag, and the oddities as `column:oddity`, sorted as the suite.

    Null stands for absent, empty and unreadable; an oddity tells the last from the others. Only what differs from the
    header before is read; the result depends on `values` alone.
    """
    before = _before
    changed = dict(values.items() - before.values.items())
    gone = before.values.keys() - values.keys()
    if not _DECIDE_OTHERS.isdisjoint(changed) or not _DECIDE_OTHERS.isdisjoint(gone):
        row, oddities, changed, gone = _EMPTY_ROW.copy(), {}, values, set()
    else:
        row, oddities = before.row.copy(), before.oddities
    odd = dict(oddities)
    for tag in gone:
        if (found := _NAME_OF.get(tag)) is not None:
            row[found[0]] = None
            odd.pop(found[0], None)
    character_set = values.get(SPECIFIC_CHARACTER_SET)
    is_signed = values.get(_DECIDING_SIGN) == _SIGNED
    for tag, raw in changed.items():
        if (found := _NAME_OF.get(tag)) is None:
            continue
        name, reader = found
        if name in _TEXT_COLUMNS and character_set and not raw.isascii():
            raw = _as_utf8(raw, character_set)
        value, oddity = reader(raw)
        if is_signed and name in SIGNED_WHERE_PIXELS_ARE and value is not None and value >= 2**15:
            value -= 2**16
        row[name] = value
        if oddity:
            odd[name] = oddity
        else:
            odd.pop(name, None)
    before.values, before.row, before.oddities = values, row, odd
    return row.copy(), [f"{name}:{odd[name]}" for name in SUITE if name in odd] if odd else []


def _float(raw: bytes) -> tuple[float | None, str | None]:
    if b"_" in raw:  # Python's float would read 1_0
        return None, NOT_A_NUMBER
    try:
        value = float(raw)
        oddity = None
    except ValueError:
        try:
            value = float(raw.replace(b",", b"."))
            oddity = DECIMAL_COMMA
        except ValueError:
            return None, NOT_A_NUMBER
    return (value, oddity) if math.isfinite(value) else (None, NOT_FINITE)


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


@lru_cache(maxsize=4096)
def _as_utf8(raw: bytes, character_set: bytes) -> bytes:
    from pydicom.charset import convert_encodings, decode_bytes

    try:
        encodings = convert_encodings([part.strip() for part in character_set.decode("ascii").split("\\")])
        return decode_bytes(raw, encodings, {0x5C}).encode()
    except (LookupError, UnicodeError):
        return raw

"""Values in the VR of the data dictionary (PS3.5 7.1.2: an element has the VR that PS3.6 gives it).

Belongs here: bringing an element whose file says another VR into the dictionary's. Does not: VRs that are lost
(UN, Implicit VR) or none at all (`deid.batch.dicomfile`), private elements (the safe list tells their VR).
"""

import struct
from functools import cache

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag
from pydicom.valuerep import STANDARD_VR

from ct_assets.deid.elements.rules import TEXT_VRS

_INTEGERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q"}
_FLOATS = {"FL": "f", "FD": "d"}
_NUMBERS = _INTEGERS | _FLOATS


@cache
def vr_of(tag: int) -> str | None:
    """Return the one VR that the dictionary has for a public tag; None where it has none or several."""
    try:
        vr = None if tag >> 16 & 1 else str(dictionary_VR(tag))
    except KeyError:
        return None
    return vr if vr is not None and len(vr) == 2 else None


def contradicted(tag: int, vr: str | None) -> str | None:
    """Return the dictionary's VR where the file says another one; None where it says that, UN or nothing."""
    if vr is None or vr == "UN":
        return None
    wanted = vr_of(tag)
    return wanted if wanted is not None and wanted != vr and vr in STANDARD_VR else None


def in_dictionary_vr(tag: int, element: RawDataElement | DataElement) -> RawDataElement | DataElement:
    """Return the element in the VR of the dictionary; the same one where it has it.

    Texts keep their bytes, opaque bytes where a text belongs are read as one, numbers are written anew. A value
    that cannot be one of the dictionary's VR is left out: no reader would look for it there.
    """
    wanted = contradicted(tag, element.VR)
    if wanted is None:
        return element
    if not isinstance(element, RawDataElement):
        return RawDataElement(BaseTag(tag), wanted, 0, b"", 0, False, True)
    value = _converted(
        element.value or b"", str(element.VR), wanted, "<" if element.is_little_endian else ">"
    )
    return element._replace(VR=wanted, value=value, length=len(value))


def _converted(raw: bytes, vr: str, wanted: str, order: str) -> bytes:
    if vr == "SQ":
        return b""
    if wanted in _NUMBERS:
        return _packed(_numbers(raw, vr, order), wanted, order)
    if wanted in TEXT_VRS and vr in _NUMBERS:
        numbers = _numbers(raw, vr, order)
        whole = wanted == "IS" or vr in _INTEGERS
        return b"\\".join((b"%d" if whole else b"%.9g") % number for number in numbers)
    return raw.rstrip(b"\0") if wanted in TEXT_VRS else raw


def _numbers(raw: bytes, vr: str, order: str) -> list[float] | list[int]:
    """Return the numbers of a value; none where it holds anything else."""
    try:
        if vr in _NUMBERS:
            size = struct.calcsize(f"={_NUMBERS[vr]}")
            return list(struct.unpack(f"{order}{len(raw) // size}{_NUMBERS[vr]}", raw))
        if vr in TEXT_VRS:
            return [float(part) for part in raw.strip(b" \0").split(b"\\")]
    except (struct.error, ValueError):
        pass
    return []


def _packed(numbers: list[float] | list[int], wanted: str, order: str) -> bytes:
    whole = wanted in _INTEGERS
    try:
        if whole and any(number != int(number) for number in numbers):
            return b""
        values = [int(number) if whole else number for number in numbers]
        return struct.pack(f"{order}{len(values)}{_NUMBERS[wanted]}", *values)
    except (struct.error, OverflowError, ValueError):
        return b""

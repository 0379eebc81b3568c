"""Per-frame functional groups of multi-frame objects, thousands of frames at a time (PS3.3 C.7.6.16).

Belongs here: a quick reader of PerFrameFunctionalGroupsSequence (5200,9230) as it stands in the file. pydicom
makes an object of every element of every frame, a millisecond a frame; here the few values that are asked for
are cut out of the bytes, and equal values are decoded once. Does not: what the values mean (`dicom.nested`,
`dicom.seg`).
"""

import struct
from functools import cache, lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

PER_FRAME = 0x52009230
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_NUMBERS = {"US": "<H", "SS": "<h", "UL": "<L", "SL": "<l", "FL": "<f", "FD": "<d"}

_explicit = struct.Struct("<HH2sH").unpack_from
_implicit = struct.Struct("<HHL").unpack_from
_length = struct.Struct("<L").unpack_from


class RawGroup:
    """One item of a sequence: values by keyword, as of a pydicom `Dataset` through `get`."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[int, "bytes | list[RawGroup]"]) -> None:
        self._values = values

    def get(self, keyword: str, default: Any = None) -> Any:
        """Return a value decoded (one, or a list of several), the items of a sequence, or `default`."""
        tag = _tag(keyword)
        value = self._values.get(tag)
        if value is None:
            return default
        if isinstance(value, list):
            return value
        found = _decoded(tag, value)
        return default if found is None else found


def per_frame(dataset: Dataset) -> list[Any]:
    """Return the group of every frame: `RawGroup`s where the bytes can be followed, else pydicom's items."""
    if PER_FRAME not in dataset:
        return []
    element = dataset.get_item(PER_FRAME)
    if isinstance(element, RawDataElement) and element.is_little_endian and isinstance(element.value, bytes):
        try:
            groups, _ = _items(element.value, 0, len(element.value), explicit=not element.is_implicit_VR)
            return groups
        except (ValueError, struct.error):
            pass  # pydicom is more patient
    return list(dataset.get("PerFrameFunctionalGroupsSequence") or [])


def _items(data: bytes, position: int, end: int, *, explicit: bool) -> tuple[list[RawGroup], int]:
    """Return the items of a sequence and where it ends; `end` beyond the data for one of undefined length."""
    items: list[RawGroup] = []
    while position < end:
        group, number, length = _implicit(data, position)
        tag = group << 16 | number
        position += 8
        if tag == _SEQUENCE_END:
            return items, position
        if tag != _ITEM:
            raise ValueError("no item where one is due")
        stop = len(data) if length == _UNDEFINED else position + length
        if stop > len(data):
            raise ValueError("an item ends beyond its sequence")
        values, position = _elements(data, position, stop, explicit=explicit)
        items.append(RawGroup(values))
    return items, position


def _elements(
    data: bytes, position: int, end: int, *, explicit: bool
) -> tuple[dict[int, bytes | list[RawGroup]], int]:
    values: dict[int, bytes | list[RawGroup]] = {}
    while position < end:
        group, number, length = _implicit(data, position)
        tag = group << 16 | number
        position += 8
        if tag == _ITEM_END:
            return values, position
        vr = b""
        if explicit:
            _, _, vr, length = _explicit(data, position - 8)
            if vr in _LONG_VRS:
                (length,) = _length(data, position)
                position += 4
        if length == _UNDEFINED:
            if vr == b"UN":
                raise ValueError("unknown content of undefined length")
            values[tag], position = _items(data, position, len(data), explicit=explicit)
            continue
        stop = position + length
        if stop > end:
            raise ValueError("a value ends beyond its item")
        if vr == b"SQ" or (not explicit and _is_sequence(tag)):
            values[tag] = _sequence(data[position:stop], explicit)
        else:
            values[tag] = data[position:stop]
        position = stop
    return values, position


@lru_cache(maxsize=8192)
def _sequence(data: bytes, explicit: bool) -> list[RawGroup]:
    """Return the items of one sequence; frames of many segments repeat those of one another."""
    return _items(data, 0, len(data), explicit=explicit)[0]


@lru_cache(maxsize=8192)
def _decoded(tag: int, raw: bytes) -> Any:
    vr = _vr(tag)
    if vr in _NUMBERS:
        several = [number for (number,) in struct.iter_unpack(_NUMBERS[vr], raw)] if raw else []
        return several[0] if len(several) == 1 else several or None
    text = raw.decode("utf-8", "replace").strip(" \0")
    if not text:
        return None
    parts: list[Any] = [part.strip(" \0") for part in text.split("\\")]
    if vr in ("DS", "IS"):
        parts = [_number(part) for part in parts]
    return parts[0] if len(parts) == 1 else parts


def _number(text: str) -> float | str:
    """Return a number; what is none stays text, so that the caller tells it from absent."""
    try:
        return float(text)
    except ValueError:
        return text


@cache
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


@cache
def _vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


@cache
def _is_sequence(tag: int) -> bool:
    return _vr(tag) == "SQ"

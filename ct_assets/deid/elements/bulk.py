"""Values of numbers in bulk, down to what their data set says that they hold: tables, waveforms, ICC profiles.

Belongs here: waveforms (PS3.3 C.10.9), segmented palettes (C.7.9.2), and which values are rewritten. Does not:
the plain tables (`lookup_tables`), a profile's inside (`icc_profiles`), pixels.
"""

import struct
from collections.abc import Mapping

from pydicom.dataelem import DataElement, RawDataElement

from ct_assets.deid.elements import icc_profiles, lookup_tables

Own = Mapping[int, RawDataElement | DataElement]
Rewritten = tuple[RawDataElement, str, str]
"""The element, the rule and the action of the audit line."""
ICC_PROFILE, WAVEFORM_DATA = 0x00282000, 0x54001010
_CHANNELS, _SAMPLES, _BITS = 0x003A0005, 0x003A0010, 0x54001004
_SEGMENTED = {0x00281221: 0x00281101, 0x00281222: 0x00281102, 0x00281223: 0x00281103}
DAMAGED_CODE = "bulk_data_damaged"
_PROFILE_ACTION = "numbers kept, texts, maker, date and private tags replaced"
_WAVEFORM_ACTION = "kept, bytes behind the last sample removed"
EMPTIED = "emptied, not built as its data set says"
"""The action of a table or waveform that does not say where its values end: its object is no longer what its class
says, an image without its palette, a waveform object without a waveform, and is held."""


def rewritten(own: Own) -> dict[int, Rewritten]:
    """Return the values of a data set that do not stay as they are."""
    done: dict[int, Rewritten] = {
        tag: (element, "lookup table", lookup_tables.ACTION if element.value else EMPTIED)
        for tag, element in lookup_tables.surplus(own).items()
    }
    profile, waveform = own.get(ICC_PROFILE), own.get(WAVEFORM_DATA)
    if isinstance(profile, RawDataElement) and profile.value:
        content = icc_profiles.clean(profile.value)
        content += bytes(len(content) & 1)
        if content != profile.value:
            done[ICC_PROFILE] = (_with(profile, content), "ICC profile", _PROFILE_ACTION)
    if isinstance(waveform, RawDataElement) and waveform.value:
        length = _waveform_bytes(own)
        if len(waveform.value) > length + length % 2 or any(waveform.value[length:]):
            content = waveform.value[:length] + bytes(length % 2)
            action = _WAVEFORM_ACTION if length else EMPTIED
            done[WAVEFORM_DATA] = (_with(waveform, content), "waveform", action)
    for tag, descriptor_tag in _SEGMENTED.items():
        table, descriptor = own.get(tag), own.get(descriptor_tag)
        if isinstance(table, RawDataElement) and table.value:
            length = _segments_bytes(table, descriptor if isinstance(descriptor, RawDataElement) else None)
            if len(table.value) > length + length % 2 or any(table.value[length:]):
                content = table.value[:length] + bytes(length % 2)
                action = lookup_tables.ACTION if length else EMPTIED
                done[tag] = (_with(table, content), "lookup table", action)
    return done


def is_damaged(own: Own) -> bool:
    """Tell whether a table or waveform of this data set would be emptied."""
    present = any(tag in own for tag in (*lookup_tables.DESCRIPTORS, *_SEGMENTED, WAVEFORM_DATA))
    return present and any(action == EMPTIED for _, _, action in rewritten(own).values())


def _with(element: RawDataElement, content: bytes) -> RawDataElement:
    return element._replace(value=content, length=len(content))


def _number(own: Own, tag: int) -> int:
    element = own.get(tag)
    if not isinstance(element, RawDataElement):
        return 0
    return int.from_bytes(element.value or b"", "little" if element.is_little_endian else "big")


def _waveform_bytes(own: Own) -> int:
    """Return the bytes of all samples, 0 where the item does not say how many there are."""
    return _number(own, _CHANNELS) * _number(own, _SAMPLES) * (_number(own, _BITS) // 8)


def _segments_bytes(table: RawDataElement, descriptor: RawDataElement | None) -> int:
    """Return where the segments end that give all entries of the descriptor; 0 where none do (PS3.3 C.7.9.2)."""
    raw = (descriptor.value or b"") if descriptor is not None else b""
    if len(raw) != 6:
        return 0
    order = "<" if table.is_little_endian else ">"
    entries, _, bits = struct.unpack(f"{order}3H", raw)
    entries = entries or 1 << 16
    width = 1 if bits <= 8 else 2
    value = table.value or b""
    words = struct.unpack_from(f"{order}{len(value) // width}{'B' if width == 1 else 'H'}", value)
    position = given = 0
    starts: dict[int, int] = {}
    sizes: list[int] = []  # entries by segment, 0 of an indirect one, which none may repeat
    while given < entries:
        if position + 2 > len(words):
            return 0
        code, count = words[position], words[position + 1]
        if code == 0:
            size, length = count, 2 + count
        elif code == 1 and given:
            size, length = count, 3
        elif code == 2:
            length = 2 + 4 // width
            if position + length > len(words):
                return 0
            parts = words[position + 2 : position + length]
            offset = sum(part << (8 * width * place) for place, part in enumerate(parts))
            first = starts.get(offset, len(sizes))
            copied = sizes[first : first + count]
            if len(copied) < count or 0 in copied:
                return 0
            size = sum(copied)
        else:
            return 0
        starts[position * width] = len(sizes)
        sizes.append(0 if code == 2 else size)
        position, given = position + length, given + size
        if not size or position > len(words):
            return 0
    return position * width if given == entries else 0

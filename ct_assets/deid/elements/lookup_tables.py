"""Lookup tables of images: palettes and LUTs as long as their descriptor says (PS3.3 C.7.6.3.1.5, C.11.1.1).

Belongs here: bytes behind the last entry of a table, which no display uses. Does not: what entries mean.
"""

import struct
from collections.abc import Mapping

from pydicom.dataelem import DataElement, RawDataElement

DESCRIPTORS = {
    0x00281201: 0x00281101,  # RedPaletteColorLookupTableData and its descriptor
    0x00281202: 0x00281102,
    0x00281203: 0x00281103,
    0x00281204: 0x00281104,
    0x00283006: 0x00283002,  # LUTData, LUTDescriptor
}
ACTION = "kept, bytes behind the last entry removed"


def surplus(own: Mapping[int, RawDataElement | DataElement]) -> dict[int, RawDataElement]:
    """Return the tables of a data set that are longer than their descriptor says, cut to their length; none of
    their bytes stay where no descriptor says how many entries there are."""
    cut: dict[int, RawDataElement] = {}
    for tag, descriptor_tag in DESCRIPTORS.items():
        table, descriptor = own.get(tag), own.get(descriptor_tag)
        if not isinstance(table, RawDataElement) or isinstance(descriptor, DataElement):
            continue
        raw, value = (descriptor.value or b"") if descriptor is not None else b"", table.value or b""
        if descriptor is None or len(raw) != 6:
            if value:
                cut[tag] = table._replace(value=b"", length=0)
            continue
        entries, _, bits = struct.unpack("<3H" if descriptor.is_little_endian else ">3H", raw)
        entries = entries or 1 << 16
        packed = entries + entries % 2 if bits <= 8 else 2 * entries
        length = packed if len(value) < 2 * entries else 2 * entries
        if len(value) > length:
            cut[tag] = table._replace(value=value[:length], length=length)
    return cut

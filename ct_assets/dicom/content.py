"""What an instance says, whatever it is written in: one digest for equal data sets and pixels.

Belongs here: the digest of a data set without what the encoding decides: preamble and file meta information (which
are no content, PS3.10 7.1), transfer syntax, VRs, lengths, padding, group lengths, order of colour planes. Pixels
count as they decode. Does not: which of two equal files stays.
"""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.sequence import Sequence
from pydicom.values import convert_SQ

from ct_assets.dicom import unknown_sequences

_OF_THE_ENCODING = frozenset(
    (
        0x00280006,  # PlanarConfiguration
        0x7FE00001,  # ExtendedOffsetTable
        0x7FE00002,  # ExtendedOffsetTableLengths
        0xFFFCFFFC,  # DataSetTrailingPadding
    )
)
_PHOTOMETRIC, _PIXEL_DATA = 0x00280004, 0x7FE00010
_AS_RGB = frozenset(("RGB", "YBR_RCT", "YBR_ICT", "YBR_FULL", "YBR_FULL_422"))
"""Photometric interpretations that decode to RGB: a lossless codec changes one into another."""
_BYTES_A_VALUE = {
    "AT": 2,
    "OW": 2,
    "SS": 2,
    "US": 2,
    "FL": 4,
    "OF": 4,
    "OL": 4,
    "SL": 4,
    "UL": 4,
} | dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8)


def digest(path: Path) -> str | None:
    """Return the SHA-256 of what the instance in `path` says; None where that cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path, force=True)
            return _digest(dataset)
    except Exception:  # whatever a broken file does to the reader, it is equal to nothing
        return None


def _digest(dataset: Dataset) -> str:
    state = hashlib.sha256()
    _add(dataset, state, is_root=True)
    if _PIXEL_DATA in dataset:
        _add_pixels(dataset, state)
    return state.hexdigest()


def _add(dataset: Dataset, state: Any, *, is_root: bool) -> None:
    for tag in sorted(dataset._dict):
        number = int(tag)
        if number & 0xFFFF == 0 or number >> 16 < 8:
            continue
        if is_root and (number in _OF_THE_ENCODING or number == _PIXEL_DATA):
            continue
        element = dataset.get_item(tag)
        if is_root and number == _PHOTOMETRIC and str(dataset[tag].value) in _AS_RGB:
            state.update(b"\0colour")
            continue
        state.update(number.to_bytes(4, "big"))
        items = _items(element, number)
        if items is None:
            value = _value(element, number)
            state.update(len(value).to_bytes(8, "big") + value)
            continue
        state.update(b"items" + len(items).to_bytes(4, "big"))
        for item in items:
            _add(item, state, is_root=False)
            state.update(b"\0end")


def _items(element: Any, tag: int) -> list[Dataset] | None:
    if not isinstance(element, RawDataElement):
        return list(element.value) if isinstance(element.value, Sequence) else None
    vr, value = element.VR or _dictionary_vr(tag), element.value or b""
    if vr == "SQ":
        return (
            list(convert_SQ(value, element.is_implicit_VR, element.is_little_endian, None)) if value else []
        )
    return (unknown_sequences.items(value) or None) if vr == "UN" else None


def _value(element: Any, tag: int) -> bytes:
    """Return a value little-endian and without padding."""
    if not isinstance(element, RawDataElement):
        told = element.value or ""  # what pydicom converts while it reads: SpecificCharacterSet, empty values
        return (told if isinstance(told, str) else "\\".join(str(part) for part in told)).encode().rstrip()
    value = element.value or b""
    vr = element.VR or _dictionary_vr(tag)
    size = _BYTES_A_VALUE.get(vr, 1)
    if size > 1 and not element.is_little_endian and len(value) % size == 0:
        value = np.frombuffer(value, f">u{size}").astype(f"<u{size}").tobytes()
    return value.rstrip(b" \0") if size == 1 else value


def _dictionary_vr(tag: int) -> str:
    if tag >> 16 & 1:
        return "UN"
    try:
        return dictionary_VR(tag)[:2]
    except KeyError:
        return "UN"


def _add_pixels(dataset: Dataset, state: Any) -> None:
    """Add the pixels as they decode; of a coding that nobody can decode, its bytes."""
    try:
        for frame in iter_pixels(dataset):
            state.update(f"frame {frame.shape} {frame.dtype.kind}".encode())
            state.update(frame.astype(frame.dtype.newbyteorder("<")).tobytes())
    except Exception:
        state.update(f"undecoded {dataset.file_meta.get('TransferSyntaxUID')}".encode())
        state.update(bytes(dataset[_PIXEL_DATA].value or b""))

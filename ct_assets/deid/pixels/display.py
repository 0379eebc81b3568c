"""What a display shows of a frame of stored values: palette, windows and look-up tables of the header.

Belongs here: the pictures in 8 bit that a viewer may show (PS3.3 C.7.6.3.1.5, C.11.1, C.11.2, C.11.6), all of them,
since text may be plain in one and invisible in the others. Does not: looking for text in them (`ocr`, `barcode`).
Inversion (MONOCHROME1, presentation LUT shape INVERSE) hides no text, so it makes no picture of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.tag import Tag

from ct_assets.deid.pixels import frames

AIR_HU = (-1024.0, -600.0)
"""The window in which faint text on air is plain."""
AIR_BELOW_HU = -930.0
"""What is darker is air outside the body; lungs are brighter."""
MOST_VIEWS = 12
"""Windows and tables of one header that are looked at; no writer was seen to give more."""
ALIKE = 0.1
"""A window whose limits differ from those of the usual picture by less than this share shows the same."""

_WINDOW_CENTER, _WINDOW_WIDTH, _MODALITY_LUT = 0x00281050, 0x00281051, 0x00283000
_OF_THE_ROOT = (
    0x00281050,  # WindowCenter
    0x00281051,  # WindowWidth
    0x00281052,  # RescaleIntercept
    0x00281053,  # RescaleSlope
    0x00281056,  # VOILUTFunction
    0x00283000,  # ModalityLUTSequence
    0x00283010,  # VOILUTSequence
)
_SHARED, _PER_FRAME, _FRAME_VOI, _TRANSFORMATION = 0x52009229, 0x52009230, 0x00289132, 0x00289145


@dataclass(frozen=True, slots=True)
class Window:
    """A window in stored values: what is below is black, what is above white."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """The range that is shown, in stored values."""
        return self.high - self.low


class Display:
    """The display part of one header; made once an instance, whose raw elements stay raw."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        is_multi_frame = Tag(_SHARED) in dataset._dict or Tag(_PER_FRAME) in dataset._dict
        groups = _functional_groups(dataset) if is_multi_frame else []
        place = (_items_in(groups, _TRANSFORMATION) or [dataset])[0]
        self.slope = _number(place, 0x00281053, 1.0) or 1.0
        self.intercept = _number(place, 0x00281052, 0.0)
        items = (dataset, *_items_in(groups, _FRAME_VOI))
        windows = (window for item in items for window in self._windows_of(item))
        self.windows = tuple(dict.fromkeys(windows))[:MOST_VIEWS]

    @property
    def is_hounsfield(self) -> bool:
        """Whether stored values become HU by a line."""
        return (
            frames.text(self._dataset, 0x00080060) == "CT" and Tag(_MODALITY_LUT) not in self._dataset._dict
        )

    @property
    def air(self) -> tuple[Window, float]:
        """The window that shows faint text on air, and what is air, in stored values."""
        low, high, below = ((hu - self.intercept) / self.slope for hu in (*AIR_HU, AIR_BELOW_HU))
        return Window(low, high), below

    @cached_property
    def _header(self) -> Dataset:
        header = frames.image_pixel(self._dataset, with_pixels=False)
        for tag in _OF_THE_ROOT:
            if tag in self._dataset:
                item = self._dataset.get_item(Tag(tag))
                header.add(convert_raw_data_element(item) if isinstance(item, RawDataElement) else item)
        return header

    def pictures(self, frame: np.ndarray) -> Iterator[np.ndarray]:
        """Yield what the header makes of a frame of stored values, besides its usual picture."""
        if frame.ndim != 2:
            return
        if "RedPaletteColorLookupTableDescriptor" in self._header:
            yield _coloured(frame, self._header)
        low, high = (float(part) for part in np.percentile(frame, [0.5, 99.5]))
        for window in self.windows:
            is_alike = max(abs(window.low - low), abs(window.high - high)) <= ALIKE * max(high - low, 1.0)
            if not is_alike or frame.dtype == np.uint8:
                yield windowed(frame, window)
        yield from self._by_tables(frame)

    def _windows_of(self, item: Dataset) -> Iterator[Window]:
        if Tag(_MODALITY_LUT) in self._dataset._dict:
            return  # not linear in stored values; `_by_tables`
        centers, widths = (_numbers(item, tag) for tag in (_WINDOW_CENTER, _WINDOW_WIDTH))
        for center, width in zip(centers, widths, strict=False):
            if width > 0 and np.isfinite(center) and np.isfinite(width):
                limits = [(center + side * width / 2 - self.intercept) / self.slope for side in (-1, 1)]
                yield Window(min(limits), max(limits))

    def _by_tables(self, frame: np.ndarray) -> Iterator[np.ndarray]:
        """Yield what modality and VOI look-up tables show."""
        header = self._header
        tables = len(header.get("VOILUTSequence") or ())
        through_table = "ModalityLUTSequence" in header
        if not tables and not through_table:
            return
        values = apply_modality_lut(frame, header)
        if through_table:
            yield frames.to_8bit(values, low_percent=0, high_percent=100)
            for index in range(min(len(_numbers(header, _WINDOW_CENTER)), MOST_VIEWS)):
                yield frames.to_8bit(apply_windowing(values, header, index), low_percent=0, high_percent=100)
        for index in range(min(tables, MOST_VIEWS)):
            shown = apply_voi_lut(values.astype(np.int32), header, index)
            yield frames.to_8bit(shown, low_percent=0, high_percent=100)


def windowed(frame: np.ndarray, window: Window) -> np.ndarray:
    """Return a frame in 8 bit as a window shows it (linear, PS3.3 C.11.2.1.2)."""
    scaled = (frame.astype(np.float32) - window.low) * (255.0 / max(window.width, 1e-6))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _coloured(frame: np.ndarray, header: Dataset) -> np.ndarray:
    """Return the colours of palette indices in 8 bit."""
    shown = apply_color_lut(frame, header)
    depth = shown.dtype.itemsize * 8
    return (shown >> (depth - 8)).astype(np.uint8) if depth > 8 else shown


def _functional_groups(dataset: Dataset) -> list[Dataset]:
    """Return the items of shared and per-frame functional groups; none where they cannot be read."""
    found: list[Dataset] = []
    for tag in (_SHARED, _PER_FRAME):
        element = dataset._dict.get(Tag(tag))
        if element is None:
            continue
        try:
            value = (
                convert_raw_data_element(element).value
                if isinstance(element, RawDataElement)
                else element.value
            )
            found += list(value or ())
        except Exception:
            continue
    return found


def _items_in(groups: list[Dataset], tag: int) -> list[Dataset]:
    items: list[Dataset] = []
    for group in groups:
        if tag in group:
            items += list(group[tag].value or ())
    return items


def _numbers(item: Dataset, tag: int) -> list[float]:
    value = frames.value(item, tag)
    parts = (
        []
        if value is None
        else [value]
        if isinstance(value, str) or not hasattr(value, "__iter__")
        else value
    )
    try:
        return [float(part) for part in parts]
    except (TypeError, ValueError):
        return []


def _number(item: Dataset, tag: int, default: float) -> float:
    found = _numbers(item, tag)
    return found[0] if found else default

"""How the headers of earlier files were laid out, so that a file of the same layout is read without a walk.

Belongs here: remembering where the elements of a header lay, and the proof that another file has them at the same
places. Does not: walking (`dicom.elements`).

The slices of a series mostly differ in values, not in lengths. A layout is one format of `struct`: it cuts out the
header of every element, the wanted values, and what must be equal as a whole (the transfer syntax, sequences of undefined
length). Where all element headers are equal byte for byte, a walk would take the same way, so the result is the same.
"""

import struct
from collections.abc import Callable
from operator import itemgetter
from typing import Any

Step = tuple[int, int, int, int]
"""Start of an element's header, start of its value, end of the value, tag."""
START = 128
"""The prefix DICM; the preamble before it means nothing."""
MOST_SIZES = 2048
MOST_OF_A_SIZE = 4
FEWEST_PICKED = 2
"""`itemgetter` returns a tuple from two items on."""


class Layout:
    """One layout of a header."""

    def __init__(self, data: bytes, steps: list[Step], wanted: frozenset[int], whole: frozenset[int]) -> None:
        """Describe the header in `data`; values of the steps that start in `whole` must be equal in other files."""
        parts, at = ["<4s"], START + 4
        fixed, picked = [0], list[int]()
        self.tags = list[int]()
        for start, value, end, tag in steps:
            parts += [f"{start - at}x{value - start}s"]
            fixed.append(len(fixed) + len(picked))
            if start in whole:
                parts.append(f"{end - value}s")
                fixed.append(len(fixed) + len(picked))
            elif tag in wanted:
                parts.append(f"{end - value}s")
                picked.append(len(fixed) + len(picked))
                self.tags.append(tag)
            else:
                parts.append(f"{end - value}x")
            at = end
        self.end = at
        self._cut = struct.Struct("".join(parts)).unpack_from
        self.is_usable = min(len(fixed), len(picked)) >= FEWEST_PICKED
        if self.is_usable:
            self._fixed: Callable[[Any], Any] = itemgetter(*fixed)
            self._picked: Callable[[Any], Any] = itemgetter(*picked)
            self._expected = self._fixed(self._cut(data, START))

    def values(self, data: bytes) -> dict[int, bytes] | None:
        """Return the wanted values of another header; None where its layout is another."""
        if len(data) < self.end:
            return None
        found = self._cut(data, START)
        if self._fixed(found) != self._expected:
            return None
        return dict(zip(self.tags, self._picked(found), strict=True))


class Layouts:
    """Layouts by file size, with what a walk returned beside the values."""

    def __init__(self) -> None:
        self._of_size: dict[int, list[tuple[Layout, Any]]] = {}

    def find(self, data: bytes, size: int) -> tuple[dict[int, bytes], Any] | None:
        """Return the values of a header and what was remembered with its layout; None for a new layout."""
        for layout, remembered in self._of_size.get(size, ()):
            values = layout.values(data)
            if values is not None:
                return values, remembered
        return None

    def is_worth_learning(self, size: int) -> bool:
        """Tell whether a file of this size came before; sizes that occur once are not worth a layout."""
        known = self._of_size.get(size)
        if known is None:
            if len(self._of_size) >= MOST_SIZES:
                self._of_size.clear()
            self._of_size[size] = []
            return False
        return len(known) < MOST_OF_A_SIZE

    def learn(self, size: int, layout: Layout, remembered: Any) -> None:
        """Remember a layout for files of this size."""
        if layout.is_usable:
            self._of_size.setdefault(size, []).append((layout, remembered))

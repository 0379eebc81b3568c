"""Sequences of very many items, parsed one item at a time.

Belongs here: parting the value of a sequence into items by their lengths (PS3.5 7.5). Does not: what happens to
an item (`engine`). Time follows the items that differ, and memory one item: pydicom takes 2 kB for each.
"""

import struct
from collections.abc import Callable, Sequence
from typing import overload

from pydicom.dataset import Dataset

MANY = 1000
"""Shorter sequences are parsed as a whole."""
MANY_TO_WATCH = 50_000
"""From so many items on progress is shown within a sequence; they take some 0.1 ms each."""
_ITEM = 0xE000FFFE
_head = struct.Struct("<LL").unpack_from


class RawItems(Sequence[Dataset]):
    """The items of one sequence: their bytes, and each as a data set when it is asked for."""

    def __init__(
        self, value: bytes, places: list[tuple[int, int]], parse: Callable[[bytes], Dataset]
    ) -> None:
        self._value, self._places, self._parse = value, places, parse

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, number: int) -> Dataset: ...
    @overload
    def __getitem__(self, number: slice) -> list[Dataset]: ...
    def __getitem__(self, number: int | slice) -> Dataset | list[Dataset]:
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        return self._parse(self.raw(number))

    def raw(self, number: int) -> bytes:
        """Return the bytes of one item."""
        start, stop = self._places[number]
        return self._value[start:stop]

    def distinct(self) -> list[Dataset]:
        """Return one item of each content, in order."""
        return [self._parse(raw) for raw in dict.fromkeys(self.raw(number) for number in range(len(self)))]


def parted(value: bytes) -> list[tuple[int, int]] | None:
    """Return where the contents of the items lie in a little-endian value; None where an item does not state its
    length or the lengths do not fit."""
    places: list[tuple[int, int]] = []
    position, end = 0, len(value)
    while position < end:
        if position + 8 > end:
            return None
        tag, length = _head(value, position)
        stop = position + 8 + length
        if tag != _ITEM or stop > end:
            return None
        places.append((position + 8, stop))
        position = stop
    return places

"""References of a mask to the images it was drawn on: an instance, or frames of one (PS3.3 10.3)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """One referenced image."""

    sop_instance_uid: str
    frames: tuple[int, ...] = ()
    """Referenced Frame Numbers (0008,1160), from 1; empty: the whole instance."""


def sources(items: Iterable[Any]) -> tuple[Source, ...]:
    """Return the distinct images that the items of a sequence reference, in their order."""
    found = [
        Source(str(uid).strip(" \0"), frame_numbers(item.get("ReferencedFrameNumber")))
        for item in items
        if (uid := item.get("ReferencedSOPInstanceUID"))
    ]
    return tuple(dict.fromkeys(found))


def frame_numbers(value: Any) -> tuple[int, ...]:
    """Return Referenced Frame Number as numbers; what is none is left out."""
    if value is None or value == "":
        return ()
    several = [value] if isinstance(value, str | int | float) else list(value)
    numbers = []
    for one in several:
        try:
            numbers.append(int(one))
        except (TypeError, ValueError):
            continue
    return tuple(numbers)

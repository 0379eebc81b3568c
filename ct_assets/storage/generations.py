"""Generations: what the data root held at one moment, in lists that are objects themselves.

Belongs here: the form of a generation and of an area's list, and putting changes onto a generation. Does
not: the network (`store`), files (`copy`).

A generation names a list for each area by digest; a list names each file of its area by digest. So an
unchanged area costs nothing, an object is never written twice with other content, and a generation that can
be read is whole: its number is given out last, when everything that it names is there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ct_assets.storage.tree import Entry, area_of, is_restricted

FORMAT = 1


@dataclass(frozen=True, slots=True)
class AreaList:
    """Where one area's list is, and what it sums up to."""

    sha256: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Generation:
    """One state of the data root; number 0 is the empty one before all others."""

    number: int = 0
    areas: Mapping[str, AreaList] = field(default_factory=dict)

    def as_bytes(self, published_at: str) -> bytes:
        """Return the generation as it is stored; of the restricted folders it tells counts alone."""
        areas = {
            name: {"list": area.sha256, "files": area.files, "bytes": area.bytes}
            for name, area in sorted(self.areas.items())
        }
        content = {"format": FORMAT, "generation": self.number, "published_at": published_at, "areas": areas}
        return orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n"


def read_generation(content: bytes) -> Generation:
    """Read a stored generation. Raises `ValueError` where it is none, or of another format."""
    try:
        value: dict[str, Any] = orjson.loads(content)
        areas = {
            name: AreaList(area["list"], area["files"], area["bytes"])
            for name, area in value["areas"].items()
        }
        number, form = int(value["generation"]), value["format"]
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError):
        raise ValueError("no generation of a data root") from None
    if form != FORMAT:
        raise ValueError(f"format {form}; this version reads format {FORMAT}")
    return Generation(number, areas)


Listing = dict[str, Entry]
"""Written names of files to their entries."""


def write_list(listing: Mapping[str, Entry]) -> bytes:
    """Return an area's list as it is stored: equal files, equal bytes."""
    rows = [[name, one.sha256, one.bytes, one.mode, one.kind] for name, one in sorted(listing.items())]
    return orjson.dumps({"format": FORMAT, "files": rows})


def read_list(content: bytes) -> Listing:
    """Read an area's list."""
    return {
        name: Entry(sha256, size, mode, kind)
        for name, sha256, size, mode, kind in orjson.loads(content)["files"]
    }


def by_area(names: Iterable[str]) -> dict[str, list[str]]:
    """Return names by their areas."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(area_of(name), []).append(name)
    return found


def object_key(sha256: str, name_or_area: str) -> str:
    """Return where an object lies in the store; restricted ones apart, so that access can be given apart."""
    prefix = "restricted/" if is_restricted(name_or_area) else ""
    return f"{prefix}objects/{sha256[:2]}/{sha256}"


def conflicts(
    changes: Mapping[str, Entry | None], base: Mapping[str, Entry], latest: Mapping[str, Entry]
) -> list[str]:
    """Return the names that changed here and, otherwise, in the store since this machine last saw them."""
    return [
        name
        for name, mine in changes.items()
        if latest.get(name) != base.get(name) and not _same(latest.get(name), mine)
    ]


def _same(one: Entry | None, other: Entry | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.sha256, one.kind) == (other.sha256, other.kind)

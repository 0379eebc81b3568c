"""PS3.15 Table E.1-1 and E.3.10-1 and the attribute Types of the IODs, as bundled data.

Belongs here: reading `data/ps315.json` (made by `scripts/make_ps315_table.py`, never by hand) and looking
things up in it. Does not: what a profile makes of an action (`rules`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import orjson
from pydicom._uid_dict import UID_dictionary

REPEATING_OVERLAY_ROWS = {0x3000: "60xx3000", 0x4000: "60xx4000"}
CURVE_ROW = "50xxxxxx"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of Table E.1-1: the Basic Profile's action and what each option says instead."""

    action: str
    options: Mapping[str, str]


@dataclass(frozen=True)
class Ps315Table:
    """The tables, and where they come from."""

    edition: str
    digest: str
    content: dict[str, Any]

    @cached_property
    def rows(self) -> dict[int, Row]:
        """Rows by tag; repeating groups are not in here (see `is_curve`, `is_overlay`)."""
        return {
            int(tag, 16): Row(entry[0], entry[1] if len(entry) > 1 else {})
            for tag, entry in self.content["attributes"].items()
            if "x" not in tag
        }

    @cached_property
    def safe_private(self) -> dict[tuple[str, int, int], str]:
        """VR by private creator (folded), group and element within its block."""
        return {
            (fold_creator(creator), int(group, 16), int(element, 16)): vr
            for creator, group, element, vr in self.content["safe_private"]
        }

    def knows_sop_class(self, uid: str) -> bool:
        """Whether the Standard's tables have an IOD for this SOP class."""
        return uid in self.content["sop_classes"]

    def types_of(self, sop_class: str) -> "AttributeTypes":
        """Return the Types of the IOD behind a SOP class; of an unknown class nothing is known."""
        return _types_of(self.content["sop_classes"].get(sop_class))


class AttributeTypes:
    """Types of one IOD by path and tag; the strictest where several modules have an attribute."""

    def __init__(self, by_place: dict[tuple[str, int], int]) -> None:
        self._by_place = by_place

    def of(self, path: str, tag: int) -> int:
        """Return 1, 2 or 3. `path` joins the keywords of the enclosing sequences with dots.

        Conditional Types count as unconditional: where such an attribute is present, its condition may hold.
        What the IOD does not list at this place is 3.
        """
        return self._by_place.get((path, tag), 3)


@cache
def load() -> Ps315Table:
    """Read the bundled table. Raises `ValueError` when it is not the file that the script wrote."""
    folder = resources.files("ct_assets.deid") / "data"
    raw = (folder / "ps315.json").read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != (folder / "ps315.sha256").read_text().strip():
        raise ValueError("ps315.json is not the file that scripts/make_ps315_table.py wrote")
    content = orjson.loads(raw)
    return Ps315Table(content["edition"], digest, content)


@cache
def _types_of(iod: str | None) -> AttributeTypes:
    content = load().content
    by_place: dict[tuple[str, int], int] = {}
    for module in content["iods"].get(iod, ()):
        for path, tag, attribute_type in content["types"].get(module, ()):
            place = (content["paths"][path], int(tag, 16))
            by_place[place] = min(by_place.get(place, 3), int(attribute_type[0]))
    return AttributeTypes(by_place)


@cache
def text_kinds() -> Mapping[int, str]:
    """Return how each text attribute that Table E.1-1 does not name is treated, by tag.

    From `data/text_attributes.csv`, made by `scripts/make_text_rules.py`, so that a person can review it.
    """
    listed = (resources.files("ct_assets.deid") / "data" / "text_attributes.csv").read_text("utf-8")
    rows = (line.split(",", 4) for line in listed.splitlines()[1:])
    return {int(tag, 16): kind for tag, _, _, kind, _ in rows if kind != "listed"}


def fold_creator(creator: str) -> str:
    """Return a private creator as creators are compared: padding off, runs of blanks as one, case folded."""
    return " ".join(creator.replace("\0", " ").split()).casefold()


def is_curve(tag: int) -> bool:
    """Whether the tag is of a repeating curve group, 50xx."""
    return 0x5000 <= tag >> 16 <= 0x50FF


def is_overlay(tag: int) -> bool:
    """Whether the tag is of a repeating overlay group, 60xx."""
    return 0x6000 <= tag >> 16 <= 0x60FF


def is_pixel_data(tag: int) -> bool:
    """Whether the tag is of a group of pixel data: 7FE0, or one of the retired variable ones, 7Fxx."""
    return 0x7F00 <= tag >> 16 <= 0x7FFF


def is_retired_class(uid: str) -> bool:
    """Whether PS3.6 Annex A lists the SOP class as retired."""
    entry = UID_dictionary.get(uid)
    return entry is not None and bool(entry[3])

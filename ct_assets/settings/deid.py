"""The de-identification profile: which options of PS3.15 Annex E are in force, and the site's own rules.

Belongs here: what a privacy officer decides. Does not: what each option does to each attribute, which is the
Standard's table (`ct_assets.deid.elements.table`).
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ct_assets.settings.base import Section
from ct_assets.settings.load import read_section


class RegionRule(Section):
    """Regions that are blanked on every image of one kind, such as the bars of an ultrasound device."""

    modality: str | None = None
    sop_class_uid: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    """ManufacturerModelName."""
    rows: int | None = Field(default=None, ge=1)
    columns: int | None = Field(default=None, ge=1)
    boxes: tuple[tuple[NonNegativeInt, NonNegativeInt, PositiveInt, PositiveInt], ...] = Field(min_length=1)
    """Column and row of the upper left corner, width, height, in pixels."""

    @model_validator(mode="after")
    def _of_one_layout(self) -> "RegionRule":
        if self.rows is None or self.columns is None:
            raise ValueError("a region fits one layout: name rows and columns, and the device")
        if self.modality is None and self.sop_class_uid is None and self.manufacturer is None:
            raise ValueError("name modality, sop_class_uid or manufacturer, so that other images stay whole")
        return self


class BurnedInSettings(Section):
    """How text in pixels is looked for (`burned_in:`)."""

    regions: tuple[RegionRule, ...] = ()
    """Regions to blank; an image is released when nothing is read outside them."""


class SafePrivateElement(Section):
    """A private element that the site knows to be safe, beside those of Table E.3.10-1."""

    creator: str = Field(min_length=1)
    """Private creator as the block's owner writes it."""
    group: str = Field(pattern="^[0-9A-Fa-f]{4}$")
    """Group in hex, odd."""
    element: str = Field(pattern="^[0-9A-Fa-f]{2}$")
    """Element within its block in hex: blocks move, this does not."""


class SiteRule(Section):
    """One rule of the site: an attribute, and what to do with it."""

    action: Literal["keep", "remove", "replace"]
    """`keep` leaves the value (known identifiers in it are still cut out); `remove` takes the element out;
    `replace` writes `value`."""
    tag: str | None = Field(default=None, pattern="^[(]?[0-9A-Fa-f]{4},? ?[0-9A-Fa-f]{4}[)]?$")
    """The attribute by its tag, `0008103E` or `(0008,103E)`."""
    keyword: str | None = None
    """The attribute by its keyword, `SeriesDescription`."""
    private_creator: str | None = None
    """All private elements of this creator."""
    value: str | None = None
    """What `replace` writes."""
    why: str = ""
    """A word for the audit."""

    @model_validator(mode="after")
    def _one_target(self) -> "SiteRule":
        if sum(target is not None for target in (self.tag, self.keyword, self.private_creator)) != 1:
            raise ValueError("name the attribute by exactly one of tag, keyword, private_creator")
        if (self.action == "replace") != (self.value is not None):
            raise ValueError("value belongs to the action replace, and to it alone")
        if self.action == "replace" and self.private_creator is not None:
            raise ValueError("the elements of a private creator can be kept or removed, not replaced")
        return self


class DeidProfile(Section):
    """The Basic Application Level Confidentiality Profile (113100) and the options that are in force.

    The defaults are the shipped profile.
    """

    retain_longitudinal: Literal["modified", "full", "no"] = "modified"
    """Dates: `modified` moves every date of a patient by one whole number of days (113107), `full` keeps them
    (113106), `no` removes or replaces them. Clock times stay with the first two."""
    retain_patient_characteristics: bool = True
    """Age, sex, size, weight and the like stay (113108)."""
    max_age_years: int = Field(default=89, ge=1, le=120)
    """Higher ages are written as this age: single very old persons can be known by their age."""
    clean_descriptors: bool = True
    """Descriptions and comments keep what is proved harmless (113105); without it they go."""
    retain_safe_private: bool = True
    """Private elements of Table E.3.10-1 stay (113111); all others go."""
    safe_private: tuple[SafePrivateElement, ...] = ()
    """Further private elements that the site knows to be safe."""
    retain_device_identity: bool = False
    """Serial numbers, station names and device UIDs stay (113109)."""
    retain_institution: bool = False
    """Name and address of the institution stay (113112)."""
    retain_uids: bool = False
    """UIDs stay (113110)."""
    clean_structured_content: bool = False
    """Structured reports and acquisition context are cleaned and released (113104); without it they wait in
    quarantine or go."""
    clean_graphics: bool = False
    """Graphic annotations are cleaned and kept (113103); without it they go."""
    unknown_sop_classes: Literal["quarantine", "release"] = "quarantine"
    """What happens to objects of a SOP class that the Standard's tables do not know."""
    site_rules: tuple[SiteRule, ...] = ()
    """The site's own rules, applied after the profile; a rule that contradicts it is refused."""
    burned_in: BurnedInSettings = BurnedInSettings()
    """How text in pixels is looked for."""


def load_profile(path: Path) -> DeidProfile:
    """Read a profile file. Raises `UsageError` for unknown keys, wrong values and contradictory rules."""
    return read_section(path, DeidProfile)

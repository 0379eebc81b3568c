"""Which slices under one UID are one volume: joined, split or neither, by stated rules.

Belongs here: slices as the header index has them, and their partition. Does not: what becomes of a part
(`dicom.series`), the measuring of it (`dicom.geometry`).

The rules, in order:
1. Slices that make one even volume are one volume, whatever their acquisition numbers, frames of reference
   or times say; unless an attribute parts them into volumes that each are even and reach over each other
   (two interleaved reconstructions look even together).
2. Otherwise the first attribute of `SPLIT_BY` parts them for which every part has enough slices and its own
   places: where the slices shared places or differed in matrix, orientation or pixel spacing, at least one
   part must be a volume; where they only had gaps, all of them (a gap inside one part is a missing slice
   of the whole, not a reason to convert the rest of it).
3. Otherwise they stay together, and the faults of the whole are told.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np

from ct_assets.dicom import geometry
from ct_assets.dicom.geometry import Measured, Vector3
from ct_assets.settings.audit import AuditSettings

SPLIT_BY = (
    "image_type",
    "convolution_kernel",
    "matrix",
    "orientation",
    "pixel_spacing",
    "acquisition_number",
    "temporal_position",
    "cardiac_phase",
    "trigger_time",
    "respiratory_phase",
    "contrast_bolus_agent",
    "kvp",
    "stack",
    "slice_thickness",
    "reconstruction_diameter",
    "filter_type",
    "series_number",
    "frame_of_reference_uid",
    "acquisition_date",
    "acquisition_time",
)
"""What may part the slices of one UID, the most telling first."""

NEVER_INTERLEAVING = frozenset(("matrix", "orientation", "pixel_spacing", "frame_of_reference_uid"))
"""What does not tell volumes apart that look even together: the first three are no even volume, and some devices
write a new frame of reference for each slice."""

_SHARED_PLACE_FAULTS = frozenset(
    ("duplicate_positions", "mixed_matrix", "mixed_orientation", "mixed_pixel_spacing", "uneven_spacing")
)
_NOT_A_PART_FAULTS = frozenset(
    ("duplicate_positions", "mixed_matrix", "mixed_orientation", "mixed_pixel_spacing", "single_slice")
)


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice as its header tells it; NaN where it does not."""

    path: str
    sop_instance_uid: str | None
    frame: int | None
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    matrix: tuple[int, int]
    attributes: dict[str, Any]
    """Every one of `SPLIT_BY` is there, with None where the header does not tell it."""
    pixel_sha256: str | None

    @property
    def key(self) -> tuple[str, int]:
        """What orders slices where nothing else does."""
        return self.path, -1 if self.frame is None else self.frame

    @property
    def position_lps_mm(self) -> Vector3 | None:
        """The position, or None where the header does not tell it."""
        x, y, z = self.position
        return None if x != x or y != y or z != z else (x, y, z)


@dataclass(frozen=True, slots=True)
class Part:
    """Slices that stay together, measured."""

    slices: tuple[Slice, ...]
    measured: Measured
    split_by: tuple[str, ...]
    """The attributes that parted it from others under its UID."""


def measure(slices: list[Slice], settings: AuditSettings) -> Measured:
    """Measure slices together."""
    return geometry.measure(
        np.array([one.position for one in slices], dtype=np.float64),
        np.array([one.orientation for one in slices], dtype=np.float64),
        np.array([one.pixel_spacing for one in slices], dtype=np.float64),
        np.array([one.matrix for one in slices], dtype=np.int64),
        tolerance_mm=settings.position_tolerance_mm,
        oblique_tolerance_deg=settings.oblique_tolerance_deg,
        max_position_mm=settings.max_position_mm,
    )


def split(slices: list[Slice], settings: AuditSettings) -> list[Part]:
    """Return the volumes among slices of one UID, the largest first; each slice is in exactly one part."""
    ordered = sorted(slices, key=lambda one: one.key)
    parts = _split(ordered, settings, SPLIT_BY, ())
    return sorted(parts, key=lambda part: (-len(part.slices), _first_values(part), part.slices[0].key))


def _split(
    slices: list[Slice], settings: AuditSettings, attributes: tuple[str, ...], split_by: tuple[str, ...]
) -> list[Part]:
    whole = Part(tuple(slices), measure(slices, settings), split_by)
    if len(slices) < 2 * settings.min_slices_of_a_part:
        return [whole]
    owned = [one.attributes for one in slices]
    is_even = _is_volume(whole)
    for at, attribute in enumerate(attributes):
        values = list(map(itemgetter(attribute), owned))
        if values.count(values[0]) == len(values):
            continue
        counts = Counter(values)
        if min(counts.values()) < settings.min_slices_of_a_part:
            continue
        if is_even and attribute in NEVER_INTERLEAVING:
            continue
        pieces = _by_attribute(slices, attribute)
        rest = attributes[at + 1 :]
        parts = [part for piece in pieces for part in _split(piece, settings, rest, (*split_by, attribute))]
        if is_even:
            if all(map(_is_volume, parts)) and _reach_over_each_other(parts):
                return parts
        elif _are_parts(whole, parts):
            return parts
    return [whole]


def _by_attribute(slices: list[Slice], attribute: str) -> list[list[Slice]]:
    pieces: dict[Any, list[Slice]] = {}
    for one in slices:
        pieces.setdefault(one.attributes[attribute], []).append(one)
    return [pieces[value] for value in sorted(pieces, key=str)]


def _is_volume(part: Part) -> bool:
    """Tell whether the slices are an even stack; a tilt or an oblique plane is no matter of belonging."""
    return part.measured.geometry is not None and not set(part.measured.faults) - {
        "gantry_tilt",
        "oblique_orientation",
    }


def _are_parts(whole: Part, parts: list[Part]) -> bool:
    if any(_NOT_A_PART_FAULTS & set(part.measured.faults) for part in parts):
        return False
    volumes = sum(map(_is_volume, parts))
    if _SHARED_PLACE_FAULTS - {"uneven_spacing"} & set(whole.measured.faults):
        return volumes > 0
    return volumes == len(parts)


def _reach_over_each_other(parts: list[Part]) -> bool:
    """Tell whether any two parts with one normal share more than a step of the way along it."""
    stacks = []
    for part in parts:
        found = part.measured.geometry
        if found is None:
            return False
        start = float(np.dot(found.origin_lps_mm, found.normal))
        stacks.append((start, start + found.coverage_mm, found.spacing_mm))
    stacks.sort()
    return any(
        end - next_start > max(step, next_step)
        for (_, end, step), (next_start, _, next_step) in pairwise(stacks)
    )


def _first_values(part: Part) -> str:
    return str([part.slices[0].attributes[attribute] for attribute in part.split_by])

"""Whether the headers of CT images prove that their values are Hounsfield units.

Belongs here: RescaleType (0028,1054) and what speaks for or against it. Does not: slope and intercept (`imaging.hu`).

The rule (PS3.3 C.8.2.1, C.11.1.1.2): HU is proven. `hu` in other letters and US (unspecified) are taken with a
warning. An absent RescaleType means HU in a CT image, but is required for the maps of a multi-energy CT: without it
they have no unit. Any other type is another unit.
"""

from collections.abc import Iterable

HOUNSFIELD = "HU"
UNSPECIFIED = "US"
MAPS = frozenset(
    (
        "MAT_SPECIFIC",
        "MAT_FRACTIONAL",
        "MAT_VALUE_BASED",
        "MAT_MODIFIED",
        "EFF_ATOMIC_NUM",
        "ELECTRON_DENSITY",
    )
)
"""Value 4 of ImageType of multi-energy images whose values are no plain HU (PS3.3 C.8.2.1.1.1)."""
MAP_WORDS = (
    "IODINE",
    "ZEFF",
    "Z_EFF",
    "EFF_Z",
    "RHO",
    "MATERIAL",
    "PERFUSION",
    "CBF",
    "CBV",
    "MTT",
    "TTP",
    "TMAX",
)
"""What makers write into ImageType of maps that no defined term covers."""


def not_hu(types: Iterable[str | None], accepted: Iterable[str]) -> bool:
    """Tell whether one of the RescaleTypes is certainly another unit; `accepted` are those taken for HU."""
    taken = {HOUNSFIELD, UNSPECIFIED, *(one.upper() for one in accepted)}
    return any((one or HOUNSFIELD).strip().upper() not in taken for one in types)


def is_unit_missing(types: Iterable[str | None], image_types: Iterable[tuple[str, ...]]) -> bool:
    """Tell whether a map of a multi-energy CT has no RescaleType."""
    return any(not one and _is_map(image) for one, image in zip(types, image_types, strict=True))


def warnings_of(
    types: Iterable[str | None], image_types: Iterable[tuple[str, ...]], multi_energy: Iterable[str | None]
) -> list[str]:
    """Return the codes of what the headers of slices say against plain HU."""
    types, image_types = list(types), list(image_types)
    found = []
    if any((one or HOUNSFIELD) != HOUNSFIELD for one in types):
        found.append("rescale_type_not_hu")
    is_multi_energy = any((one or "").upper() == "YES" for one in multi_energy)
    if any(
        _is_map(image) or (not one and (is_multi_energy or _has_map_word(image)))
        for one, image in zip(types, image_types, strict=True)
    ):
        found.append("unit_not_proven")
    return found


def _is_map(image_type: tuple[str, ...]) -> bool:
    return any(value.upper() in MAPS for value in image_type[3:])


def _has_map_word(image_type: tuple[str, ...]) -> bool:
    return any(word in value.upper() for value in image_type[2:] for word in MAP_WORDS)

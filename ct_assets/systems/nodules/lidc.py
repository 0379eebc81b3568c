"""LIDC-IDRI read messages: the XML of one file as sessions of marks, in pixels of named images.

Belongs here: XML and what its elements mean (LIDC XML schema, "LidcReadMessage"). Does not: images and millimetres
(`reference`), the folder of files (`lidc_folder`).

A message is parsed without a document type, entities or external references (`defusedxml`). Elements are known by their
local name, in whatever namespace. A session is one reader.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 64 << 20
RATINGS = {
    "subtlety": 5,
    "internalStructure": 4,
    "calcification": 6,
    "sphericity": 5,
    "margin": 5,
    "lobulation": 5,
    "spiculation": 5,
    "texture": 5,
    "malignancy": 5,
}
"""Characteristics and their highest value; the lowest is 1."""
COLUMN_OF = {name: re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name) for name in RATINGS}
"""Names of the characteristics in tables."""

RADIOGRAPH_ROOT = "idrireadmessage"
CT_ROOT = "lidcreadmessage"
_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)


class MessageError(ValueError):
    """A file that is not taken; `code` is one of `ct_assets.reasons.nodules`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Outline:
    """The points that a reader drew on one image, as (column, row) counted from 0."""

    image_uid: str
    points: tuple[tuple[int, int], ...]
    is_inclusion: bool
    """False for a hole: what it encloses, its points too, is not nodule."""
    z_mm: float | None
    """Position of the image as the message has it; only compared."""


@dataclass(frozen=True)
class ReadMark:
    """A mark of one reader."""

    kind: str
    """`nodule_ge3`, `nodule_lt3`, `non_nodule`."""
    nodule_id: str
    outlines: tuple[Outline, ...]
    ratings: dict[str, int | None]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Message:
    """The readings of one CT series."""

    series_uid: str
    sessions: tuple[tuple[ReadMark, ...], ...]


def parse(content: bytes) -> Message:
    """Return the message of a file. Raises `MessageError` for anything else, a radiograph's message included."""
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    if len(content) > MOST_BYTES:
        raise MessageError("lidc_too_large")
    try:
        root = fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise MessageError("lidc_forbidden_xml") from None
    except (ParseError, ValueError, LookupError):
        is_xml = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<" or content[:2] in (
            b"\xff\xfe",
            b"\xfe\xff",
        )
        raise MessageError("lidc_broken_xml" if is_xml else "lidc_no_xml") from None
    name = _name(root)
    if name == RADIOGRAPH_ROOT or any(_name(child) == "cxrreadingsession" for child in root):
        raise MessageError("lidc_radiograph")
    if name != CT_ROOT:
        raise MessageError("lidc_other_message")
    header = next(_children(root, "responseheader"), None)
    uid = "" if header is None else _text(header, "seriesinstanceuid")
    if not _UID.fullmatch(uid):
        raise MessageError("lidc_no_series")
    return Message(uid, tuple(tuple(_marks(session)) for session in _children(root, "readingsession")))


def _marks(session: Any) -> Iterator[ReadMark]:
    for element in session:
        if _name(element) == "unblindedreadnodule":
            yield _nodule(element)
        elif _name(element) == "nonnodule":
            outlines, warnings = _outlines([element])
            yield ReadMark("non_nodule", _text(element, "nonnoduleid"), outlines, _no_ratings(), warnings)


def _nodule(element: Any) -> ReadMark:
    outlines, warnings = _outlines(list(_children(element, "roi")))
    ratings, rating_warnings = _ratings(element)
    is_rated = any(value is not None for value in ratings.values())
    drawn = [outline for outline in outlines if outline.is_inclusion]
    is_point = len(drawn) > 0 and all(len(outline.points) == 1 for outline in drawn)
    # Under 3 mm a reader gives one point and rates nothing (LIDC instructions); one point is never an outline.
    is_small = is_point and (len(drawn) == 1 or not is_rated)
    if is_small and is_rated:
        rating_warnings = (*rating_warnings, "small_nodule_rated")
    kind = "nodule_lt3" if is_small else "nodule_ge3"
    return ReadMark(kind, _text(element, "noduleid"), outlines, ratings, (*warnings, *rating_warnings))


def _outlines(elements: list[Any]) -> tuple[tuple[Outline, ...], tuple[str, ...]]:
    outlines, warnings = [], set()
    for element in elements:
        inclusion = _text(element, "inclusion").upper() or "TRUE"
        points = [_point(point) for name in ("edgemap", "locus") for point in _children(element, name)]
        complete = [point for point in points if point is not None]
        if inclusion not in ("TRUE", "FALSE") or not points or len(complete) < len(points):
            warnings.add("outline_unreadable")
            continue
        z = _number(_text(element, "imagezposition"))
        outlines.append(Outline(_text(element, "imagesop_uid"), tuple(complete), inclusion == "TRUE", z))
    if not elements:
        warnings.add("outline_unreadable")
    return tuple(outlines), tuple(sorted(warnings))


def _point(element: Any) -> tuple[int, int] | None:
    column, row = _number(_text(element, "xcoord")), _number(_text(element, "ycoord"))
    if column is None or row is None or column % 1 or row % 1 or max(abs(column), abs(row)) > 1e6:
        return None
    return int(column), int(row)


def _ratings(nodule: Any) -> tuple[dict[str, int | None], tuple[str, ...]]:
    ratings = _no_ratings()
    warnings: tuple[str, ...] = ()
    for element in (child for group in _children(nodule, "characteristics") for child in group):
        known = next((name for name in RATINGS if name.lower() == _name(element)), None)
        text = (element.text or "").strip()
        if known is None or not text:
            continue
        value = _number(text)
        if value is None or value % 1 or not 1 <= value <= RATINGS[known]:
            warnings = ("rating_out_of_range",)
        else:
            ratings[COLUMN_OF[known]] = int(value)
    return ratings, warnings


def _no_ratings() -> dict[str, int | None]:
    return dict.fromkeys(COLUMN_OF.values())


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _name(element: Any) -> str:
    """Return an element's local name in small letters; comments and the like have none."""
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _children(element: Any, name: str) -> Iterator[Any]:
    return (child for child in element if _name(child) == name)


def _text(element: Any, name: str) -> str:
    """Return the text of the first child of that name, without blanks around it."""
    return next(((child.text or "").strip() for child in _children(element, name)), "")

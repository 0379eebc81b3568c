"""The answer key: what was put where, and what must become of it.

Belongs here: the rows, their CSV, and paths to elements (`00101002[0].00100020`). The columns are those of
the development data's key; `path` and `case` are this corpus's own and may be missing.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

_STEP = re.compile(r"([0-9A-Fa-f]{8})(?:\[(\d+)\])?$")


@dataclass(frozen=True, slots=True)
class Answer:
    """One inserted value and its expected fate.

    `expected_class`: `removed`, `replaced`, `shifted`, `kept`. `check`: `nowhere` the value may not occur
    anywhere in the released file, `not_here` not at this place, `same` equal, `policy` either is defensible.
    """

    patient: str
    sop_instance_uid: str
    element_path: str
    inserted_value: str
    expected_class: str
    check: str
    modality: str
    tag_path: str
    path: str = ""
    case: str = ""


def write(target: Path, answers: Iterable[Answer]) -> None:
    """Write the key."""
    _write_csv(target, [field.name for field in fields(Answer)], [asdict(answer) for answer in answers])


def read(source: Path) -> list[Answer]:
    """Read a key, with or without the last two columns."""
    with source.open(encoding="utf-8-sig", newline="") as opened:
        known = {field.name for field in fields(Answer)}
        return [Answer(**{k: v for k, v in row.items() if k in known}) for row in csv.DictReader(opened)]


def write_rows(target: Path, rows: list[dict[str, Any]]) -> None:
    """Write any other table of the corpus."""
    _write_csv(target, list(rows[0]) if rows else [], rows)


def read_rows(source: Path) -> list[dict[str, str]]:
    """Read any other table of the corpus."""
    with source.open(encoding="utf-8-sig", newline="") as opened:
        return list(csv.DictReader(opened))


def _write_csv(target: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, columns)
        writer.writeheader()
        writer.writerows(rows)


# Paths to elements


def steps(tag_path: str) -> list[tuple[BaseTag, int | None]]:
    """Return the tags of a path with the item each leads into."""
    found = []
    for part in tag_path.split("."):
        step = _STEP.match(part)
        if step is None:
            raise ValueError(f"no tag path: {tag_path}")
        found.append((Tag(int(step[1], 16)), int(step[2]) if step[2] else None))
    return found


def element_at(dataset: Dataset, tag_path: str) -> DataElement | None:
    """Return the element at a path, None where it or anything above it is absent."""
    current: Dataset = dataset
    for tag, item in steps(tag_path):
        if tag.group == 2 and current is dataset:
            current = dataset.file_meta
        if tag not in current:
            return None
        element = current[tag]
        if item is None:
            return element
        if element.VR != "SQ" or len(element.value or ()) <= item:
            return None
        current = element.value[item]
    return None


def readable(dataset: Dataset, tag_path: str) -> str:
    """Return the path in keywords, private elements as `(group,element creator)`."""
    parts, current = [], dataset
    for tag, item in steps(tag_path):
        if tag.group == 2:
            current = dataset.file_meta
        if tag.is_private:
            block = Tag(tag.group, tag.element >> 8)
            creator = str(current[block].value) if tag.element >> 8 and block in current else "no creator"
            name = f"({tag.group:04x},{tag.element:04x} {creator})"
        else:
            name = keyword_for_tag(tag) or f"({tag.group:04x},{tag.element:04x})"
        parts.append(name if item is None else f"{name}[{item}]")
        if item is not None and current[tag].VR == "SQ":
            current = current[tag].value[item]
    return ".".join(parts)


def as_text(element: DataElement | None) -> str:
    """Return an element's value as the key writes it: values joined by a backslash, binary as Latin-1."""
    if element is None or element.value is None:
        return ""
    if isinstance(element.value, bytes):
        return element.value.rstrip(b"\0 ").decode("latin-1")
    if element.VM > 1:
        return "\\".join(str(part) for part in element.value)
    return str(element.value)

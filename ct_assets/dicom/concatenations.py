"""Concatenations: one multi-frame image in several objects, and whether all of them are there.

Belongs here: the rule (PS3.3 C.7.6.16.2.2.4). Does not: which frames belong to one volume (`dicom.splitting`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = (
    "concatenation_uid",
    "in_concatenation_number",
    "in_concatenation_total_number",
    "concatenation_frame_offset",
)
"""What of the header index tells the parts."""


def are_whole(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether every concatenation among the instances has all its parts, each once.

    The parts are numbered from 1; the total number is optional, so a missing last part shows only where it is
    told. The frame offsets, where all are told, must follow each other from 0.
    """
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["concatenation_uid"]:
            parts.setdefault(row["concatenation_uid"], []).append(row)
    return all(map(_is_whole, parts.values()))


def _is_whole(parts: list[Mapping[str, Any]]) -> bool:
    numbers = sorted(row["in_concatenation_number"] or 0 for row in parts)
    totals = {row["in_concatenation_total_number"] for row in parts} - {None, 0}
    if numbers != list(range(1, len(parts) + 1)) or totals - {len(parts)}:
        return False
    ordered = sorted(parts, key=lambda row: row["in_concatenation_number"])
    expected = 0
    for row in ordered:
        offset = row["concatenation_frame_offset"]
        if offset is not None and offset != expected:
            return False
        expected += row["number_of_frames"] or 1
    return True

"""Tracked nodules: the same nodule on consecutive exams, and how it grew.

Belongs here: pairs by `pid` and `nodule_group`, rows that are in none, growth. Does not: matching without labels.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any

from ct_assets.learning.evaluation.growth import GROWTH_SHARE, doubling_time_days

Row = dict[str, Any]

REQUIRED = ("pid", "nodule_group", "exam_idx", "exam", "volume")
KEYS = ("pid", "nodule_group", "exam_a", "exam_b", "exam_idx_a", "exam_idx_b")
FAST_DAYS, SLOW_DAYS = 400, 600
"""Volume doubling times of NELSON: below 400 days fast, above 600 slow (Xu 2006, Lung Cancer 54:177)."""
TOLERANCE = 1e-9
"""Of a share of growth: 1.25 times a volume is a growth of 25 % whatever its last bit says."""


def pair(
    tracking: list[Row],
    days_of: Mapping[str, float | None],
    unusable: Mapping[str, tuple[str, ...]],
    patients_out: Mapping[str, str],
    patients_of: Mapping[str, Collection[str]],
) -> tuple[list[Row], list[Row]]:
    """Return pairs of consecutive tracked rows of one nodule, and every row that is in no pair with its reasons.

    `days_of` gives `days_at_event` of an exam; `unusable` exams that may not be used; `patients_out` patients of whom
    no exam may be used, with the reason; `patients_of` the patients of each known exam. The interval is null where an
    exam has no date.
    """
    usable: dict[tuple[str, str], list[Row]] = defaultdict(list)
    unpaired = []
    for row, reasons in zip(tracking, _reasons(tracking, unusable, patients_out, patients_of), strict=True):
        if reasons:
            unpaired.append(_unpaired(row, reasons))
        else:
            usable[row["pid"], row["nodule_group"]].append(row)
    pairs = []
    for rows in usable.values():
        rows.sort(key=lambda row: row["exam_idx"])
        in_pair, why = set(), "nodule_seen_once" if len(rows) == 1 else "interval_not_positive"
        for number, (first, second) in enumerate(pairwise(rows)):
            days = _interval(first, second, days_of)
            if days is not None and days <= 0:
                continue
            in_pair |= {number, number + 1}
            pairs.append(
                {
                    "pid": first["pid"],
                    "nodule_group": first["nodule_group"],
                    "exam_a": first["exam"],
                    "exam_b": second["exam"],
                    "exam_idx_a": int(first["exam_idx"]),
                    "exam_idx_b": int(second["exam_idx"]),
                    "volume_a": first["volume"],
                    "volume_b": second["volume"],
                    "delta_days": days,
                }
            )
        unpaired += [_unpaired(row, [why]) for number, row in enumerate(rows) if number not in in_pair]
    pairs.sort(key=lambda row: (row["pid"], row["nodule_group"], row["exam_idx_a"]))
    return pairs, unpaired


def growth(pairs: list[Row]) -> list[Row]:
    """Return growth, its class, and doubling time with its class of growing nodules, a row a pair."""
    result = []
    for row in pairs:
        relative = row["volume_b"] / row["volume_a"] - 1
        name = "stable"
        if relative >= GROWTH_SHARE - TOLERANCE:
            name = "growing"
        elif relative <= -GROWTH_SHARE + TOLERANCE:
            name = "shrinking"
        doubling = None
        if row["delta_days"] is not None and row["volume_a"] != row["volume_b"]:
            doubling = doubling_time_days(row["volume_a"], row["volume_b"], row["delta_days"])
        result.append(
            {key: row[key] for key in KEYS}
            | {
                "relative_growth": relative,
                "growth_class": name,
                "vdt_days": doubling,
                "vdt_class": doubling_class(doubling) if name == "growing" and doubling else None,
            }
        )
    return result


def doubling_class(days: float) -> str:
    """Return `fast` below 400 days, `slow` above 600, else `intermediate`."""
    if days < FAST_DAYS:
        return "fast"
    return "slow" if days > SLOW_DAYS else "intermediate"


def _interval(first: Row, second: Row, days_of: Mapping[str, float | None]) -> float | None:
    if first["exam"] == second["exam"]:
        return 0.0
    days = [days_of.get(row["exam"]) for row in (first, second)]
    return None if days[0] is None or days[1] is None else days[0] - days[1]


def _unpaired(row: Row, reasons: list[str]) -> Row:
    index = row["exam_idx"]
    return {
        "pid": row["pid"],
        "nodule_group": row["nodule_group"],
        "exam_idx": None if index is None or index != int(index) else int(index),
        "exam": row["exam"],
        "reasons": reasons,
    }


def _reasons(
    tracking: list[Row],
    unusable: Mapping[str, tuple[str, ...]],
    patients_out: Mapping[str, str],
    patients_of: Mapping[str, Collection[str]],
) -> list[list[str]]:
    reasons = [_own_reasons(row) for row in tracking]
    same = defaultdict(list)
    for number, row in enumerate(tracking):
        if not reasons[number]:
            same[row["pid"], row["nodule_group"], row["exam_idx"]].append(number)
    for numbers in same.values():
        first, *others = numbers
        if all(tracking[number] == tracking[first] for number in others):
            for number in others:
                reasons[number].append("tracking_exact_duplicate")
        else:
            for number in numbers:
                reasons[number].append("tracking_contradicts")
    for row, own in zip(tracking, reasons, strict=True):
        if row["pid"] in patients_out:
            own.append(patients_out[row["pid"]])
        if row["exam"] in patients_of and row["pid"] not in patients_of[row["exam"]]:
            own.append("tracking_of_another_patient")
        own += [code for code in unusable.get(row["exam"], ()) if code not in own]
    return reasons


def _own_reasons(row: Row) -> list[str]:
    reasons = [f"tracking_without_{name}" for name in ("pid", "nodule_group", "exam") if row[name] is None]
    index, volume = row["exam_idx"], row["volume"]
    if index is None or index != int(index) or index < 0:
        reasons.append("tracking_without_exam_idx")
    if volume is None or not math.isfinite(volume) or volume <= 0:
        reasons.append("tracking_without_volume")
    return reasons

"""Timelines of patients and pairs of consecutive exams.

Belongs here: order in time and intervals. `days_at_event` counts the days from an exam to the event, so it falls from
exam to exam.
"""

from itertools import groupby, pairwise
from typing import Any

Row = dict[str, Any]

PAIRED = (
    "exam_id",
    "series",
    "screen_timepoint",
    "days_at_event",
    "slice_thickness",
    "num_slices",
    "nifti_path",
)
"""Columns that a pair has of both exams, with `_a` and `_b`."""


def timelines(kept: list[Row]) -> list[Row]:
    """Return a row a patient: aligned lists by timepoint."""
    result = []
    for pid, exams in _by_patient(kept):
        result.append(
            {
                "pid": pid,
                "exam_ids": [row["exam_id"] for row in exams],
                "screen_timepoints": [int(row["screen_timepoint"]) for row in exams],
                "days_at_events": [row["days_at_event"] for row in exams],
                "n_exams": len(exams),
                "cancer_any": any(bool(row.get("cancer")) for row in exams),
                "split": exams[0].get("split"),
            }
        )
    return result


def interval_days(first: Row, second: Row) -> float | None:
    """Return the days from one exam to a later one; None where one has no date."""
    if first["days_at_event"] is None or second["days_at_event"] is None:
        return None
    return float(first["days_at_event"] - second["days_at_event"])


def pairs(kept: list[Row]) -> tuple[list[Row], list[Row]]:
    """Return pairs of consecutive kept exams, and those that are refused with their reasons.

    No pair is made across a refused one.
    """
    made, refused = [], []
    for pid, exams in _by_patient(kept):
        for first, second in pairwise(exams):
            days = interval_days(first, second)
            pair = {
                "pid": pid,
                "exam_id_a": first["exam_id"],
                "exam_id_b": second["exam_id"],
                "delta_days": days,
            }
            if days is None or days <= 0:
                reason = "interval_unknown" if days is None else "interval_not_positive"
                refused.append(pair | {"reasons": [reason]})
                continue
            skipped = int(second["screen_timepoint"] - first["screen_timepoint"]) - 1
            both = {
                f"{name}_{end}": row[name]
                for end, row in (("a", first), ("b", second))
                for name in PAIRED
                if name in row and name != "exam_id"
            }
            made.append(pair | {"timepoints_skipped": skipped, "split": first.get("split")} | both)
    return made, refused


def _by_patient(kept: list[Row]) -> list[tuple[str, list[Row]]]:
    ordered = sorted(kept, key=lambda row: (row["pid"], row["screen_timepoint"]))
    return [(pid, list(rows)) for pid, rows in groupby(ordered, key=lambda row: row["pid"])]

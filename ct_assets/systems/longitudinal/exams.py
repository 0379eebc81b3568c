"""Exams: which rows of the exam table can be used, and the one exam of a patient and timepoint.

Belongs here: filters, collisions, and the choice. Every row that is not kept is listed with its reasons.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Row = dict[str, Any]
Policy = Literal["exam", "patient"]

REQUIRED = ("pid", "exam_id", "series", "screen_timepoint", "num_slices", "days_at_event")
MOST_THICKNESS_MM = 2.5
LEAST_SLICES = 50
THICKNESS_DIGITS = 3
"""Thickness is compared to a thousandth of a millimetre: 2.500001 is 2.5."""
THICKNESS_CLASSES_MM = (1.0, 1.5, 2.0, 2.5)


@dataclass(frozen=True)
class Exams:
    """The kept exams and all other rows."""

    kept: list[Row]
    """One a patient and timepoint, by patient and timepoint."""
    excluded: list[Row]
    """`pid`, `exam_id`, `series`, `reasons`."""

    @property
    def unusable(self) -> dict[str, tuple[str, ...]]:
        """Exam identifiers that may not be used at all, with reasons.

        An exam that was only not chosen at its timepoint is none of them: what was measured on it holds.
        """
        kept = {row["exam_id"] for row in self.kept}
        return {
            row["exam_id"]: tuple(row["reasons"])
            for row in self.excluded
            if row["exam_id"] not in kept
            and set(row["reasons"]) - {"exam_not_chosen", "exam_exact_duplicate"}
        }


def select(rows: Iterable[Row], bad: Collection[str] = (), policy: Policy = "exam") -> Exams:
    """Return the exams to use. `bad` are identifiers (`exam_id`, or `exam`) of exams known to be bad.

    Policy `exam` leaves bad exams out, `patient` every exam of a patient who has one.
    """
    rows = [row | {"slice_thickness": thickness_mm(row)} for row in rows]
    reasons: list[list[str]] = [_own_reasons(row) for row in rows]
    _mark_collisions(rows, reasons)
    _mark_splits(rows, reasons)
    is_bad = [row["exam_id"] in bad or row.get("exam") in bad for row in rows]
    bad_patients = {row["pid"] for row, one in zip(rows, is_bad, strict=True) if one}
    for row, own, one in zip(rows, reasons, is_bad, strict=True):
        if one:
            own.append("exam_known_bad")
        elif policy == "patient" and row["pid"] in bad_patients:
            own.append("patient_with_bad_exam")
    usable = defaultdict(list)
    for number, (row, own) in enumerate(zip(rows, reasons, strict=True)):
        if not own:
            usable[row["pid"], row["screen_timepoint"]].append(number)
    kept = []
    for numbers in usable.values():
        first, *others = sorted(numbers, key=lambda number: _preference(rows[number]))
        kept.append(rows[first] | {"slice_thickness_class": thickness_class(rows[first]["slice_thickness"])})
        for number in others:
            reasons[number].append("exam_not_chosen")
    kept.sort(key=lambda row: (row["pid"], row["screen_timepoint"]))
    excluded = [
        {"pid": row["pid"], "exam_id": row["exam_id"], "series": row["series"], "reasons": own}
        for row, own in zip(rows, reasons, strict=True)
        if own
    ]
    return Exams(kept, excluded)


def thickness_mm(row: Row) -> float | None:
    """Return the slice thickness: its own column, else the third number of `pixel_spacing`."""
    value = row.get("slice_thickness")
    spacing = row.get("pixel_spacing")
    if value is None and isinstance(spacing, list) and len(spacing) == 3:
        value = spacing[2]
    try:
        return None if value is None else round(float(value), THICKNESS_DIGITS)
    except (TypeError, ValueError):
        return None


def thickness_class(thickness: float) -> float:
    """Return the least class (mm) that holds the thickness."""
    return next(one for one in THICKNESS_CLASSES_MM if thickness <= one)


def _preference(row: Row) -> tuple[float, float, str]:
    """Least thickness first, then most slices, then the smallest series UID."""
    return row["slice_thickness"], -row["num_slices"], row["series"]


def _own_reasons(row: Row) -> list[str]:
    reasons = [f"exam_without_{name}" for name in ("pid", "exam_id", "series") if row[name] is None]
    timepoint, slices, thickness = row["screen_timepoint"], row["num_slices"], row["slice_thickness"]
    if timepoint is None or timepoint != int(timepoint):
        reasons.append("exam_without_timepoint")
    if thickness is None:
        reasons.append("exam_without_thickness")
    elif not 0 < thickness <= MOST_THICKNESS_MM:
        reasons.append("exam_too_thick" if thickness > 0 else "exam_without_thickness")
    if slices is None or slices < LEAST_SLICES:
        reasons.append("exam_too_few_slices")
    if row.get("is_localizer"):
        reasons.append("exam_is_localizer")
    if isinstance(row.get("y_mask"), list) and not any(row["y_mask"]):
        reasons.append("exam_label_window_empty")
    if "has_nifti" in row and "sorted_paths" in row and bool(row["has_nifti"]) == bool(row["sorted_paths"]):
        reasons.append("exam_image_ambiguous" if row["has_nifti"] else "exam_without_image")
    return reasons


def _mark_collisions(rows: list[Row], reasons: list[list[str]]) -> None:
    """Of equal rows one stays; rows of one `exam_id` that differ are all refused: none is silently taken."""
    same = defaultdict(list)
    for number, row in enumerate(rows):
        same[row["exam_id"]].append(number)
    for exam_id, numbers in same.items():
        if exam_id is None or len(numbers) == 1:
            continue
        first, *others = numbers
        if all(rows[number] == rows[first] for number in others):
            for number in others:
                reasons[number].append("exam_exact_duplicate")
        else:
            for number in numbers:
                reasons[number].append("exam_id_collision")


def _mark_splits(rows: list[Row], reasons: list[list[str]]) -> None:
    splits = defaultdict(set)
    for row in rows:
        splits[row["pid"]].add(row.get("split"))
    for row, own in zip(rows, reasons, strict=True):
        if len(splits[row["pid"]] - {None}) > 1:
            own.append("patient_in_two_splits")

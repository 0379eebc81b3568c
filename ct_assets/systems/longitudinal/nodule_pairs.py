"""Pairs of a nodule with all that a model needs of them: interval, type, split, transforms, the exam before.

Belongs here: joining the tables of exams, nodules and registrations; every pair that cannot be used is listed with its
reasons. Does not: images (`patch_store`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets.errors import UsageError
from ct_assets.systems.longitudinal import nodules, supplied_tables

Row = dict[str, Any]
USABLE = ("reference", "ok")
"""Statuses of a registration that a pair may rest on."""
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class NodulePairs:
    """Usable pairs, and the others."""

    usable: list[Row]
    """Rows of `paired_nodules` with `box_a`, `box_b` (inclusive voxels as the tracking table has them), `split`,
    `nodule_type`, `timepoints_skipped`, `volume_before`, `days_before`."""
    unusable: list[Row]
    """`pid`, `nodule_group`, `exam_a`, `exam_b`, `reasons`."""


def read(tables_dir: Path, registrations_dir: Path, tracking: Path) -> NodulePairs:
    """Join what `longitudinal tables` and `registrations` wrote with the tracking table.

    Raises `UsageError` naming a file that is not there.
    """
    named = {
        "pairs": tables_dir / "paired_nodules.parquet",
        "exams": tables_dir / "single_timepoints.parquet",
        "registrations": registrations_dir / "registrations.parquet",
    }
    for path in named.values():
        if not path.is_file():
            raise UsageError(
                f"{path}: no such file; make it with `ct-assets longitudinal tables` and `registrations`"
            )
    content = {name: pl.read_parquet(path).to_dicts() for name, path in named.items()}
    tracked = supplied_tables.read(tracking, nodules.REQUIRED)
    return join(content["pairs"], content["exams"], content["registrations"], tracked)


def join(
    pairs: Iterable[Row], exams: Iterable[Row], registrations: Iterable[Row], tracked: Iterable[Row]
) -> NodulePairs:
    """Return the pairs with everything that belongs to them, in the order in which they came."""
    exams = list(exams)
    split_of = {row["pid"]: row.get("split") for row in exams}
    registered = {row["exam_id"]: row["status"] for row in registrations}
    status_of = {name: registered.get(exam_id, "open") for name, exam_id in identifiers(exams).items()}
    seen = {(row["pid"], row["nodule_group"], row["exam_idx"]): row for row in tracked}
    pairs = list(pairs)
    before_of = {(row["pid"], row["nodule_group"], row["exam_idx_b"]): row for row in pairs}
    usable, unusable = [], []
    for pair in pairs:
        nodule = pair["pid"], pair["nodule_group"]
        ends = [seen.get((*nodule, pair[f"exam_idx_{end}"]), {}) for end in "ab"]
        reasons = _reasons(pair, ends, status_of, split_of)
        if reasons:
            names = ("pid", "nodule_group", "exam_a", "exam_b")
            unusable.append({name: pair[name] for name in names} | {"reasons": reasons})
            continue
        before = before_of.get((*nodule, pair["exam_idx_a"]), {})
        usable.append(
            pair
            | {
                "split": split_of[pair["pid"]],
                "nodule_type": ends[0].get("nodule_type"),
                "timepoints_skipped": pair["exam_idx_b"] - pair["exam_idx_a"] - 1,
                "volume_before": before.get("volume_a"),
                "days_before": before.get("delta_days"),
                **{
                    f"box_{end}": [int(value) for value in row["coords"]]
                    for end, row in zip("ab", ends, strict=True)
                },
            }
        )
    return NodulePairs(usable, unusable)


def identifiers(exams: Iterable[Row]) -> dict[str, str]:
    """Return the `exam_id` of each exam by every name that a tracking table may give it (`exam_id` or `exam`)."""
    exams = list(exams)
    named = {row["exam"]: row["exam_id"] for row in exams if row.get("exam") is not None}
    return named | {row["exam_id"]: row["exam_id"] for row in exams}


def _reasons(
    pair: Row, ends: list[Row], status_of: Mapping[str, str], split_of: Mapping[str, str | None]
) -> list[str]:
    reasons = []
    if pair["delta_days"] is None:
        reasons.append("interval_unknown")
    if any(status_of.get(pair[f"exam_{end}"]) not in USABLE for end in "ab"):
        reasons.append("pair_not_registered")
    if any(not _is_box(row.get("coords")) for row in ends):
        reasons.append("pair_without_box")
    if split_of.get(pair["pid"]) not in SPLITS:
        reasons.append("pair_without_split")
    return reasons


def _is_box(coords: Any) -> bool:
    """Tell whether `coords` is low and high of three axes."""
    return (
        isinstance(coords, list)
        and len(coords) == 6
        and all(coords[axis] <= coords[axis + 1] for axis in (0, 2, 4))
    )

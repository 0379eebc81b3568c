"""What conversion makes of every mask object of the cohort, decided by conversion itself and remembered.

Belongs here: asking `imaging.convert_masks.load_mask` for each mask, and the table of earlier answers, so that
the cost follows new masks. Does not: what the audit tells of it (`cohort.mask_audit`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files, parallel, tables
from ct_assets.dicom.pixels import PixelError
from ct_assets.dicom.seg import MaskError
from ct_assets.dicom.series import Series
from ct_assets.imaging.convert import DEBUG, UNEXPECTED
from ct_assets.imaging.convert_masks import MaskObject, load_mask, reasons_of
from ct_assets.imaging.target import Target
from ct_assets.settings.conversion import MaskSettings
from ct_assets.tables.audits import MaskDecisions

CODE_VERSION = "2"
"""Raised whenever the same mask may be decided otherwise; all are then decided again."""
PRELOAD = ("ct_assets.cohort.mask_decisions",)


@dataclass(frozen=True)
class Decision:
    """What conversion makes of a mask."""

    reasons: tuple[str, ...]
    """Why it is refused; empty where it is converted."""
    warnings: tuple[str, ...] = ()
    voxels: Mapping[int, int] = field(default_factory=dict)
    """Voxels on the image by segment number."""
    segment_reasons: Mapping[int, str] = field(default_factory=dict)
    """Why segments were left out."""
    has_overlap: bool | None = None


@dataclass(frozen=True)
class _Task:
    mask: MaskObject
    series: Series
    root: Path
    settings: MaskSettings
    tolerance_mm: float
    key: str


def decide(
    masks: Sequence[MaskObject],
    series: Mapping[str, Series],
    root: Path,
    settings: MaskSettings,
    tolerance_mm: float,
    *,
    before: pl.DataFrame | None = None,
    workers: int = 1,
) -> tuple[dict[str, Decision], pl.DataFrame]:
    """Return path to decision of every mask that means a usable series of `series`, and the table to remember.

    `before` is that table of an earlier call: a mask whose file, series and settings are as they were is not
    read again.
    """
    known = {row["path"]: row for row in before.iter_rows(named=True)} if before is not None else {}
    rows: dict[str, dict[str, Any]] = {}
    tasks = []
    for mask in masks:
        one = series[mask.meant.series_id] if mask.meant else None
        if mask.reasons or one is None or one.decision == "refuse" or one.geometry is None:
            continue
        key = _key(mask, one, root, settings, tolerance_mm)
        earlier = known.get(mask.path)
        if earlier and earlier["key"] == key and UNEXPECTED not in earlier["reasons"]:
            rows[mask.path] = earlier
        else:
            tasks.append(_Task(mask, one, root, settings, tolerance_mm, key))
    several = parallel.map_surviving(
        _decide, tasks, instead=_failed, workers=min(workers, max(len(tasks), 1)), preload=PRELOAD
    )
    rows |= {row["path"]: row for row in several}
    table = tables.frame([rows[path] for path in sorted(rows)], MaskDecisions)
    return {path: _decision(row) for path, row in rows.items()}, table


def _key(mask: MaskObject, series: Series, root: Path, settings: MaskSettings, tolerance_mm: float) -> str:
    """Digest what decides: the file's content (times differ from machine to machine), what it means, the slices,
    the settings."""
    assert series.geometry is not None
    assert mask.meant is not None
    return files.digest_of(
        [
            CODE_VERSION,
            [files.sha256_file(root / mask.path), mask.meant.by, list(mask.meant.warnings)],
            mask.meant.has_other_frame_of_reference,
            [[one.sop_instance_uid, one.frame, one.position_lps_mm] for one in series.instances],
            [series.geometry.affine_lps.tolist(), series.geometry.rows, series.geometry.columns],
            list(series.frame_of_reference_uids),
            settings.model_dump(mode="json"),
            tolerance_mm,
        ]
    )


def _decide(task: _Task) -> dict[str, Any]:
    row = _row(task)
    try:
        mask = load_mask(task.mask, Target.of(task.series), task.root, task.settings, task.tolerance_mm)
    except (MaskError, PixelError) as refusal:
        return row | {"reasons": list(reasons_of(refusal))}
    except OSError:
        raise
    except Exception:
        if os.environ.get(DEBUG):
            raise
        return _failed(task)
    return row | {
        "warnings": list(mask.warnings),
        "segment_numbers": [one.segment.number for one in mask.segments],
        "segment_voxels": [one.flat.size for one in mask.segments],
        "segment_reasons": [one.reasons[0] if one.reasons else None for one in mask.segments],
        "has_overlap": mask.overlaps,
    }


def _row(task: _Task) -> dict[str, Any]:
    return {
        "path": task.mask.path,
        "key": task.key,
        "reasons": [],
        "warnings": [],
        "segment_numbers": [],
        "segment_voxels": [],
        "segment_reasons": [],
        "has_overlap": None,
    }


def _failed(task: _Task) -> dict[str, Any]:
    return _row(task) | {"reasons": [UNEXPECTED]}


def _decision(row: Mapping[str, Any]) -> Decision:
    numbers = row["segment_numbers"]
    return Decision(
        reasons=tuple(row["reasons"]),
        warnings=tuple(row["warnings"]),
        voxels=dict(zip(numbers, row["segment_voxels"], strict=True)),
        segment_reasons={
            number: reason
            for number, reason in zip(numbers, row["segment_reasons"], strict=True)
            if reason is not None
        },
        has_overlap=row["has_overlap"],
    )

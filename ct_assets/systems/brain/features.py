"""The feature table: a row a labelled slice, with what its header and pixels say, usable or not.

Belongs here: one row a slice, many at once, the summary of their quality. Does not: what makes a slice
unusable (`brain.slices`), splits (`brain.splits`).
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydicom.dataset import Dataset

from ct_assets import files, parallel, progress, tables
from ct_assets.settings.brain import GroupBy
from ct_assets.systems.brain import preprocess, slices
from ct_assets.systems.brain.dataset import Structure
from ct_assets.systems.brain.slices import SliceRefusedError
from ct_assets.tables.brain import BrainFeatures

_EMPTY: dict[str, Any] = dict.fromkeys(tables.dtypes(BrainFeatures))
KEY_COLUMNS = ("id", "path", "label", "group_id")
"""Columns without which a slice can be neither read nor split."""
COPIED = "slice_copied"
FEW_SLICES = 400
"""Fewer are read in this process: starting workers would take longer."""


@dataclass(frozen=True)
class Item:
    """One slice to read."""

    id: str
    path: str
    """Relative to the folder of images."""
    label: int
    error: str | None = None
    """A reason known before the file is read: it is then not read."""
    warnings: tuple[str, ...] = ()
    identity: dict[str, str] = field(default_factory=dict)
    """`patient`, `study` and `series` where another table knows them better than the file's header."""


def features(
    items: Sequence[Item],
    root: Path,
    *,
    group_by: GroupBy = "patient",
    skull_percentile: float = 98.0,
    workers: int = 1,
) -> pl.DataFrame:
    """Return the table `BrainFeatures` of slices, sorted by ID; a slice that cannot be used is a row with its reason."""
    rows = []
    read = partial(_row, root=root, skull_percentile=skull_percentile)
    with progress.track("slices", len(items)) as advance:
        for row in parallel.map_ordered(
            read, items, workers=worth_it(len(items), workers), preload=("ct_assets.systems.brain.features",)
        ):
            rows.append(row)
            advance(1)
    _group(rows, group_by)
    _name_copies(rows)
    for row in rows:
        for key in ("patient_key", "study_key"):
            row.pop(key)
    return tables.frame(rows, BrainFeatures).sort("id")


def worth_it(count: int, workers: int) -> int:
    """Return how many processes so many slices are worth."""
    return workers if count > FEW_SLICES else 1


def folder_items(structure: Structure) -> list[Item]:
    """Return the slices of a label table, as files of one folder."""
    return [
        Item(identifier, structure.names[identifier], label)
        for identifier, label in sorted(structure.labels.items())
    ]


def checks(table: pl.DataFrame) -> dict[str, Any]:
    """Return the quality of a feature table as `features_checks_summary.json` has it."""
    errors = Counter(table["error"].drop_nulls())
    told = Counter(code for codes in table["warnings"] for code in codes)
    return {
        "rows": table.height,
        "missing_key": {name: table[name].null_count() for name in KEY_COLUMNS},
        "duplicate_id_count": table.height - table["id"].n_unique(),
        "error_rows_count": int((table["ok"] == 0).sum()),
        "errors": dict(sorted(errors.items())),
        "warnings": dict(sorted(told.items())),
        "groups": table["group_id"].n_unique(),
        "studies": table["study_id"].n_unique(),
        "usable_by_label": {
            str(label): int(((table["label"] == label) & (table["ok"] == 1)).sum()) for label in (0, 1)
        },
    }


def _row(item: Item, root: Path, skull_percentile: float) -> dict[str, Any]:
    path = root / item.path
    row = dict(_EMPTY) | {
        "id": item.id,
        "path": item.path,
        "label": item.label,
        "ok": 0,
        "error": item.error,
        "warnings": list(item.warnings),
        "patient_key": item.identity.get("patient", ""),
        "study_key": item.identity.get("study", ""),
        "series_id": item.identity.get("series"),
    }
    if item.error is not None:
        return row
    try:
        row["file_sha256"] = files.sha256_file(path)
        read = slices.read(path)
    except OSError:
        return row | {"error": "unreadable_image"}
    except SliceRefusedError as refusal:
        return row | {"error": refusal.code}
    return (
        row
        | _facts(read, skull_percentile)
        | _identity(item, read.header)
        | {
            "ok": 1,
            "warnings": [*item.warnings, *(code for code in read.warnings if code not in item.warnings)],
        }
    )


def _facts(read: slices.Slice, skull_percentile: float) -> dict[str, Any]:
    header, hu, stored = read.header, read.hu, read.stored
    spacing = [_number(value) for value in slices.values_of(header, "PixelSpacing")]
    by_row, by_column = spacing if len(spacing) == 2 else (None, None)
    position = [_number(value) for value in slices.values_of(header, "ImagePositionPatient")]
    _, box = preprocess.crop_to_skull_bbox(hu, skull_percentile)
    return {
        "pixel_spacing_x": by_column,
        "pixel_spacing_y": by_row,
        "slice_thickness": _first(header, "SliceThickness"),
        "orientation": list(read.orientation) if read.orientation else None,
        "position": position if len(position) == 3 and None not in position else None,
        "window_center": _first(header, "WindowCenter"),
        "window_width": _first(header, "WindowWidth"),
        "shape_0": hu.shape[0],
        "shape_1": hu.shape[1],
        "hu_min": float(hu.min()),
        "hu_max": float(hu.max()),
        "hu_mean": float(hu.mean(dtype=np.float64)),
        "pixel_array_min": float(stored.min()),
        "pixel_array_max": float(stored.max()),
        "pixel_array_mean": float(stored.mean(dtype=np.float64)),
        "bbox": list(box),
        "manufacturer": _text(header, "Manufacturer"),
        "convolution_kernel": _text(header, "ConvolutionKernel"),
        "kvp_kv": _first(header, "KVP"),
        "pixel_sha256": hashlib.sha256(np.ascontiguousarray(stored).tobytes()).hexdigest(),
    }


def _identity(item: Item, header: Dataset) -> dict[str, Any]:
    """Return what groups slices; identities leave the header as digests only."""
    issuer = _text(header, "IssuerOfPatientID") or ""
    patient = _text(header, "PatientID")
    study, series = _text(header, "StudyInstanceUID"), _text(header, "SeriesInstanceUID")
    known = item.identity
    return {
        "patient_key": known.get("patient") or (_digest("patient", issuer, patient) if patient else ""),
        "study_key": known.get("study") or (_digest("study", study) if study else ""),
        "series_id": known.get("series") or (_digest("series", series) if series else None),
    }


def _group(rows: list[dict[str, Any]], group_by: GroupBy) -> None:
    """Set `study_id` and `group_id`: rows that share a patient, study or pixels are one group, however linked."""
    parent = list(range(len(rows)))

    def root_of(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    keys = {"patient": ("patient_key", "study_key"), "study": ("study_key",), "file": ()}[group_by]
    first_with: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows):
        for key in (*keys, "pixel_sha256"):
            if row.get(key):
                one, other = root_of(first_with.setdefault((key, row[key]), number)), root_of(number)
                parent[max(one, other)] = min(one, other)
    members: dict[int, list[str]] = {}
    for number, row in enumerate(rows):
        row["study_id"] = row["study_key"] or _digest("file", row["id"])
        names = [row[key] for key in keys if row[key]] or [_digest("file", row["id"])]
        members.setdefault(root_of(number), []).append(names[0])
    names_of = {root: min(names) for root, names in members.items()}
    for number, row in enumerate(rows):
        row["group_id"] = names_of[root_of(number)]


def _name_copies(rows: Iterable[dict[str, Any]]) -> None:
    usable = [row for row in rows if row["ok"]]
    times = Counter(row["pixel_sha256"] for row in usable)
    for row in usable:
        if times[row["pixel_sha256"]] > 1:
            row["warnings"] = [*row["warnings"], COPIED]


def _digest(*parts: str | None) -> str:
    return files.digest_of(["brain", *parts])[:16]


def _text(header: Dataset, keyword: str) -> str | None:
    values = [str(value).strip() for value in slices.values_of(header, keyword)]
    return "/".join(value for value in values if value) or None


def _first(header: Dataset, keyword: str) -> float | None:
    """Return the first of an element's values as a number."""
    values = slices.values_of(header, keyword)
    return _number(values[0]) if values else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None

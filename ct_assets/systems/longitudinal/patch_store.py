"""Crops of all pairs, cut from exams brought to each patient's first exam, with an index of them.

Belongs here: which crops there are, where they lie, and reading them for a model. Does not: one crop (`patches`).
Crops of one patient are cut together, so that each exam is read once.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import files, parallel, tables
from ct_assets.errors import UsageError
from ct_assets.imaging import load, windows
from ct_assets.imaging.resample import AIR_HU
from ct_assets.imaging.store import DamagedEntryError, MissingEntryError, Store, key_of
from ct_assets.imaging.transform import AffineTransform, Box
from ct_assets.imaging.volume import Floats, Grid, Volume
from ct_assets.settings.longitudinal import PatchSettings
from ct_assets.systems.longitudinal import nodule_pairs, patches
from ct_assets.systems.longitudinal.patches import Index, VoxelBox
from ct_assets.tables import longitudinal as schemas

Row = dict[str, Any]

INDEX_NAME, UNUSABLE_NAME, SETTINGS_NAME = "patches.parquet", "unusable_pairs.parquet", "patches.json"
MARGIN_VOXELS = 4
"""What is read around a crop, so that means over larger voxels are complete."""


@dataclass(frozen=True)
class Written:
    """What `write` did."""

    pairs: int
    unusable: int
    cut_now: int
    """Crops that were not in the store yet."""


@dataclass(frozen=True)
class _Job:
    pairs: list[Row]
    exams: dict[str, tuple[str, list[float]]]
    """By exam: its image, and its matrix from the first exam's points to its own."""
    settings: PatchSettings
    store: Path


def write(
    tables_dir: Path,
    registrations_dir: Path,
    tracking: Path,
    images: Path,
    output_dir: Path,
    settings: PatchSettings,
    *,
    workers: int = 1,
) -> Written:
    """Cut the crops of all usable pairs into `output_dir/store` and write the index beside."""
    joined = nodule_pairs.read(tables_dir, registrations_dir, tracking)
    exams = pl.read_parquet(tables_dir / "single_timepoints.parquet").to_dicts()
    registered = pl.read_parquet(registrations_dir / "registrations.parquet").to_dicts()
    matrix_of = {row["exam_id"]: row["matrix_fixed_to_moving"] for row in registered}
    path_of = {row["exam_id"]: str(images / row["nifti_path"]) for row in exams if row.get("nifti_path")}
    known = {
        name: (path_of.get(exam_id, ""), matrix_of.get(exam_id) or [])
        for name, exam_id in nodule_pairs.identifiers(exams).items()
    }
    by_patient = sorted(joined.usable, key=lambda row: (row["pid"], row["nodule_group"], row["exam_idx_a"]))
    jobs = []
    for _, group in groupby(by_patient, key=lambda row: row["pid"]):
        pairs = list(group)
        names = {pair[f"exam_{end}"] for pair in pairs for end in "ab"}
        jobs.append(
            _Job(pairs, {name: known[name] for name in sorted(names)}, settings, output_dir / "store")
        )
    index: list[Row] = []
    unusable, cut_now = list(joined.unusable), 0
    for rows, refused, new in parallel.map_ordered(_patient, jobs, workers=workers):
        index += rows
        unusable += refused
        cut_now += new
    for name, table, schema in (
        (INDEX_NAME, index, schemas.NodulePatches),
        (UNUSABLE_NAME, unusable, schemas.UnusablePairs),
    ):
        frame = pl.DataFrame(table, schema=tables.dtypes(schema), orient="row")
        tables.write_table(output_dir / name, frame, schema)
    files.write_json(output_dir / SETTINGS_NAME, settings.model_dump(mode="json"))
    return Written(len(index), len(unusable), cut_now)


def _patient(job: _Job) -> tuple[list[Row], list[Row], int]:
    """Cut the crops of one patient; return index rows, refused pairs, and how many crops are new."""
    store = Store(job.store)
    images: dict[str, Volume | str] = {}
    for name, (path, _) in job.exams.items():
        try:
            images[name] = load.load(Path(path)).volume
        except (load.ImageRefused, OSError):
            images[name] = "exam_without_image"
    rows, refused, new = [], [], 0
    for pair in job.pairs:
        volumes = [images[pair[f"exam_{end}"]] for end in "ab"]
        matrices = [np.array(job.exams[pair[f"exam_{end}"]][1]).reshape(4, 4) for end in "ab"]
        reason = next((volume for volume in volumes if isinstance(volume, str)), None)
        both = [volume for volume in volumes if isinstance(volume, Volume)]
        boxes = []
        if reason is None:
            boxes = [
                _box(pair[f"box_{end}"], volume.grid, matrix, job.settings)
                for end, volume, matrix in zip("ab", both, matrices, strict=True)
            ]
            if any(box is None for box in boxes):
                reason = "pair_box_outside"
        if reason is not None:
            names = ("pid", "nodule_group", "exam_a", "exam_b")
            refused.append({name: pair[name] for name in names} | {"reasons": [reason]})
            continue
        first, second = (box for box in boxes if box is not None)
        places = patches.starts(first, second, job.settings.mode, job.settings.shape)
        row = {name: pair[name] for name in schemas.NodulePatches.column_names() if name in pair}
        for end, volume, matrix, box, start in zip(
            "ab", both, matrices, (first, second), places, strict=True
        ):
            inside, is_clipped = patches.within(box, start, job.settings.shape)
            row |= {f"box_{end}": [*inside.low, *inside.high], f"is_clipped_{end}": is_clipped}
            path, _ = job.exams[pair[f"exam_{end}"]]
            status = Path(path).stat()
            source = [path, status.st_size, status.st_mtime_ns, matrix.tolist(), list(start)]
            name = patches.key(
                pair["nodule_group"],
                pair[f"exam_{end}"],
                pair[f"exam_idx_{end}"],
                job.settings.mode,
                [source, list(job.settings.spacing_mm)],
                job.settings.shape,
            )
            if not store.is_sound(name):
                store.put(
                    name, crop(volume, matrix, grid_at(start, job.settings)), {"mode": job.settings.mode}
                )
                new += 1
            row[f"key_{end}"] = name
        rows.append(row)
    return rows, refused, new


def grid_at(start: Index, settings: PatchSettings) -> Grid:
    """Return the grid of a crop: along the patient's axes, on multiples of the spacing."""
    x, y, z = (index * step for index, step in zip(start[::-1], settings.spacing_mm, strict=True))
    return Grid.of(settings.shape, settings.spacing_mm, (x, y, z))


def crop(volume: Volume, fixed_to_moving: Floats, grid: Grid) -> Volume:
    """Return what an exam shows on a grid of the first exam's space, HU (int16); air where it shows nothing.

    Only the part of the exam around the crop is resampled.
    """
    corners = AffineTransform(fixed_to_moving).points(grid.corners())
    indices = volume.grid.index(corners)[:, ::-1]
    # A voxel of the crop may be larger than the exam's: what lies half of it beyond its centre belongs to it.
    reach = np.max(grid.spacing_mm) / np.array(volume.grid.spacing_mm[::-1]) + MARGIN_VOXELS
    low = np.clip(np.floor(indices.min(axis=0) - reach), 0, volume.grid.shape).astype(int)
    high = np.clip(np.ceil(indices.max(axis=0) + reach), 0, volume.grid.shape).astype(int)
    if (high <= low).any():
        return Volume(np.full(grid.shape, AIR_HU, np.int16), grid)
    part = volume.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    affine = volume.grid.affine_lps.copy()
    affine[:3, 3] = volume.grid.world(low[::-1].astype(np.float64))
    moved = (
        AffineTransform(fixed_to_moving)
        .inverse()
        .image(Volume(part, Grid((part.shape[0], part.shape[1], part.shape[2]), affine)), grid)
    )
    return Volume(np.clip(np.rint(moved.array), -32768, 32767).astype(np.int16), grid)


def _box(
    coords: Sequence[int], grid: Grid, fixed_to_moving: Floats, settings: PatchSettings
) -> VoxelBox | None:
    """Return a tracked box in voxels of the common space; None where it lies outside its image."""
    first, second, third = ((coords[axis], coords[axis + 1]) for axis in (0, 2, 4))
    columns, rows = (second, first) if settings.rows_first else (first, second)
    ends = [columns, rows, third]
    if any(high < 0 or low >= size for (low, high), size in zip(ends, grid.shape[::-1], strict=True)):
        return None
    edges = np.meshgrid(*[(low - 0.5, high + 0.5) for low, high in ends], indexing="ij")
    corners = grid.world(np.stack(edges, axis=-1).reshape(-1, 3))
    around = Box.around(AffineTransform(fixed_to_moving).inverse().points(corners))
    low = [
        math.floor(value / step + 0.5) for value, step in zip(around.low_mm, settings.spacing_mm, strict=True)
    ]
    high = [
        math.ceil(value / step - 0.5) for value, step in zip(around.high_mm, settings.spacing_mm, strict=True)
    ]
    return VoxelBox(
        (low[0], low[1], low[2]), (max(low[0], high[0]), max(low[1], high[1]), max(low[2], high[2]))
    )


@dataclass(frozen=True)
class PatchSet:
    """The crops of some pairs, in the order of the index."""

    rows: list[Row]
    earlier: npt.NDArray[np.int16]
    """HU, (pairs, slices, rows, columns)."""
    later: npt.NDArray[np.int16]
    settings: PatchSettings
    digest: str
    """Of the index: other crops, other digest."""

    def scaled(self, window: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return earlier and later crops scaled to -1 … 1 by a window of the registry."""
        chosen = windows.window(window)
        return 2 * chosen.linear(self.earlier) - 1, 2 * chosen.linear(self.later) - 1


def read(folder: Path, split: str | None = None) -> PatchSet:
    """Read the crops of a split. Raises `UsageError` where they were not cut, or one is missing or damaged."""
    if not (folder / INDEX_NAME).is_file():
        raise UsageError(f"{folder / INDEX_NAME}: no such file; cut the crops first")
    settings = PatchSettings.model_validate(files.read_json(folder / SETTINGS_NAME))
    table = tables.read_table(folder / INDEX_NAME, schemas.NodulePatches)
    rows = [row for row in table.to_dicts() if split is None or row["split"] == split]
    digest = key_of("patch index", settings.model_dump(mode="json"), table.select("key_a", "key_b").rows())
    store = Store(folder / "store")
    earlier, later = (
        np.stack(list(_arrays(store, [row[name] for row in rows])))
        if rows
        else np.empty((0, *settings.shape), np.int16)
        for name in ("key_a", "key_b")
    )
    return PatchSet(rows, earlier, later, settings, digest)


def _arrays(store: Store, keys: Sequence[str]) -> Iterator[npt.NDArray[np.int16]]:
    for key in keys:
        try:
            yield store.open(key).array()
        except (MissingEntryError, DamagedEntryError):
            raise UsageError(
                f"{store.path(key)}: the crop is missing or damaged; cut the crops again"
            ) from None

"""From CT series and the tables of their annotations to scans that a network learns from: volumes in the store, findings.

Belongs here: which series are used, what each finding is, cases from tables. Does not: read messages (`lidc_folder`),
the network's grid (`volumes`). The tables are `NoduleVolumes` and `NoduleTruths`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import machine_faults, parallel, progress, tables
from ct_assets.dicom import index as headers
from ct_assets.dicom.series import Series, group
from ct_assets.dicom.uids import Kind
from ct_assets.imaging.convert import ConversionRefused, load_series
from ct_assets.imaging.resample import labels_onto, oriented
from ct_assets.imaging.store import Store, key_of
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.settings import Settings
from ct_assets.systems.nodules import findings, quality, triage, volumes
from ct_assets.systems.nodules.evaluate import URGENT_FROM
from ct_assets.systems.nodules.marks import Truth
from ct_assets.systems.nodules.patches import NoduleCase
from ct_assets.tables.nodules import NoduleTruths, NoduleVolumes

Floats = npt.NDArray[np.float64]
Row = dict[str, Any]

FORM = 1
"""Part of the keys of the store: another way of preparing a volume needs another."""
CALCIFIED_BELOW = 5.5
"""Mean rating of calcification: 6 is absent."""
GROUND_GLASS_TO, SOLID_FROM = 2.5, 4.5
"""Mean rating of texture: 1 is non-solid, 3 part-solid, 5 solid."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """The tables that `nodules lidc` writes."""

    scans: pl.DataFrame
    marks: pl.DataFrame
    nodules: pl.DataFrame
    consensus: pl.DataFrame

    @classmethod
    def read(cls, folder: Path) -> "Annotations":
        """Read them."""
        return cls(
            *(
                pl.read_parquet(folder / f"{name}.parquet")
                for name in ("scans", "marks", "nodules", "consensus")
            )
        )


def prepare(
    images_dir: Path,
    annotations: Annotations,
    store: Store,
    spacing_mm: float,
    *,
    settings: Settings,
    workers: int = 1,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Put every annotated CT series below `images_dir` into the store; return `NoduleVolumes` and `NoduleTruths`.

    A series that cannot be used is a row with its reasons.
    """
    index = headers.scan(images_dir, root=images_dir, workers=workers)
    series = [one for one in group(index, settings.audit) if one.kind == Kind.CT]
    annotated = set(annotations.scans["series_uid"].to_list())
    items = []
    for one in series:
        uid = one.series_instance_uid
        if uid is None or uid not in annotated:
            items.append(_Item(one, None, None, None))
            continue
        nodules, marks, consensus = (
            table.filter(pl.col("series_uid") == uid)
            for table in (annotations.nodules, annotations.marks, annotations.consensus)
        )
        items.append(_Item(one, nodules, marks, consensus))
    task = partial(
        _prepare_one, root=images_dir, index=index, store=store, spacing_mm=spacing_mm, settings=settings
    )
    rows: list[Row] = []
    truths: list[Row] = []
    with progress.track("scans on the network's grid", len(items)) as advance:
        for row, own_truths in parallel.map_ordered(task, items, workers=workers, preload=(__name__,)):
            rows.append(row)
            truths += own_truths
            advance(1)
    return (
        tables.frame(rows, NoduleVolumes).sort("series_uid"),
        tables.frame(truths, NoduleTruths).sort("series_uid", "number"),
    )


@dataclass(frozen=True, eq=False)
class _Item:
    series: Series
    nodules: pl.DataFrame | None
    marks: pl.DataFrame | None
    consensus: pl.DataFrame | None


def _prepare_one(
    item: _Item, *, root: Path, index: pl.DataFrame, store: Store, spacing_mm: float, settings: Settings
) -> tuple[Row, list[Row]]:
    series = item.series
    row: Row = {
        "series_uid": series.series_id,
        "patient_id": series.patient_id or series.series_id,
        "is_ready": False,
        "reasons": [],
        "warnings": [],
        "lungs_key": None,
        "image_key": None,
        "mask_key": None,
    }
    if item.nodules is None or item.marks is None or item.consensus is None:
        return row | {"reasons": ["nodule_series_not_annotated"]}, []
    try:
        converted = load_series(series, root, settings.conversion, index)
    except ConversionRefused as refusal:
        return row | {"reasons": list(refusal.reasons)}, []
    except Exception as error:
        # Whatever a broken file raises in a reader is the series' own fault; a full disk is not.
        if machine_faults.told(error):
            raise
        return row | {"reasons": ["unreadable_image"]}, []
    volume = converted.volume
    checked = quality.of_volume(volume)
    warnings = [*converted.corrections, *converted.warnings, *checked.warnings]
    if checked.refusals:
        return row | {"reasons": list(checked.refusals), "warnings": warnings}, []
    outlines = _outlines(volume.grid, item.nodules, item.consensus)
    truths = _truths(series.series_id, volume, outlines, item.nodules, item.marks)
    keys = {
        name: key_of("nodules", FORM, name, series.series_id, _content(series), spacing_mm, *extra)
        for name, extra in {"image": (), "lungs": (), "mask": (_digest(outlines),)}.items()
    }
    if not all(store.is_sound(key) for key in keys.values()):
        prepared = volumes.prepare(volume, spacing_mm)
        mask = labels_onto(oriented(Volume(outlines, volume.grid)), prepared.image.grid)
        store.put(keys["image"], prepared.image, {"has_lungs": prepared.lungs is not None})
        inside = np.zeros(mask.array.shape, np.uint8) if prepared.lungs is None else prepared.lungs
        store.put(keys["lungs"], Volume(inside.astype(np.uint8), mask.grid), {})
        store.put(keys["mask"], mask, {})
    has_lungs = bool(store.facts(keys["image"])["has_lungs"])
    ready = {"is_ready": True, "warnings": [*warnings, *(() if has_lungs else ("lungs_not_found",))]}
    return row | ready | {f"{name}_key": key for name, key in keys.items()}, truths


def _content(series: Series) -> list[str]:
    return [str(instance.sop_instance_uid) for instance in series.instances]


def _digest(array: npt.NDArray[np.uint8]) -> str:
    return key_of(np.flatnonzero(array).tolist())


def _outlines(grid: Grid, nodules: pl.DataFrame, consensus: pl.DataFrame) -> npt.NDArray[np.uint8]:
    """Return n + 1 in nodule n of the reference, (k, j, i) on the scan's own grid."""
    array = np.zeros(grid.shape, dtype=np.uint8)
    used = set(nodules.filter("in_reference")["nodule"].to_list())
    for row in consensus.iter_rows(named=True):
        if row["nodule"] in used:
            points = np.stack([row["x_mm"], row["y_mm"], row["z_mm"]], axis=-1)
            voxels = np.rint(grid.index(points)[:, ::-1]).astype(np.int64)
            voxels = voxels[((voxels >= 0) & (voxels < grid.shape)).all(axis=1)]
            array[tuple(voxels.T)] = row["nodule"] % 255 + 1
    return array


def _truths(
    series_uid: str,
    volume: Volume,
    outlines: npt.NDArray[np.uint8],
    nodules: pl.DataFrame,
    marks: pl.DataFrame,
) -> list[Row]:
    """Return the findings of a scan: the reference, then what is excluded."""
    rows = [_of_nodule(row, volume, outlines) for row in nodules.iter_rows(named=True)]
    small = marks.filter((pl.col("kind") != "nodule_ge3") & pl.col("x_mm").is_not_null())
    rows += [{**_place(row), "diameter_mm": -1.0, "is_excluded": True} for row in small.iter_rows(named=True)]
    nothing = dict.fromkeys(("axis_1_mm", "axis_2_mm", "axis_3_mm", "kind", "triage"))
    centres = np.array([[row[f"{axis}_mm"] for axis in "xyz"] for row in rows]).reshape(-1, 3)
    return [
        {
            "series_uid": series_uid,
            "number": number,
            **nothing,
            **row,
            "reasons": ["annotation_outside_volume"] if is_outside else [],
        }
        for number, (row, is_outside) in enumerate(
            zip(rows, quality.outside(volume.grid, centres).tolist(), strict=True)
        )
    ]


def _of_nodule(row: Row, volume: Volume, outlines: npt.NDArray[np.uint8]) -> Row:
    result = {
        **_place(row),
        "diameter_mm": -1.0 if row["diameter_mm"] is None else row["diameter_mm"],
        "is_excluded": not row["in_reference"],
        "kind": kind_of(row["texture"], row["calcification"]),
        "triage": triage.triage(
            triage.Ratings(row["malignancy"], row["diameter_mm"], row["spiculation"], row["texture"])
        ).score,
    }
    mask = outlines == row["nodule"] % 255 + 1
    if row["in_reference"] and mask.any():
        longest, middle, shortest = findings.measure(mask, volume, confidence=1.0).diameters_mm
        result |= {"axis_1_mm": longest, "axis_2_mm": middle, "axis_3_mm": shortest}
    return result


def _place(row: Row) -> Row:
    return {f"{axis}_mm": row[f"{axis}_mm"] for axis in "xyz"}


def kind_of(texture: float | None, calcification: float | None) -> str | None:
    """Return the type of a nodule by the means of its ratings; null where texture was not rated."""
    if calcification is not None and calcification < CALCIFIED_BELOW:
        return "calcified"
    if texture is None:
        return None
    if texture <= GROUND_GLASS_TO:
        return "ground_glass"
    return "solid" if texture >= SOLID_FROM else "part_solid"


def cases(ready: pl.DataFrame, truths: pl.DataFrame, store_dir: Path) -> list[NoduleCase]:
    """Return the rows of `NoduleVolumes` that are ready as cases, in their order."""
    result = []
    for row in ready.filter("is_ready").iter_rows(named=True):
        own = truths.filter(
            (pl.col("series_uid") == row["series_uid"])
            & ~pl.col("is_excluded")
            & (pl.col("reasons").list.len() == 0)
        )
        score = own["triage"].cast(pl.Float64).to_numpy()
        axes = own.select("axis_1_mm", "axis_2_mm", "axis_3_mm").to_numpy().astype(np.float64)
        result.append(
            NoduleCase(
                row["series_uid"],
                volumes.StoredImage.open(store_dir, row["image_key"]),
                own.select("x_mm", "y_mm", "z_mm").to_numpy().astype(np.float64),
                axes,
                volumes.StoredImage.open(store_dir, row["mask_key"]),
                np.where(np.isfinite(score), score >= URGENT_FROM, np.nan),
                patient=row["patient_id"],
                lungs=None
                if "lungs_not_found" in row["warnings"]
                else volumes.StoredImage.open(store_dir, row["lungs_key"]),
            )
        )
    return result


def truths_of(truths: pl.DataFrame, scans: Iterable[str]) -> list[Truth]:
    """Return the findings of some scans as an evaluation takes them."""
    used = truths.filter(pl.col("series_uid").is_in(list(scans)) & (pl.col("reasons").list.len() == 0))
    return [
        Truth(
            row["series_uid"],
            (row["x_mm"], row["y_mm"], row["z_mm"]),
            row["diameter_mm"],
            row["kind"],
            row["triage"],
            row["is_excluded"],
        )
        for row in used.iter_rows(named=True)
    ]

"""A fold's volumes: every case of training and validation, resampled once and kept in the store by content.

Belongs here: making and naming store entries, and the fold's table of them. Does not: the plan
(`learning.volumes.plan`), reading patches (`learning.volumes.dataset`).

A key covers the bytes of the source files and what the plan says about geometry, and nothing of the fold: folds
that share a spacing share their volumes, and only normalisation, which is applied when a case is loaded,
differs between them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import parallel, progress
from ct_assets.imaging.store import Store, key_of
from ct_assets.imaging.volume import Volume
from ct_assets.learning.volumes import fingerprint, prepare
from ct_assets.learning.volumes.fingerprint import Case, Checked
from ct_assets.learning.volumes.plan import Plan, training_rows, validation_rows
from ct_assets.tables import frame, read_table
from ct_assets.tables.folds import FinalSet, FoldVolumes

CODE_VERSION = 2
"""Raised when the same files and plan would give other voxels."""
FOREGROUND_POINTS = 1024
"""So many voxels of each label are noted, evenly spread in reading order, as centres of patches."""


@dataclass(frozen=True)
class Keys:
    """The store entries of one case."""

    image: str
    label: str | None


def build(
    manifest: pl.DataFrame,
    fold: str,
    plan: Plan,
    root: Path,
    store_dir: Path,
    workers: int,
    *,
    checks_dir: Path | None = None,
) -> pl.DataFrame:
    """Make what is missing or damaged in the store, and return the fold's table `FoldVolumes`.

    Cases whose files cannot be used have no row; `fingerprint.check` names them with their reasons. `checks_dir`
    is where fingerprints are remembered, where that is not the store itself.
    """
    roles = dict.fromkeys(training_rows(manifest, fold)["case_id"], "train")
    roles |= dict.fromkeys(validation_rows(manifest, fold)["case_id"], "validation")
    rows = manifest.filter(pl.col("case_id").is_in(list(roles))).sort("case_id")
    checked = fingerprint.check(rows, root, checks_dir or store_dir, workers)
    made = fill(checked, plan, store_dir, workers)
    store = Store(store_dir)
    table = []
    for row, keys in zip(rows.iter_rows(named=True), made, strict=True):
        if keys is None:
            continue
        facts = store.facts(keys.label) if keys.label else {"voxels": 0}
        table.append(
            {
                "case_id": row["case_id"],
                "patient_id": row["patient_id"],
                "role": roles[row["case_id"]],
                "stage": row.get("stage"),
                "site": row.get("site"),
                "image_key": keys.image,
                "label_key": keys.label,
                "image": row["image"],
                "label": row.get("label") or None,
                "shape_kji": list(store.facts(keys.image)["shape"]),
                "foreground_voxels": facts["voxels"],
            }
        )
    return frame(table, FoldVolumes)


def fill(checked: list[Checked], plan: Plan, store_dir: Path, workers: int) -> list[Keys | None]:
    """Make the store entries of checked cases where they are missing or damaged; None for unusable cases."""
    return fill_all([(checked, plan)], store_dir, workers)[0]


def fill_all(
    wanted: list[tuple[list[Checked], Plan]], store_dir: Path, workers: int
) -> list[list[Keys | None]]:
    """Do as `fill` for several plans in one go: what plans share is made once, and workers start once."""
    keys = [[keys_of(one, plan) for one in checked] for checked, plan in wanted]
    store = Store(store_dir)
    missing: dict[str, tuple[Case, Keys, Plan]] = {}
    for (checked, plan), named in zip(wanted, keys, strict=True):
        for one, pair in zip(checked, named, strict=True):
            if pair is None or f"{pair.image}/{pair.label}" in missing:
                continue
            if not (store.is_sound(pair.image) and (pair.label is None or store.is_sound(pair.label))):
                missing[f"{pair.image}/{pair.label}"] = (one.case, pair, plan)
    with progress.track("volumes", len(missing)) as advance:
        make = partial(_make, store_dir=store_dir)
        for _ in parallel.map_ordered(make, missing.values(), workers=min(workers, len(missing))):
            advance(1)
    return keys


def keys_of(one: Checked, plan: Plan) -> Keys | None:
    """Return the store keys of a checked case under a plan; None where the case cannot be used."""
    print_ = one.fingerprint
    if print_ is None:
        return None
    geometry = [CODE_VERSION, plan.target_spacing_mm, plan.crop.model_dump(), plan.resampling.model_dump()]
    image = key_of("image", print_.image_digest, *geometry)
    if print_.label_digest is None:
        return Keys(image, None)
    return Keys(image, key_of("label", print_.label_digest, print_.image_digest, *geometry))


def _make(item: tuple[Case, Keys, Plan], store_dir: Path) -> None:
    case, keys, plan = item
    read = fingerprint.read_case(case)
    prepared = prepare.image(read.image, plan)
    store = Store(store_dir)
    store.put(keys.image, prepared.image, {**prepared.facts(), "shape": list(prepared.image.grid.shape)})
    if read.label is None or keys.label is None:
        return
    label = prepare.label(read.label, prepared.image.grid)
    kept = np.count_nonzero(read.label.array[prepared.box])
    cut = int(np.count_nonzero(read.label.array) - kept)
    store.put(keys.label, label, {**_foreground(label.array), "voxels_cut_by_crop": cut})


def _foreground(labels: npt.NDArray[Any]) -> dict[str, Any]:
    """Return how many voxels each label has, and where some of them lie (indices into the flat array)."""
    flat = labels.ravel()
    where = np.flatnonzero(flat)
    values = flat[where]
    points = {}
    for value in np.unique(values):
        of_label = where[values == value]
        chosen = np.linspace(0, of_label.size - 1, min(FOREGROUND_POINTS, of_label.size)).round().astype(int)
        points[str(int(value))] = of_label[chosen].tolist()
    return {"voxels": int(where.size), "points": points}


def named_keys(folders: Iterable[Path]) -> set[str]:
    """Return the store keys that the tables in these folders name: a fold's volumes, a final set's manifest."""
    named: set[str] = set()
    for folder in folders:
        for path, schema in (
            (folder / "volumes.parquet", FoldVolumes),
            (folder / "manifest.parquet", FinalSet),
        ):
            if path.exists():
                table = read_table(path, schema)
                named |= set(table["image_key"]) | set(table["label_key"].drop_nulls())
    return named


def free_unnamed(store_dir: Path, folders: Iterable[Path], *, remove: bool = True) -> tuple[int, int]:
    """Free the store entries that no fold's table names; return how many and how many bytes.

    With `remove` false nothing is freed, and the bytes are those that could be.
    """
    store = Store(store_dir)
    unnamed = store.unnamed(named_keys(folders))
    if not remove:
        return len(unnamed), store.size_of(unnamed)
    return len(unnamed), store.remove(unnamed)


def volume_of(store_dir: Path, key: str) -> Volume:
    """Return one stored volume whole. Raises `MissingEntryError` or `DamagedEntryError` of the store."""
    return Store(store_dir).open(key).volume()

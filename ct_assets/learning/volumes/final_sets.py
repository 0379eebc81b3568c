"""The final sets: hard data for the last training and for the one test.

Belongs here: writing normalised volumes with their manifest and digests, under one plan made from all training
patients. Nothing is fitted here; the test set is only ever the plan applied.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files, parallel, progress
from ct_assets.errors import UsageError
from ct_assets.imaging import nifti
from ct_assets.imaging.store import Store, key_of
from ct_assets.imaging.volume import Volume
from ct_assets.learning.volumes import fingerprint, fold_volumes
from ct_assets.learning.volumes.fold_volumes import Keys
from ct_assets.learning.volumes.plan import FINAL, Plan
from ct_assets.tables import frame, read_table, write_table
from ct_assets.tables.folds import FinalSet

MANIFEST = "manifest.parquet"
PLAN = "plan.json"
CODE_VERSION = 1


def build(
    manifest: pl.DataFrame,
    plan: Plan,
    root: Path,
    train_dir: Path,
    test_dir: Path,
    store_dir: Path,
    workers: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write `final/train` and `final/test`; return their tables (`FinalSet`)."""
    train = build_train(manifest, plan, root, train_dir, store_dir, workers)
    return train, build_test(manifest, plan, root, test_dir, store_dir, workers)


def build_train(
    manifest: pl.DataFrame, plan: Plan, root: Path, folder: Path, store_dir: Path, workers: int
) -> pl.DataFrame:
    """Write all training patients under the plan of all training patients. Raises `UsageError` for another plan."""
    return _build(manifest, "train", plan, root, folder, store_dir, workers)


def build_test(
    manifest: pl.DataFrame, plan: Plan, root: Path, folder: Path, store_dir: Path, workers: int
) -> pl.DataFrame:
    """Write the test patients under the very same plan. Raises `UsageError` for another plan."""
    return _build(manifest, "test", plan, root, folder, store_dir, workers)


def _build(
    manifest: pl.DataFrame, role: str, plan: Plan, root: Path, folder: Path, store_dir: Path, workers: int
) -> pl.DataFrame:
    if plan.fold != FINAL:
        raise UsageError(
            f"final sets need the plan of all training patients, this one is of fold {plan.fold}"
        )
    rows = manifest.filter(pl.col("split") == role).sort("case_id")
    checked = fingerprint.check(rows, root, store_dir, workers)
    keys = fold_volumes.fill(checked, plan, store_dir, workers)
    known = _known(folder, plan)
    work, table = [], []
    for row, one, named in zip(rows.iter_rows(named=True), checked, keys, strict=True):
        if named is None or one.fingerprint is None:
            continue
        facts = {
            "case_id": row["case_id"],
            "patient_id": row["patient_id"],
            "role": role,
            "stage": row.get("stage"),
            "site": row.get("site"),
            "image": f"images/{row['case_id']}.nii.gz",
            "label": f"labels/{row['case_id']}.nii.gz" if named.label else None,
            "image_key": named.image,
            "label_key": named.label,
            "source_image_digest": one.fingerprint.image_digest,
            "source_label_digest": one.fingerprint.label_digest,
        }
        table.append(facts)
        work.append(_Work(folder, facts["image"], facts["label"], named, known.get(row["case_id"])))
    plan.save(folder / PLAN)
    with progress.track(f"final {role}", len(work)) as advance:
        write = partial(_write, plan=plan, store_dir=store_dir)
        for facts, digests in zip(
            table, parallel.map_ordered(write, work, workers=min(workers, len(work))), strict=True
        ):
            facts.update(digests)
            advance(1)
    result = frame(table, FinalSet)
    write_table(folder / MANIFEST, result, FinalSet)
    files.write_json(folder / "made_from.json", _made_from(plan))
    _remove_others(folder, result)
    return result


@dataclass(frozen=True)
class _Work:
    folder: Path
    image: str
    label: str | None
    keys: Keys
    known: dict[str, Any] | None
    """The row of an earlier run under the same plan's geometry and intensity."""


def _made_from(plan: Plan) -> dict[str, str]:
    """Return what decides the voxels of a final set, beside the store entry."""
    return {"recipe": key_of(CODE_VERSION, plan.intensity.model_dump(mode="json"))}


def _known(folder: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    try:
        if files.read_json(folder / "made_from.json") != _made_from(plan):
            return {}
        rows = read_table(folder / MANIFEST, FinalSet).to_dicts()
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return {}
    return {row["case_id"]: row for row in rows}


def _write(work: _Work, plan: Plan, store_dir: Path) -> dict[str, str | None]:
    known = work.known
    names = [("image", work.image)] + ([("label", work.label)] if work.label else [])
    if known and known["image_key"] == work.keys.image and known["label_key"] == work.keys.label:
        digests = {f"{what}_sha256": _digest(work.folder / name) for what, name in names}
        if all(known[name] == digest for name, digest in digests.items()):
            return {"label_sha256": None, **digests}
    store = Store(store_dir)
    entry = store.open(work.keys.image)
    values = plan.intensity.normalise(entry.array(), entry.facts["mean_hu"], entry.facts["std_hu"])
    nifti.write(work.folder / work.image, Volume(values, entry.grid))
    if work.label and work.keys.label:
        nifti.write(work.folder / work.label, store.open(work.keys.label).volume())
    return {
        "label_sha256": None,
        **{f"{what}_sha256": files.sha256_file(work.folder / name) for what, name in names},
    }


def _digest(path: Path) -> str | None:
    return files.sha256_file(path) if path.exists() else None


def _remove_others(folder: Path, table: pl.DataFrame) -> None:
    wanted = set(table["image"]) | set(table["label"].drop_nulls())
    for kind in ("images", "labels"):
        for path in (folder / kind).glob("*.nii.gz"):
            if f"{kind}/{path.name}" not in wanted:
                path.unlink()

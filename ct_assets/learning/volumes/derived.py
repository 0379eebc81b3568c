"""Smaller sets for a home computer or a GPU trial: the same shape as the full set, within a size budget.

Belongs here: which training patients are drawn, and laying a set out so that a training can take it in place of
the full one. A set has its own folds (`folds/<fold>/plan.json`, `volumes.parquet`) and its own `store`, so that the
folder can be carried away whole. Patients keep the folds of the ledger.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.imaging.store import Store
from ct_assets.learning.volumes import fold_volumes
from ct_assets.learning.volumes.plan import FINAL, build_plan, training_rows
from ct_assets.settings.folds import DerivedSettings, PlanSettings
from ct_assets.settings.platform import Settings
from ct_assets.tables import write_table
from ct_assets.tables.folds import FoldVolumes

FULL = "full"
"""The name of the full set in a training configuration."""
FEWEST = 2
"""A set of fewer patients can train nothing."""
MB = 1_000_000


@dataclass(frozen=True)
class DerivedSummary:
    """What a smaller set is."""

    name: str
    patients: int
    cases: int
    megabytes: float
    stages: dict[str, dict[str, float]]
    """Share of each stage in the set and in the whole."""
    drift: dict[str, Any]
    """The set against the training patients left out, as by `cohort.drift`."""
    digest: str


def build(
    name: str,
    settings: Settings | DerivedSettings,
    manifest: pl.DataFrame,
    root: Path,
    folder: Path,
    store_dir: Path,
    workers: int,
    *,
    header_factors: pl.DataFrame | None = None,
    plan_settings: PlanSettings | None = None,
) -> DerivedSummary:
    """Draw and write the smaller set `name` into `folder`; return its summary, also written as `derived.json`.

    Patients are drawn from the training patients only, in shares of stage and fold as in the whole, in an order
    that the seed fixes: a larger set holds the smaller ones of its seed. Where the budget of megabytes is
    exceeded, the last drawn are left out again. Raises `UsageError` where not even two folds' worth fits.
    """
    chosen = _settings_of(name, settings)
    base = settings.plan if isinstance(settings, Settings) else plan_settings or PlanSettings()
    planning = base.model_copy(
        update={
            "spacing": chosen.spacing,
            "crop": chosen.crop,
            "patch_size": chosen.patch_size or base.patch_size,
        }
    )
    training = manifest.filter(pl.col("split") == "train")
    order = draw_order(training, chosen.seed)
    drawn = order[: chosen.patients]
    set_store = folder / "store"
    while True:
        part = training.filter(pl.col("patient_id").is_in(drawn))
        sizes = _write_folds(part, planning, root, folder, store_dir, workers)
        if sum(sizes.values()) <= chosen.max_mb * MB:
            break
        # Folds may differ in spacing, then a patient counts with all the volumes that any of them needs.
        drawn = _within(drawn, sizes, chosen.max_mb * MB)
        if len(drawn) < FEWEST:
            smallest = sum(sorted(sizes.values())[:FEWEST]) / MB
            raise UsageError(
                f"derived.{name}: max_mb is {chosen.max_mb:g}, two patients take {smallest:.1f}; "
                "raise it, or choose a coarser spacing"
            )
    return _summary(name, chosen, training, part, folder, Store(set_store), header_factors)


def draw_order(training: pl.DataFrame, seed: int) -> list[str]:
    """Return the training patients in the order in which they are drawn: any beginning is stratified.

    Within each stage patients are ordered by a salted hash and dealt out fold by fold; the stage drawn next is
    the one that is furthest behind its share.
    """
    patients = training.unique("patient_id", keep="first").sort("patient_id")
    queues: dict[str, list[tuple[int, str, str]]] = {}
    for row in patients.iter_rows(named=True):
        mark = hashlib.sha256(f"derived\0{seed}\0{row['patient_id']}".encode()).hexdigest()
        queues.setdefault(row.get("stage") or "", []).append((0, mark, row["patient_id"]))
    fold_of = dict(zip(patients["patient_id"], patients["fold"].cast(pl.String), strict=True))
    taken_of_fold: dict[str | None, int] = {}
    share = {stage: len(queue) / patients.height for stage, queue in queues.items()}
    taken = dict.fromkeys(queues, 0)
    order: list[str] = []
    while len(order) < patients.height:
        behind = {
            stage: share[stage] * (len(order) + 1) - taken[stage] for stage, queue in queues.items() if queue
        }
        stage = max(sorted(behind), key=lambda one: behind[one])
        chosen = min(queues[stage], key=lambda one: (taken_of_fold.get(fold_of[one[2]], 0), one[1]))
        queues[stage].remove(chosen)
        taken[stage] += 1
        taken_of_fold[fold_of[chosen[2]]] = taken_of_fold.get(fold_of[chosen[2]], 0) + 1
        order.append(chosen[2])
    return order


@dataclass(frozen=True)
class Source:
    """Where a training finds a fold's plan, volumes and store."""

    plan: Path
    volumes: Path
    store: Path


def source(root: Path, fold: str, name: str = FULL) -> Source:
    """Return where fold data lie: of the full set under the data root, or of the smaller set `name`."""
    base = root if name == FULL else root / "derived" / name
    return Source(
        base / "folds" / fold / "plan.json", base / "folds" / fold / "volumes.parquet", base / "store"
    )


def final_dirs(root: Path, name: str = FULL) -> tuple[Path, Path]:
    """Return where the final training and test sets lie of the full set, or of the smaller set `name`."""
    base = root if name == FULL else root / "derived" / name
    return base / "final/train", base / "final/test"


def _settings_of(name: str, settings: Settings | DerivedSettings) -> DerivedSettings:
    if isinstance(settings, DerivedSettings):
        return settings
    try:
        return settings.derived[name]
    except KeyError:
        known = ", ".join(sorted(settings.derived)) or "none"
        raise UsageError(f"derived set {name!r}: not in the settings; there are: {known}") from None


def _within(drawn: list[str], sizes: dict[str, int], budget: float) -> list[str]:
    """Return the longest beginning of `drawn` that the budget allows."""
    total = 0
    for place, patient in enumerate(drawn):
        total += sizes.get(patient, 0)
        if total > budget:
            return drawn[:place]
    return drawn


def _write_folds(
    part: pl.DataFrame, planning: PlanSettings, root: Path, folder: Path, checks_dir: Path, workers: int
) -> dict[str, int]:
    """Write plan and volumes of each fold, and free what none names; return bytes in the store by patient."""
    store = Store(folder / "store")
    shutil.rmtree(folder / "folds", ignore_errors=True)
    keys_of: dict[str, set[str]] = {}
    for fold in [*sorted({str(fold) for fold in part["fold"].drop_nulls()}), FINAL]:
        if training_rows(part, fold).is_empty():
            continue
        plan = build_plan(part, fold, root, checks_dir, planning, workers)
        volumes = fold_volumes.build(part, fold, plan, root, store.root, workers, checks_dir=checks_dir)
        plan.save(folder / "folds" / fold / "plan.json")
        write_table(folder / "folds" / fold / "volumes.parquet", volumes, FoldVolumes)
        for row in volumes.iter_rows(named=True):
            keys_of.setdefault(row["patient_id"], set()).update(
                key for key in (row["image_key"], row["label_key"]) if key
            )
    store.remove(store.unnamed(set().union(*keys_of.values())))
    with files.atomic_path(folder / "manifest.parquet") as partial:
        part.write_parquet(partial)
    return {patient: store.size_of(keys) for patient, keys in keys_of.items()}


def _summary(
    name: str,
    chosen: DerivedSettings,
    training: pl.DataFrame,
    part: pl.DataFrame,
    folder: Path,
    store: Store,
    header_factors: pl.DataFrame | None,
) -> DerivedSummary:
    from ct_assets.cohort import drift
    from ct_assets.settings.folds import DriftSettings

    inside = set(part["patient_id"])
    compared = drift.assess_subset(training, header_factors, inside, DriftSettings(seed=chosen.seed))
    shares = {"set": _shares(part), "whole": _shares(training)}
    content: dict[str, Any] = {
        "name": name,
        "settings": chosen.model_dump(mode="json"),
        "patients": len(inside),
        "patient_ids": sorted(inside),
        "cases": part.height,
        "megabytes": round(store.size_of(store.all_keys()) / MB, 3),
        "stages": shares,
        "drift": {
            "note": compared.note,
            "alarms": [one.verdict for one in compared.findings if one.is_alarm],
            "findings": [one.model_dump(mode="json") for one in compared.findings],
        },
    }
    files.write_json(folder / "derived.json", content)
    return DerivedSummary(
        name=name,
        patients=len(inside),
        cases=part.height,
        megabytes=content["megabytes"],
        stages=shares,
        drift=content["drift"],
        digest=files.digest_of(content),
    )


def _shares(rows: pl.DataFrame) -> dict[str, float]:
    patients = rows.unique("patient_id", keep="first")
    if "stage" not in patients.columns:
        return {}
    counted = patients.group_by(pl.col("stage").fill_null("")).len().sort("stage")
    return {stage: round(count / patients.height, 4) for stage, count in counted.iter_rows()}

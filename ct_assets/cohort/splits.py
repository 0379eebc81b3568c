"""The split ledger: which patient is tested, which fold validates whom, for ever.

Belongs here: making and extending the append-only ledger. Does not: checking it (`cohort.splits_checks`),
folds that a person made (`cohort.splits_given`), drift between its parts (`cohort.drift`).

Patients are split, not images. A salted hash orders the patients; within strata a quota of the first in that
order is set apart for the test, and every other patient goes to the lightest fold of the stratum. What is
assigned stays: a later call only adds rows. The settings that made the ledger are part of every row, and
other settings are refused.

Strata are cells of stage x site (or what the settings name). A cell that holds fewer than two patients a fold
is rare: it is collapsed to its first factor (the stage), and a stage still rarer to one common stratum. A fold
weighs what it already holds of the patient's stratum, stage and site, and its scans a little: the minimisation of
Pocock and Simon (Biometrics 31, 1975) without its coin. The weights were chosen by `benchmarks/splits.py`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from ct_assets.errors import UsageError
from ct_assets.files import digest_of
from ct_assets.settings.folds import SplitSettings
from ct_assets.tables import frame
from ct_assets.tables.cohort import SplitLedger

TEST, TRAIN = "test", "train"
UNKNOWN = "unknown"
"""Stands in strata for a missing stage or site."""
PATIENTS_A_FOLD = 2
"""A cell with fewer patients a fold than this is rare and is collapsed."""
SCAN_WEIGHT = 0.15
"""What a scan counts against a patient of the same stratum, stage or site, when folds are weighed."""
FEWEST_FOR_A_TEST = 3
"""With fewer patients there is no test set: one tested and two folds are the least that can be evaluated."""


@dataclass(frozen=True)
class _Patient:
    patient_id: str
    stage: str | None
    site: str | None
    scans: int
    order: str
    """Place in the salted order."""

    def factor(self, name: str) -> str:
        return {"stage": self.stage, "site": self.site}[name] or UNKNOWN


def extend(
    ledger: pl.DataFrame | None,
    patients: pl.DataFrame,
    settings: SplitSettings,
    recorded_at: datetime,
    *,
    tombstone: Callable[[str], str] | None = None,
) -> pl.DataFrame:
    """Return the ledger with a row for each patient that it did not hold; old rows stay as they are.

    `patients` has `patient_id` and, where known, `stage`, `site` and `scans` (a number); one row a patient
    (of several rows the first counts). `tombstone` turns a patient into the keyed digest under which a
    withdrawn one is remembered: who is remembered so is left out. The result does not depend on the order
    of the rows. Raises `UsageError` where `settings` are not those the ledger was made with.
    """
    known = frame([], SplitLedger) if ledger is None else ledger
    frozen = frozen_settings(settings, patients)
    if known.height:
        refuse_changed_settings(known, frozen)
        frozen = made_with(known)
    seen = set(known["patient_id"])
    fresh = [one for one in _patients(patients, frozen["salt"]) if one.patient_id not in seen]
    if tombstone is not None:
        fresh = [one for one in fresh if tombstone(one.patient_id) not in seen]
    if not fresh:
        return known
    held = [
        (_Patient(row["patient_id"], row["stage"], row["site"], row["scans"], ""), row["split"], row["fold"])
        for row in active(known).iter_rows(named=True)
    ]
    place = _by_site if frozen["scheme"] == "leave_one_site_out" else _balanced
    placed = place(fresh, held, frozen)
    return append(known, placed, frozen, recorded_at)


@dataclass(frozen=True)
class Placed:
    """One new row of the ledger."""

    patient_id: str
    split: str
    fold: int | None
    why: str
    stratum: str
    stage: str | None
    site: str | None
    scans: int


def append(
    ledger: pl.DataFrame, placed: Sequence[Placed], frozen: dict[str, Any], recorded_at: datetime
) -> pl.DataFrame:
    """Return `ledger` with `placed` added, chained row by row by digests."""
    text = orjson.dumps(frozen, option=orjson.OPT_SORT_KEYS).decode()
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(placed, start=ledger.height):
        rows.append(
            {
                "row": number,
                "patient_id": one.patient_id,
                "split": one.split,
                "fold": one.fold,
                "why": one.why,
                "stratum": one.stratum,
                "stage": one.stage,
                "site": one.site,
                "scans": one.scans,
                "is_withdrawn": False,
                "settings": text,
                "settings_digest": digest_of(frozen),
                "added_at": recorded_at,
            }
        )
    return chained(pl.concat([ledger.drop("row_digest"), frame(rows, SplitLedger).drop("row_digest")]))


def chained(ledger: pl.DataFrame) -> pl.DataFrame:
    """Return the ledger with `row_digest` (re)made: each row's digest covers the row before it."""
    digests: list[str] = []
    previous = ""
    for row in ledger.iter_rows(named=True):
        row.pop("row_digest", None)
        row["added_at"] = row["added_at"].isoformat()
        previous = digest_of([previous, row])
        digests.append(previous)
    return ledger.with_columns(pl.Series("row_digest", digests, dtype=pl.String)).select(
        SplitLedger.column_names()
    )


def withdraw(ledger: pl.DataFrame, patient_id: str, tombstone: str) -> pl.DataFrame:
    """Return the ledger with a patient's row turned into a tombstone: same place, no pseudonym, no label.

    The place stays taken, so that nobody else moves; balance goes on without the patient.
    Raises `UsageError` where the ledger does not hold the patient.
    """
    if patient_id not in set(ledger["patient_id"]):
        raise UsageError("the split ledger does not hold this patient")
    this = pl.col("patient_id") == patient_id
    return chained(
        ledger.with_columns(
            patient_id=pl.when(this).then(pl.lit(tombstone)).otherwise("patient_id"),
            stage=pl.when(this).then(None).otherwise("stage"),
            site=pl.when(this).then(None).otherwise("site"),
            stratum=pl.when(this).then(pl.lit("withdrawn")).otherwise("stratum"),
            why=pl.when(this).then(pl.lit("withdrawn")).otherwise("why"),
            is_withdrawn=pl.when(this).then(pl.lit(True)).otherwise("is_withdrawn"),
        )
    )


def active(ledger: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of patients who have not been withdrawn."""
    return ledger.filter(~pl.col("is_withdrawn"))


def frozen_settings(settings: SplitSettings, patients: pl.DataFrame) -> dict[str, Any]:
    """Return what is fixed when a ledger is made; with a fold a site, the sites and their order too.

    Raises `UsageError` where a fold a site is asked for and the number of folds does not say so.
    """
    frozen: dict[str, Any] = {
        "folds": settings.folds,
        "test_share": settings.test_share,
        "salt": settings.salt,
        "strata": list(settings.strata),
        "scheme": settings.scheme,
    }
    if settings.scheme == "leave_one_site_out":
        sites = sorted({row or UNKNOWN for row in _column(patients, "site")})
        frozen["sites"] = sites
    return frozen


def made_with(ledger: pl.DataFrame) -> dict[str, Any]:
    """Return the settings that a ledger with at least one row was made with."""
    return orjson.loads(ledger["settings"][0])


def refuse_changed_settings(ledger: pl.DataFrame, frozen: dict[str, Any]) -> None:
    """Raise `UsageError` naming each setting that is not the ledger's own, and the way to a new ledger."""
    first = made_with(ledger)
    changed = [
        f"{name} is {frozen[name]!r}, the ledger was made with {first[name]!r}"
        for name in ("folds", "test_share", "salt", "strata", "scheme")
        if frozen[name] != first[name]
    ]
    if changed:
        raise UsageError(
            f"splits: {'; '.join(changed)}. These are fixed when the ledger is made, since every model trained "
            "on it rests on them. Set them back, or move splits.parquet (and splits_record.json) away to make a "
            "new ledger (all folds, models and reports are then made anew, and the old test set is spent)."
        )


def _patients(patients: pl.DataFrame, salt: str) -> list[_Patient]:
    rows = Counter(patients["patient_id"])
    first = patients.unique("patient_id", keep="first", maintain_order=True)
    columns = (_column(first, name) for name in ("patient_id", "stage", "site", "scans"))
    found = [
        _Patient(
            patient_id,
            stage,
            site,
            rows[patient_id] if scans is None else int(scans),
            hashlib.sha256(f"{salt}\0{patient_id}".encode()).hexdigest(),
        )
        for patient_id, stage, site, scans in zip(*columns, strict=True)
    ]
    return sorted(found, key=lambda one: one.order)


def _column(table: pl.DataFrame, name: str) -> list[Any]:
    return table[name].to_list() if name in table.columns else [None] * table.height


def _by_site(
    fresh: list[_Patient], held: list[tuple[_Patient, str, int | None]], frozen: dict[str, Any]
) -> list[Placed]:
    sites: list[str] = frozen["sites"]
    if len(sites) != frozen["folds"]:
        raise UsageError(
            f"splits: leave_one_site_out needs a fold a site: there are {len(sites)} sites, folds is "
            f"{frozen['folds']}; set folds: {len(sites)}"
        )
    site_of = {one.patient_id: one.factor("site") for one in [*(one for one, _, _ in held), *fresh]}
    tested = _choose_test(fresh, held, site_of, frozen)
    placed = []
    for one in fresh:
        site = one.factor("site")
        facts = (site, one.stage, one.site, one.scans)
        if one.patient_id in tested:
            placed.append(Placed(one.patient_id, TEST, None, "test quota of the site", *facts))
        elif site in sites:
            placed.append(Placed(one.patient_id, TRAIN, sites.index(site), "fold of the site", *facts))
        else:
            why = "new site: trains in every fold, validates in none"
            placed.append(Placed(one.patient_id, TRAIN, None, why, *facts))
    return placed


def _balanced(
    fresh: list[_Patient], held: list[tuple[_Patient, str, int | None]], frozen: dict[str, Any]
) -> list[Placed]:
    everyone = [one for one, _, _ in held] + fresh
    stratum_of = _strata(everyone, frozen["strata"], frozen["folds"])
    tested = _choose_test(fresh, held, stratum_of, frozen)
    folds = range(frozen["folds"])
    levels = frozen["strata"]
    load: Counter[tuple[Any, ...]] = Counter()

    def count(one: _Patient, fold: int) -> None:
        load[("stratum", stratum_of[one.patient_id], fold)] += 1
        for level in levels:
            load[(level, one.factor(level), fold)] += 1
        load[("scans", fold)] += one.scans

    for one, split, fold in held:
        if split == TRAIN and fold is not None:
            count(one, fold)
    placed = []
    # Those of one kind follow one another, those with many scans first: they then go round the folds.
    kinds = sorted(
        fresh,
        key=lambda one: (
            stratum_of[one.patient_id],
            *(one.factor(level) for level in levels),
            -one.scans,
            one.order,
        ),
    )
    for one in kinds:
        stratum = stratum_of[one.patient_id]
        facts = (stratum, one.stage, one.site, one.scans)
        if one.patient_id in tested:
            placed.append(Placed(one.patient_id, TEST, None, "test quota of the stratum", *facts))
            continue

        def weight(fold: int, one: _Patient = one, stratum: str = stratum) -> tuple[float, int]:
            of_levels = sum(load[(level, one.factor(level), fold)] for level in levels)
            return (
                load[("stratum", stratum, fold)] + of_levels + SCAN_WEIGHT * load[("scans", fold)],
                fold,
            )

        chosen = min(folds, key=weight)
        count(one, chosen)
        placed.append(Placed(one.patient_id, TRAIN, chosen, "lightest fold of the stratum", *facts))
    return placed


def _strata(everyone: list[_Patient], factors: Sequence[str], folds: int) -> dict[str, str]:
    """Return each patient's stratum after the collapse of rare cells (rule in the module's docstring)."""
    enough = PATIENTS_A_FOLD * folds
    cell = {one.patient_id: " / ".join(one.factor(name) for name in factors) for one in everyone}
    coarse = {one.patient_id: one.factor(factors[0]) if factors else "" for one in everyone}
    of_cell, of_coarse = Counter(cell.values()), Counter(coarse.values())
    strata = {}
    for one in everyone:
        patient = one.patient_id
        if of_cell[cell[patient]] >= enough:
            strata[patient] = cell[patient]
        elif of_coarse[coarse[patient]] >= enough:
            strata[patient] = f"{coarse[patient]} / rare"
        else:
            strata[patient] = "rare"
    return strata


def _choose_test(
    fresh: list[_Patient],
    held: list[tuple[_Patient, str, int | None]],
    stratum_of: dict[str, str],
    frozen: dict[str, Any],
) -> set[str]:
    """Return the new patients to set apart, so that the test set keeps its share, overall and by stratum.

    The whole quota is round(share x patients), at least one from three patients on. It is dealt out one
    by one to the stratum (and in it the stage) that lacks most, to its first new patient in the salted order; a
    patient who is the last of a stage in training is passed over while there is another.
    """
    share = frozen["test_share"]
    everyone = [one for one, _, _ in held] + fresh
    if share == 0 or len(everyone) < FEWEST_FOR_A_TEST:
        return set()
    quota = max(1, round(share * len(everyone)))
    in_test = [one for one, split, _ in held if split == TEST]
    size = Counter(stratum_of[one.patient_id] for one in everyone)
    have = Counter(stratum_of[one.patient_id] for one in in_test)
    stages = Counter(one.stage for one in everyone)
    stage_tested = Counter(one.stage for one in in_test)
    waiting: dict[tuple[str, str | None], list[_Patient]] = {}
    for one in fresh:
        waiting.setdefault((stratum_of[one.patient_id], one.stage), []).append(one)
    chosen: set[str] = set()
    while len(in_test) + len(chosen) < quota and waiting:
        ranked = []
        for (stratum, stage), queue in waiting.items():
            is_last = stages[stage] - stage_tested[stage] <= 1
            lacks = share * size[stratum] - have[stratum]
            stage_lacks = share * stages[stage] - stage_tested[stage]
            ranked.append((is_last, -lacks, -stage_lacks, queue[0].order, (stratum, stage)))
        *_, kind = min(ranked, key=lambda rank: rank[:4])
        one = waiting[kind].pop(0)
        if not waiting[kind]:
            del waiting[kind]
        chosen.add(one.patient_id)
        have[kind[0]] += 1
        stage_tested[one.stage] += 1
    return chosen

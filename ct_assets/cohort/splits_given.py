"""Folds that a person made: read from a CSV or from nnU-Net's `splits_final.json`, checked, put in a ledger.

Belongs here: the two formats and the checks that folds must pass, whoever made them. Does not: our own way of
making folds (`cohort.splits`).
"""

import json
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets.cohort.splits import TEST, TRAIN, Placed, append, frozen_settings, made_with
from ct_assets.errors import UsageError
from ct_assets.settings.folds import SplitSettings
from ct_assets.tables import frame, supplied
from ct_assets.tables.cohort import SplitLedger

Place = tuple[str, int | None]


def from_file(
    path: Path,
    patients: pl.DataFrame,
    settings: SplitSettings,
    recorded_at: datetime,
    ledger: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return a new ledger that holds the folds of `path`, or `ledger` extended by its new patients.

    `patients` has `case_id`, `patient_id` and, where known, `stage` and `site`, a row a case. A CSV has
    `patient_id` or `case_id`, and `fold`, and may have `split`; a JSON is nnU-Net's list of
    `{"train": [case…], "val": [case…]}`. Who is not validated anywhere (or has no fold) is the test set.
    Raises `UsageError` naming the first offenders where a patient stands in two parts, a validation case also
    trains in its fold, a name is unknown, or somebody would move from the place that `ledger` says.
    """
    patient_of = dict(zip(patients["case_id"], patients["patient_id"], strict=True))
    is_json = path.suffix.lower() == ".json"
    places, folds = (_nnunet if is_json else _csv)(path, patient_of)
    unplaced = sorted(set(patient_of.values()) - set(places))
    if unplaced and not is_json:
        raise UsageError(f"{path}: no row for {_some(unplaced)}; every patient needs a place")
    places |= dict.fromkeys(unplaced, (TEST, None))
    known = frame([], SplitLedger) if ledger is None else ledger
    held = {row["patient_id"]: (row["split"], row["fold"]) for row in known.iter_rows(named=True)}
    if moved := sorted(patient for patient, place in places.items() if held.get(patient, place) != place):
        raise UsageError(
            f"{path}: {_some(moved)} would move to another place than in splits.parquet; nobody ever moves. "
            "Move splits.parquet away to make a new ledger."
        )
    if known.height:
        frozen = made_with(known)
    else:
        frozen = frozen_settings(
            settings.model_copy(update={"folds": folds, "scheme": "stratified"}), patients
        )
    facts = [name for name in ("stage", "site") if name in patients.columns]
    rows = patients.group_by("patient_id").agg(
        pl.len().alias("scans"), *(pl.col(name).first() for name in facts)
    )
    placed = [
        Placed(
            row["patient_id"],
            *places[row["patient_id"]],
            "given by a person",
            "given",
            row.get("stage"),
            row.get("site"),
            row["scans"],
        )
        for row in rows.sort("patient_id").iter_rows(named=True)
        if row["patient_id"] not in held
    ]
    return append(known, placed, frozen, recorded_at)


def _csv(path: Path, patient_of: dict[str, str]) -> tuple[dict[str, Place], int]:
    table = supplied.read(path)
    places_of = table.places(("patient_id", "case_id", "fold", "split"))
    key = next((name for name in ("patient_id", "case_id") if name in places_of), None)
    if key is None or "fold" not in places_of:
        raise UsageError(
            f"{path}: columns patient_id (or case_id) and fold are needed, has {', '.join(table.header)}"
        )
    found: dict[str, set[Place]] = defaultdict(set)
    unknown = []
    known = set(patient_of.values()) if key == "patient_id" else set(patient_of)
    for supplied_row in table.rows:
        if supplied_row.is_blank:
            continue
        table.check_row(supplied_row)
        row = {name: supplied.cleaned(supplied_row.cells[place]) for name, place in places_of.items()}
        name = row[key]
        if name not in known:
            unknown.append(name)
            continue
        patient = name if key == "patient_id" else patient_of[name]
        found[patient].add(_place(path, row.get("split"), row["fold"], name))
    if unknown:
        raise UsageError(f"{path}: {key} {_some(sorted(unknown))}: not among the cases")
    twice = sorted(patient for patient, places in found.items() if len(places) > 1)
    if twice:
        raise UsageError(f"{path}: {_some(twice)}: a patient in two parts of the split would be a leak")
    places = {patient: next(iter(given)) for patient, given in found.items()}
    used = [fold for _, fold in places.values() if fold is not None]
    if not used or sorted(set(used)) != list(range(max(used) + 1)) or max(used) < 1:
        raise UsageError(
            f"{path}: folds must be numbered 0, 1, … with at least two, found {sorted(set(used))}"
        )
    return places, max(used) + 1


def _place(path: Path, split: str | None, fold: str | None, name: str) -> Place:
    said = (split or "").strip().lower()
    number = (fold or "").strip().removesuffix(".0")
    if said not in ("", TRAIN, TEST):
        raise UsageError(f"{path}: {name}: split is {said!r}, allowed are train, test or nothing")
    if said == TEST or (not said and not number):
        if number:
            raise UsageError(f"{path}: {name}: a test patient has no fold, found {number}")
        return TEST, None
    if not number.isdecimal():
        raise UsageError(f"{path}: {name}: fold is {number!r}, a number from 0 is expected")
    return TRAIN, int(number)


def _nnunet(path: Path, patient_of: dict[str, str]) -> tuple[dict[str, Place], int]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        folds = [(_names(one["train"]), _names(one["val"])) for one in content]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f'{path}: a list of {{"train": […], "val": […]}} is expected: {error}') from None
    if len(folds) < 2:
        raise UsageError(f"{path}: at least two folds are needed, found {len(folds)}")
    named = set().union(*(train | val for train, val in folds))
    if unknown := sorted(named - set(patient_of)):
        raise UsageError(f"{path}: case {_some(unknown)}: not among the cases")
    places: dict[str, Place] = {}
    for number, (train, val) in enumerate(folds):
        trained = {patient_of[case] for case in train}
        validated = {patient_of[case] for case in val}
        if both := sorted(trained & validated):
            raise UsageError(f"{path}: fold {number}: {_some(both)} train and are validated: a leak")
        for patient in validated:
            if patient in places:
                raise UsageError(f"{path}: {_some([patient])} is validated in two folds")
            places[patient] = (TRAIN, number)
    for number, (train, _) in enumerate(folds):
        never = sorted({patient_of[case] for case in train} - set(places))
        if never:
            raise UsageError(f"{path}: fold {number}: {_some(never)} train and are validated in no fold")
    return places, len(folds)


def _names(given: Any) -> set[str]:
    """Return case IDs, also where they are JSON numbers; anything else is no name."""
    if not isinstance(given, list) or not all(
        isinstance(one, str | int) and not isinstance(one, bool) for one in given
    ):
        raise TypeError("case IDs must be texts or whole numbers")
    return {supplied.cleaned(str(one)) for one in given}


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"

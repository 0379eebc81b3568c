"""Checks of the split ledger: leakage, rewriting, and what people should know of it.

Belongs here: what blocks (an identity in two parts of the split; a ledger that was rewritten) and what only
warns (too few patients, a class missing, a corrected label). Does not: making the ledger (`cohort.splits`).
"""

from dataclasses import dataclass

import polars as pl

from ct_assets.cohort.splits import FEWEST_FOR_A_TEST, TEST, TRAIN, active, chained, made_with
from ct_assets.tables import validate
from ct_assets.tables.cohort import SplitLedger
from ct_assets.tables.folds import LeakageFindings

IDENTITIES = (
    "study_instance_uid",
    "series_instance_uid",
    "sop_instance_uid",
    "frame_of_reference_uid",
    "pixel_digest",
)
"""What makes two patients' data the same data, or of the same person."""


@dataclass(frozen=True)
class Warned:
    """One thing that people should know: a code of `ct_assets.reasons`, what it is about, and a sentence."""

    code: str
    subject: str
    sentence: str


def leakage(ledger: pl.DataFrame, identities: pl.DataFrame) -> pl.DataFrame:
    """Return `LeakageFindings`: every identity that stands in the test set and in training, or in two folds.

    `identities` has `patient_id` and columns named in `IDENTITIES` (others are not looked at), as many rows a
    patient as there are images; nulls and empty texts are no identity. A patient with two rows of the ledger is
    found as well. Empty means: no leak.
    """
    parts = ledger.select(
        "patient_id",
        part=pl.when(pl.col("split") == TEST)
        .then(pl.lit("test"))
        .when(pl.col("fold").is_null())
        .then(pl.lit("training only"))
        .otherwise(pl.format("fold {}", "fold")),
    ).unique()
    found = [_in_two_parts(parts, "patient_id")]
    for kind in (name for name in IDENTITIES if name in identities.columns):
        value = pl.col(kind).cast(pl.String)
        known = identities.lazy().select("patient_id", value).filter(value != "").unique()
        found.append(_in_two_parts(known.collect().join(parts, on="patient_id"), kind))
    return validate("leakage", pl.concat(found), LeakageFindings).sort("kind", "value")


def _in_two_parts(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return the findings among rows of `patient_id`, `part` and the identity `kind`."""
    patients = pl.col("patient_id").unique().sort()
    return (
        rows.group_by(value=kind)
        .agg(patients.alias("patient_ids"), pl.col("part").unique().sort().alias("parts"))
        .filter(pl.col("parts").list.len() > 1)
        .with_columns(kind=pl.lit(kind))
    )


def rewriting(ledger: pl.DataFrame, previous: pl.DataFrame | None = None) -> list[Warned]:
    """Return what shows that the ledger was changed other than by adding rows; empty means: nothing.

    The chain of row digests shows edits by hand; `previous`, an older copy, shows any moved or missing patient.
    A row may have become a tombstone in between, in its place.
    """
    found = [
        Warned("ledger_chain_broken", f"row {number}", f"row {number} does not match its digest")
        for number in broken_rows(ledger)[:1]
    ]
    if previous is None:
        return found
    columns = [name for name in SplitLedger.column_names() if name != "row_digest"]
    now = ledger.select(columns).rows()
    for number, old in enumerate(previous.select(columns).rows(named=True)):
        new = dict(zip(columns, now[number], strict=True)) if number < len(now) else None
        if new == old:
            continue
        kept = ("row", "split", "fold", "added_at", "settings_digest")
        if new is not None and new["is_withdrawn"] and all(new[name] == old[name] for name in kept):
            continue
        what = "is gone" if new is None else "is not what it was"
        found.append(Warned("ledger_rewritten", f"row {number}", f"row {number} {what}"))
    return found


def broken_rows(ledger: pl.DataFrame) -> list[int]:
    """Return the rows of the ledger that do not match their digest, or stand out of order."""
    again = chained(ledger)["row_digest"]
    out_of_order = ledger["row"] != pl.Series(range(ledger.height), dtype=pl.Int64)
    return ((again != ledger["row_digest"]) | out_of_order).arg_true().to_list()


def warnings(ledger: pl.DataFrame, patients: pl.DataFrame | None = None) -> list[Warned]:
    """Return what people should know: folds that validate nobody, classes missing in training, corrected labels.

    `patients` holds the present labels (`patient_id`, `stage`), to be compared with those in the ledger.
    """
    if not ledger.height:
        return []
    first = made_with(ledger)
    here = active(ledger)
    training = here.filter(pl.col("split") == TRAIN)
    found = []
    folds, count = first["folds"], training.height
    if count < folds:
        validated = training["fold"].drop_nulls().n_unique()
        found.append(
            Warned(
                "few_patients_for_folds",
                f"{folds} folds",
                f"{count} training patients for {folds} folds: {validated} folds validate one patient each, the "
                f"others nobody until the cohort grows. {_possible(count)}",
            )
        )
    if not (here["split"] == TEST).any():
        wanted = first["test_share"] > 0
        why = f"fewer than {FEWEST_FOR_A_TEST} patients" if wanted else "test_share is 0"
        found.append(Warned("no_test_set", "test", f"there is no test set: {why}"))
    present = _stages(here, patients)
    classes = sorted({stage for stage in present.values() if stage})
    for fold in range(folds):
        trained = training.filter((pl.col("fold") != fold) | pl.col("fold").is_null())["patient_id"]
        missing = sorted(set(classes) - {present[patient] for patient in trained})
        if missing and training.height:
            found.append(
                Warned(
                    "class_missing_in_training",
                    f"fold {fold}",
                    f"the training part of fold {fold} has no patient of {', '.join(missing)}",
                )
            )
    for row in here.iter_rows(named=True):
        if present[row["patient_id"]] != row["stage"]:
            found.append(
                Warned(
                    "label_corrected",
                    row["patient_id"],
                    f"was placed as {row['stage'] or 'no stage'}, is now "
                    f"{present[row['patient_id']] or 'no stage'}; the place stays",
                )
            )
    new_sites = [row for row in training.iter_rows(named=True) if row["fold"] is None]
    if new_sites:
        sites = sorted({row["site"] or "unknown" for row in new_sites})
        found.append(
            Warned("site_outside_folds", ", ".join(sites), f"{len(new_sites)} patients validate in no fold")
        )
    return found


def _possible(count: int) -> str:
    if count < 2:
        return "At least 2 training patients are needed for any fold to train."
    return f"Possible now: folds: {count} (leave one out) or fewer, in a new ledger."


def _stages(here: pl.DataFrame, patients: pl.DataFrame | None) -> dict[str, str | None]:
    stages = dict(zip(here["patient_id"], here["stage"], strict=True))
    if patients is not None and "stage" in patients.columns:
        for patient, stage in zip(patients["patient_id"], patients["stage"], strict=True):
            if patient in stages:
                stages[patient] = stage
    return stages

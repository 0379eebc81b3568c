"""Case numbers: given once, for ever.

Belongs here: the append-only table of who has which number. A patient who leaves the cohort keeps the
number, and it is nobody else's; a withdrawn one leaves a tombstone in its place.
"""

from collections.abc import Callable, Iterable

import polars as pl

from ct_assets import tables
from ct_assets.errors import UsageError
from ct_assets.tables.cohort import CaseNumbers

DIGITS = 4


def case_id(number: int) -> str:
    """Return `case_0007` for 7; more digits only from 10,000 on."""
    return f"case_{number:0{DIGITS}d}"


def extend(
    numbers: pl.DataFrame | None, patients: Iterable[str], *, tombstone: Callable[[str], str] | None = None
) -> pl.DataFrame:
    """Return the table with the next numbers for the patients that have none, in the order of their pseudonyms.

    `tombstone` turns a patient into what a withdrawn one is remembered by; whoever is, gets no new number.
    """
    known = tables.frame([], CaseNumbers) if numbers is None else numbers
    held = set(known["patient_id"])
    new = sorted(set(patients) - held)
    if tombstone is not None:
        new = [patient for patient in new if tombstone(patient) not in held]
    rows = [
        {"number": number, "case_id": case_id(number), "patient_id": patient, "is_withdrawn": False}
        for number, patient in enumerate(new, start=known.height)
    ]
    return pl.concat([known, tables.frame(rows, CaseNumbers)])


def withdraw(numbers: pl.DataFrame, patient_id: str, tombstone: str) -> pl.DataFrame:
    """Return the table with a patient's pseudonym replaced by a tombstone; the number stays taken.

    Raises `UsageError` where the patient has no number.
    """
    this = pl.col("patient_id") == patient_id
    if numbers.filter(this).is_empty():
        raise UsageError("the patient has no case number")
    return numbers.with_columns(
        patient_id=pl.when(this).then(pl.lit(tombstone)).otherwise("patient_id"),
        is_withdrawn=pl.when(this).then(pl.lit(True)).otherwise("is_withdrawn"),
    )


def refuse_rewritten(old: pl.DataFrame, new: pl.DataFrame) -> None:
    """Raise `UsageError` unless `new` begins with the rows of `old`, withdrawals apart."""
    before, after = old.select("number", "case_id"), new.head(old.height).select("number", "case_id")
    same = old["patient_id"] == new.head(old.height)["patient_id"]
    withdrawn = new.head(old.height)["is_withdrawn"]
    if not before.equals(after) or not (same | withdrawn).all():
        raise UsageError("case numbers were changed; restore case_numbers.parquet from a backup")

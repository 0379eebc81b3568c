"""The clinic's labels, keyed by pseudonym: every row is used or reported, none is guessed.

Belongs here: what the cells of the clinic's table mean, by the rules that `labels:` declares; whom a row
speaks of; what rows of one patient say together. Does not: the CSV as a file (`cohort.clinic_table`).

A row finds its patient by the normalised patient ID among the patients of all batches; its pseudonym is
made by the same keyed function as the images'. The table has no issuer: an ID that two issuers share is
reported, and labels nobody. Rows of one patient are put together value by value: equal and missing ones
agree, two different ones contradict, and then none is kept.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dataframely as dy
import polars as pl

from ct_assets import progress, tables
from ct_assets.cohort import clinic_table
from ct_assets.cohort.clinic_table import Record, normalised
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.identity.pseudonyms import normalise_patient_id, pseudonym
from ct_assets.layout import Layout
from ct_assets.settings.cohort import KeptColumn, LabelSettings
from ct_assets.tables.cohort import LabelReport, Labels
from ct_assets.tables.supplied import cleaned

SITE_HEX_DIGITS = 6
REPORT_MODE = 0o600

_AGE = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*(?:y|years?)?")
_STAGE_WORD = re.compile(r"^stage\s+")


@dataclass(frozen=True)
class _Row:
    """One readable row: whom it speaks of, its values by column, and codes of single values."""

    record: Record
    identity: str
    """The normalised patient ID."""
    values: dict[str, Any]
    codes: list[str]


def build(
    settings: LabelSettings, key: SecretKey, patient_maps: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return labels (`tables.cohort.Labels` with the kept columns) and the report (`LabelReport`).

    `patient_maps` are the crosswalks of all batches (`tables.deid.PatientMap`). Without a table
    (`labels.csv` unset) nobody is labelled. Raises `UsageError` for a file that is no such table, and where the
    patient maps were made with another key.
    """
    if settings.csv is None:
        progress.say("labels.csv is not set: nobody is labelled")
        records = []
    else:
        records = clinic_table.read(settings.csv, settings)
        _tell_absent_columns(records, settings)
    people = _people(patient_maps, key)
    outcome: dict[int, tuple[str, list[str]]] = {}
    of_person: dict[str, list[_Row]] = defaultdict(list)
    for record in records:
        if record.fault is not None:
            outcome[record.row] = ("unused", [record.fault])
            continue
        row = _read_row(record, settings, key)
        if not row.identity:
            outcome[record.row] = ("unused", ["label_without_patient_id"])
        elif row.identity not in people:
            outcome[record.row] = ("unused", ["label_without_images"])
        else:
            of_person[row.identity].append(row)
    labelled = []
    for identity, pseudonyms in people.items():
        rows = of_person.get(identity, [])
        if not rows:
            labelled += [{"patient_id": one, **_record_of(["no_label"], 0, settings)} for one in pseudonyms]
        elif len(pseudonyms) > 1:
            outcome |= {row.record.row: ("unused", ["label_id_shared"]) for row in rows}
            told = _record_of(["label_id_shared"], len(rows), settings)
            labelled += [{"patient_id": one, **told} for one in pseudonyms]
        else:
            label, outcomes = _put_together(rows, settings)
            outcome |= outcomes
            labelled.append({"patient_id": pseudonyms[0], **label})
    lines = {record.row: record.line for record in records}
    report = [
        {"row": row, "line": lines[row], "disposition": disposition, "reasons": codes}
        for row, (disposition, codes) in sorted(outcome.items())
    ]
    labels = tables.frame(labelled, labels_schema(settings)).sort("patient_id")
    return labels, tables.frame(report, LabelReport)


def labels_schema(settings: LabelSettings) -> type[dy.Schema]:
    """Return `tables.cohort.Labels` with the columns that `labels.keep` declares."""
    types = {"category": dy.String, "whole_number": dy.Int64, "number": dy.Float64}
    kept = {name: types[column.kind](nullable=True) for name, column in settings.keep.items()}
    return type("Labels", (Labels,), kept) if kept else Labels


def write(labels: pl.DataFrame, report: pl.DataFrame, layout: Layout, settings: LabelSettings) -> None:
    """Write both tables; the report only for its owner, since it counts the rows of the clinic's table."""
    tables.write_table(layout.labels, labels, labels_schema(settings))
    tables.write_table(layout.label_report, report, LabelReport, mode=REPORT_MODE)


def _people(patient_maps: pl.DataFrame, key: SecretKey) -> dict[str, list[str]]:
    """Return each normalised raw ID with the pseudonyms that stand for it, one an issuer."""
    people: dict[str, set[str]] = defaultdict(set)
    for row in patient_maps.iter_rows(named=True):
        identity = normalise_patient_id(cleaned(row["old_patient_id"]))
        if not identity:
            continue
        made = pseudonym(key, row["old_patient_id"], row["issuer"])
        if made != row["new_patient_id"]:
            raise UsageError(
                "the key in force is not the one that the patient maps were made with: labels and images "
                "would not meet; set the old key again"
            )
        people[identity].add(made)
    return {identity: sorted(pseudonyms) for identity, pseudonyms in people.items()}


def _read_row(record: Record, settings: LabelSettings, key: SecretKey) -> _Row:
    cells = record.cells
    codes: list[str] = []
    values: dict[str, Any] = {}

    def cell(column: str | None) -> str:
        text = cells.get(normalised(column), "") if column else ""
        return "" if normalised(text) in {normalised(one) for one in settings.missing} else text

    values["stage"], fault = _stage(cell(settings.stage_column), settings)
    codes += [fault] if fault else []
    values["age_years"], fault = _age(cell(settings.age_column), settings.max_age_years)
    codes += [fault] if fault else []
    sex = cell(settings.sex_column)
    values["sex"] = _spelled(sex, settings.sexes)
    codes += ["sex_unknown"] if sex and values["sex"] is None else []
    values["site"] = _site(cell(settings.site_column), settings, key)
    for name, column in settings.keep.items():
        text = cell(column.column)
        values[name] = _kept(text, column)
        codes += ["value_undeclared"] if text and values[name] is None else []
    identity = normalise_patient_id(cleaned(cells[normalised(settings.patient_id_column)]))
    return _Row(record, identity, values, list(dict.fromkeys(codes)))


def _put_together(
    rows: list[_Row], settings: LabelSettings
) -> tuple[dict[str, Any], dict[int, tuple[str, list[str]]]]:
    """Return what the rows of one patient say together, and what became of each row."""
    label: dict[str, Any] = {}
    shared: list[str] = []
    for name in rows[0].values:
        told = {row.values[name] for row in rows if row.values[name] is not None}
        label[name] = told.pop() if len(told) == 1 else None
        if len(told) > 1:
            shared.append("stage_contradictory" if name == "stage" else "value_contradictory")
    unknown = [row for row in rows if "stage_unknown" in row.codes]
    if unknown and label["stage"] is not None:
        # A stage that nobody can read may well be another one.
        label["stage"] = None
        shared.append("stage_contradictory")
    shared = list(dict.fromkeys(shared))
    outcome: dict[int, tuple[str, list[str]]] = {}
    seen: list[tuple[dict[str, Any], list[str]]] = []
    for row in rows:
        if (row.values, row.codes) in seen:
            outcome[row.record.row] = ("repeated", ["repeated_row"])
            continue
        seen.append((row.values, row.codes))
        codes = list(dict.fromkeys([*row.codes, *shared]))
        outcome[row.record.row] = ("unused" if label["stage"] is None else "used", codes)
    codes = [*(code for row in rows for code in row.codes), *shared]
    if label["stage"] is not None:
        codes = [code for code in codes if code != "stage_missing"]
    label |= _record_of(list(dict.fromkeys(codes)), len(rows), settings)
    return label, outcome


def _record_of(codes: list[str], rows: int, settings: LabelSettings) -> dict[str, Any]:
    return {
        "reasons": codes,
        "rows": rows,
        "tnm_edition": settings.tnm_edition,
        "label_version": settings.version,
    }


def _stage(text: str, settings: LabelSettings) -> tuple[str | None, str | None]:
    if not text:
        return None, "stage_missing"
    plain = _STAGE_WORD.sub("", normalised(text))
    spellings = {stage: (stage, *settings.spellings.get(stage, ())) for stage in settings.stages}
    stage = _spelled(plain, spellings)
    return stage, None if stage else "stage_unknown"


def _age(text: str, highest: int) -> tuple[int | None, str | None]:
    """Read whole or decimal years, `68`, `68.4`, `068Y`, `68 years`; completed years count."""
    if not text:
        return None, None
    match = _AGE.fullmatch(normalised(text))
    if match is None or float(match[1]) > 120:
        return None, "age_unreadable"
    return min(math.floor(float(match[1])), highest), None


def _site(text: str, settings: LabelSettings, key: SecretKey) -> str | None:
    if not text:
        return None
    if settings.site_names == "as_is":
        return " ".join(text.split())
    return f"site_{key.digest('site', normalised(text)).hex()[:SITE_HEX_DIGITS]}"


def _kept(text: str, column: KeptColumn) -> str | float | int | None:
    if not text:
        return None
    if column.kind == "category":
        return _spelled(text, column.values)
    try:
        number = float(text)
    except ValueError:
        return None
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum
    if not (math.isfinite(number) and low <= number <= high):
        return None
    if column.kind == "whole_number":
        return int(number) if number.is_integer() else None
    return number


def _spelled(text: str, spellings: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return the declared value that `text` spells, or None."""
    wanted = normalised(text)
    for value, others in spellings.items():
        if wanted in {normalised(one) for one in (value, *others)}:
            return value
    return None


def _tell_absent_columns(records: list[Record], settings: LabelSettings) -> None:
    wanted = [settings.age_column, settings.sex_column, settings.site_column]
    wanted += [column.column for column in settings.keep.values()]
    absent = [name for name in wanted if name and not clinic_table.has_column(records, name)]
    if absent and records:
        progress.say(f"the clinic's table has no column {', '.join(absent)}: null for everybody")

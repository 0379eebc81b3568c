"""Who may enter the cohort: the data engineer's SQL, run over the audits' tables and held to its contract.

Belongs here: running `eligibility.sql`, and what its answer must look like. The conditions themselves
stand in the SQL file, the facts they judge in `cohort.ct_prepro_audit` and `cohort.labels`.
"""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dataframely as dy
import duckdb
import polars as pl

from ct_assets import files, tables
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.settings.cohort import EligibilitySettings
from ct_assets.tables.cohort import Eligibility

PATIENT = "patient_id"
REASON_SUFFIX = "__reason"
CODE = re.compile(r"[a-z][a-z0-9_]*")
BETWEEN_REASONS = ";"

Row = dict[str, Any]

_FACTS: dict[str, tuple[pl.DataType, type[dy.Column]]] = {
    "VARCHAR": (pl.String(), dy.String),
    "DATE": (pl.Date(), dy.Date),
    **dict.fromkeys(("FLOAT", "DOUBLE"), (pl.Float64(), dy.Float64)),
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT"), (pl.Int64(), dy.Int64)),
}
"""Types that a fact may have in the query, and as which it is kept."""
_LINE = re.compile(r"LINE (\d+):")


def judge(inputs: Mapping[str, pl.DataFrame], settings: EligibilitySettings) -> pl.DataFrame:
    """Return a row a patient: `patient_id`, `is_eligible`, `reasons`, the conditions, the query's facts.

    `inputs` are the tables that the query may name: `patients`, `series`, `masks`, `labels`, `label_report`.
    Every patient of `patients` and `labels` has a row, in the order of `patient_id`. A condition that is
    NULL is not met. Raises `UsageError` naming file, line and reason for a query that cannot run or whose
    answer breaks the contract in its own head comment.
    """
    text = _read(settings.query)
    answer, types = _run(settings.query, text, inputs)
    conditions = _conditions(settings.query, types)
    facts = {
        name: _FACTS[dtype][0]
        for name, dtype in types.items()
        if dtype in _FACTS and name != PATIENT and not _is_reason(name)
    }
    _hold_to_patients(settings.query, answer, inputs)
    rows = []
    for row in sorted(answer, key=lambda one: str(one[PATIENT])):
        met = {name: row[name] is True for name in conditions}
        reasons = _reasons(settings.query, row, met)
        rows.append(
            {
                PATIENT: row[PATIENT],
                "is_eligible": all(met.values()),
                "reasons": reasons,
                **met,
                **{name: row[name] for name in facts},
            }
        )
    dtypes = {**tables.dtypes(Eligibility), **dict.fromkeys(conditions, pl.Boolean())}
    return pl.DataFrame(rows, schema={**dtypes, **facts}, orient="row")


def conditions_of(judged: pl.DataFrame) -> list[str]:
    """Return the names of the conditions of a judged table, in the order of the query."""
    core = tables.dtypes(Eligibility)
    return [name for name, dtype in judged.schema.items() if dtype == pl.Boolean and name not in core]


def write(judged: pl.DataFrame, layout: Layout) -> None:
    """Write `eligibility.parquet`, `cohort_list.csv` (who is eligible, with facts) and `excluded.csv`."""
    conditions = conditions_of(judged)
    facts = [
        name for name in judged.columns if name not in tables.dtypes(Eligibility) and name not in conditions
    ]
    schema_of = dict(_FACTS.values())
    columns: dict[str, dy.Column] = {name: dy.Bool() for name in conditions}
    columns |= {name: schema_of[judged.schema[name]](nullable=True) for name in facts}
    tables.write_table(layout.eligibility, judged, type("Eligibility", (Eligibility,), columns))
    eligible = judged.filter("is_eligible")
    _write_csv(layout.cohort_list, [PATIENT, *facts], eligible.select(PATIENT, *facts).rows())
    excluded = judged.filter(~pl.col("is_eligible"))
    rows = [(row[PATIENT], BETWEEN_REASONS.join(row["reasons"])) for row in excluded.iter_rows(named=True)]
    _write_csv(layout.excluded, [PATIENT, "reasons"], rows)


def _read(query: Path) -> str:
    try:
        return query.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{query}: the eligibility query cannot be read: {error}") from None


def _run(query: Path, text: str, inputs: Mapping[str, pl.DataFrame]) -> tuple[list[Row], dict[str, str]]:
    # The query sees the tables and nothing else: no files, no network, no extensions.
    locked: dict[str, str | bool | int | float | list[str]] = {
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "threads": "1",
    }
    lines_before = 0
    with duckdb.connect(":memory:", config=locked) as connection:
        for name, table in inputs.items():
            connection.register(name, _plain(table).to_arrow())
        try:
            statements = connection.extract_statements(text)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UsageError(
                    f"{query}: one SELECT is expected, found none, several, or another statement"
                )
            # Comments before the statement do not count in the lines that the database tells.
            statement = statements[0].query.strip()
            lines_before = text[: text.index(statement)].count("\n")
            answer = connection.execute(statement)
            described = [(name, str(dtype)) for name, dtype, *_ in answer.description or []]
            types = dict(described)
            if len(types) < len(described):
                raise UsageError(f"{query}: two columns have one name; give each its own with AS")
            return [dict(zip(types, row, strict=True)) for row in answer.fetchall()], types
        except duckdb.Error as error:
            raise UsageError(_explain(query, text, str(error), lines_before, inputs)) from None


def _plain(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table with enumerations as text, which is what queries compare with."""
    return table.with_columns(pl.col(pl.Enum, pl.Categorical).cast(pl.String))


def _explain(
    query: Path, text: str, message: str, lines_before: int, inputs: Mapping[str, pl.DataFrame]
) -> str:
    found = _LINE.search(message)
    reason = " ".join(message[: found.start()].split() if found else message.split())
    where = ""
    if found:
        line = int(found[1]) + lines_before
        where = f" line {line} ({text.splitlines()[line - 1].strip()}):"
    return f"{query}:{where} {reason.rstrip('.')}. The tables are {', '.join(sorted(inputs))}"


def _conditions(query: Path, types: dict[str, str]) -> list[str]:
    names = list(types)
    if not names or names[0] != PATIENT or types[PATIENT] != "VARCHAR":
        raise UsageError(f"{query}: the first column must be {PATIENT} (VARCHAR)")
    conditions = [name for name in names if types[name] == "BOOLEAN"]
    if not conditions:
        raise UsageError(f"{query}: no BOOLEAN column, so there is no condition")
    if taken := sorted({"is_eligible", "reasons"} & set(names)):
        raise UsageError(f"{query}: {', '.join(taken)} is made from the conditions; choose another name")
    for name in names:
        if _is_reason(name):
            if name.removesuffix(REASON_SUFFIX) not in conditions:
                raise UsageError(f"{query}: {name} belongs to no BOOLEAN column of the name before it")
            if types[name] not in ("VARCHAR", "VARCHAR[]", '"NULL"'):
                raise UsageError(f"{query}: {name} must be VARCHAR or VARCHAR[], is {types[name]}")
        elif name not in conditions and types[name] not in _FACTS:
            raise UsageError(f"{query}: {name} is {types[name]}; a fact is text, a number or a date")
    if missing := [name for name in conditions if name + REASON_SUFFIX not in types]:
        raise UsageError(f"{query}: {missing[0]} has no column {missing[0]}{REASON_SUFFIX} beside it")
    return conditions


def _hold_to_patients(query: Path, answer: list[Row], inputs: Mapping[str, pl.DataFrame]) -> None:
    """Refuse an answer that loses patients, tells one twice, or knows one that nobody else does."""
    known = {patient for name in ("patients", "labels") for patient in inputs[name][PATIENT]}
    told = [row[PATIENT] for row in answer]
    if lost := known - set(told):
        raise UsageError(
            f"{query}: {len(lost)} of {len(known)} patients have no row; LEFT JOIN from all patients"
        )
    if len(set(told)) < len(told):
        raise UsageError(
            f"{query}: {len(told) - len(set(told))} rows tell a patient again; one row a patient"
        )
    if set(told) - known:
        raise UsageError(f"{query}: a row has no patient, or one that is in no table")


def _reasons(query: Path, row: Row, met: dict[str, bool]) -> list[str]:
    reasons: list[str] = []
    for name, is_met in met.items():
        if is_met:
            continue
        told = row[name + REASON_SUFFIX]
        for code in [told] if isinstance(told, str) else told or []:
            if code is None or not CODE.fullmatch(code):
                raise UsageError(f"{query}: {name}{REASON_SUFFIX} says {code!r}; a code is lower_snake_case")
            reasons.append(code)
    unmet = [name for name, is_met in met.items() if not is_met]
    if unmet and not reasons:
        raise UsageError(
            f"{query}: a patient is excluded by {', '.join(unmet)} without a reason: "
            f"{unmet[0]}{REASON_SUFFIX} must tell one there"
        )
    return list(dict.fromkeys(reasons))


def _is_reason(name: str) -> bool:
    return name.endswith(REASON_SUFFIX)


def _write_csv(path: Path, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    files.write_text(path, text.getvalue())

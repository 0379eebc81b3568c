"""The number of a data root's form, and what happens to one that an earlier or later version wrote.

Belongs here: the record, the steps from one form to the next, and refusing by name. Each step may be done
again: the number is written last, and until it is there nothing else runs.

Form 1 is the first that has a number. What was written before has none: it is taken over as it is where its
ledgers have today's columns; ledgers from before withdrawals existed are brought up to date by
`ct-assets upgrade`; anything else is refused by name. In form 2 the readings of every system's test set are in one
ledger; one of form 1 whose systems kept none of their own is taken over as it is.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import dataframely as dy
import polars as pl

from ct_assets import files, registry, tables
from ct_assets.cohort import splits
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.learning.evaluation.test_access_log import LEDGER_DIR, LEDGER_NAME, RECORD_NAME, Readings
from ct_assets.tables.cohort import CaseNumbers, SplitLedger

SCHEMA = 2
"""Raised, with a step in `STEPS`, whenever what lies under a data root changes its form."""
WITHOUT_A_NUMBER = 0


def hold(layout: Layout) -> None:
    """Let work go on over a data root of today's form; write the number into a new one.

    Raises `UsageError` naming the form and the mend for one of a newer or older form.
    """
    refuse_other(layout)
    if number_of(layout) != SCHEMA:
        _write(layout)


def refuse_other(layout: Layout) -> None:
    """Do what `hold` does for who only reads: nothing is written."""
    found = refuse_newer(layout)
    if found == SCHEMA or not outdated(layout):
        return
    raise UsageError(
        f"{layout.root}: the platform has the form of an earlier version ({', '.join(outdated(layout))}). Make a "
        "backup (`ct-assets backup`), then run `ct-assets upgrade`; nothing was touched."
    )


def refuse_newer(layout: Layout) -> int:
    """Return the number of a data root's form. Raises `UsageError` for a newer one."""
    found = number_of(layout)
    if found > SCHEMA:
        raise UsageError(
            f"{layout.platform_record}: the platform has form {found}, written by a newer version of ct-assets; this "
            f"version knows forms up to {SCHEMA}. Install that version or a newer one; nothing was touched."
        )
    return found


def upgrade(layout: Layout) -> list[str]:
    """Bring a data root to today's form, step by step; return what was done, in words.

    Raises `UsageError` for a newer form, and for ledgers that no step knows.
    """
    found = refuse_newer(layout)
    done = []
    for number in range(found, SCHEMA):
        done += STEPS[number](layout)
    if found != SCHEMA:
        _write(layout)
        done.append(f"form {found} to {SCHEMA}")
    return done


def number_of(layout: Layout) -> int:
    """Return the number of a data root's form; 0 where there is none. Raises `UsageError` for no number."""
    if not layout.platform_record.exists():
        return WITHOUT_A_NUMBER
    try:
        return int(files.read_json(layout.platform_record)["schema"])
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{layout.platform_record}: holds no schema number; restore it from a backup"
        ) from None


def outdated(layout: Layout) -> list[str]:
    """Return what has the form of an earlier version: ledgers by name, with what is missing or unknown."""
    told = [
        f"{ledger.relative_to(layout.root)} is a ledger of its own" for _, ledger in _own_readings(layout)
    ]
    for path, schema in _ledgers(layout):
        there, wanted = set(pl.scan_parquet(path).collect_schema().names()), set(schema.column_names())
        if there != wanted:
            parts = [f"lacks {', '.join(sorted(wanted - there))}"] if wanted - there else []
            parts += [f"has unknown {', '.join(sorted(there - wanted))}"] if there - wanted else []
            told.append(f"{path.name} {' and '.join(parts)}")
    return told


def _ledgers(layout: Layout) -> Iterator[tuple[Path, type[dy.Schema]]]:
    """Yield what cannot be made anew: every other table is made again where its form differs."""
    ledgers = (
        (layout.splits, SplitLedger),
        (layout.case_numbers, CaseNumbers),
        *((layout.root / system.ledger, SplitLedger) for system in registry.systems() if system.ledger),
    )
    for path, schema in ledgers:
        if path.exists():
            yield path, schema


def _from_before_withdrawals(layout: Layout) -> list[str]:
    """Give ledgers the column that tells tombstones from patients."""
    done = []
    for path, schema in _ledgers(layout):
        table = pl.read_parquet(path)
        is_old = "is_withdrawn" not in table.columns
        if is_old:
            table = table.with_columns(is_withdrawn=pl.lit(False))
            done.append(f"{path.name}: column is_withdrawn")
        if set(table.columns) != set(schema.column_names()):
            raise UsageError(
                f"{path}: {'; '.join(outdated(layout))}. No version of ct-assets that can be upgraded wrote it; "
                "restore it from a backup. Nothing was touched."
            )
        kept = table.select(schema.column_names())
        if schema is SplitLedger and is_old:
            kept = splits.chained(kept)
        if not kept.equals(pl.read_parquet(path)):
            tables.write_table(path, kept, schema)
    return done


def _own_readings(layout: Layout) -> Iterator[tuple[str, Path]]:
    """Yield the ledgers of test readings that systems kept for themselves, by system."""
    for system in registry.systems():
        path = layout.root / system.home / LEDGER_NAME
        if system.home != LEDGER_DIR and path.exists():
            yield system.name, path


def _into_one_ledger_of_readings(layout: Layout) -> list[str]:
    """Move each system's own ledger of test readings into the platform's."""
    done = []
    for system, path in _own_readings(layout):
        count = Readings.of(layout).take_over(Readings(path.parent), system)
        path.unlink()
        (path.parent / RECORD_NAME).unlink(missing_ok=True)
        done.append(f"{path.relative_to(layout.root)}: {count} readings into the platform's ledger")
    return done


STEPS: dict[int, Callable[[Layout], list[str]]] = {
    WITHOUT_A_NUMBER: _from_before_withdrawals,
    1: _into_one_ledger_of_readings,
}
"""From each form to the next."""


def _write(layout: Layout) -> None:
    layout.root.mkdir(parents=True, exist_ok=True)
    files.write_json(layout.platform_record, {"schema": SCHEMA})

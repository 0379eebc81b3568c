"""What is remembered of the split ledger outside of it: so that rewriting it is noticed, chain mended or not.

Belongs here: the record, a digest or two a row, and holding a ledger against it. Does not: the chain inside the
ledger (`cohort.splits_checks`). The record holds no pseudonym and no label, and is written whole after each sound
extension; a row that became a tombstone in its place is no rewriting, and its new digest replaces the old one.
"""

from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files
from ct_assets.cohort.splits_checks import Warned, broken_rows

PLACE = ("row", "split", "fold", "settings_digest")
"""What a tombstone keeps."""
PLACE_DIGEST, ROW_DIGEST = "place", "content"


def write(path: Path, ledger: pl.DataFrame) -> None:
    """Remember a sound ledger."""
    files.write_json(path, {"rows": _remembered(ledger)})


def faults(path: Path, ledger: pl.DataFrame | None) -> list[Warned]:
    """Return what shows that a ledger is not the remembered one with rows added; empty means: it is sound.

    `ledger` is None where there is none. Without a record, the chain inside the ledger is all there is to hold.
    """
    remembered = files.read_json(path)["rows"] if path.exists() else []
    if ledger is None:
        if not remembered:
            return []
        gone = (
            f"the ledger is gone, {len(remembered)} patients were placed in it; restore it from a backup, or, to begin "
            f"a new one (all folds, models and reports are then made anew), move {path.name} away too"
        )
        return [Warned("ledger_rewritten", "ledger", gone)]
    found = [
        Warned("ledger_chain_broken", f"row {number}", f"row {number} does not match its digest")
        for number in broken_rows(ledger)[:1]
    ]
    now = _remembered(ledger)
    withdrawn = ledger["is_withdrawn"].to_list()
    for number, old in enumerate(remembered):
        if number >= len(now):
            found.append(Warned("ledger_rewritten", f"row {number}", f"row {number} is gone"))
        elif now[number][PLACE_DIGEST] != old[PLACE_DIGEST] or (
            now[number][ROW_DIGEST] != old[ROW_DIGEST] and not withdrawn[number]
        ):
            found.append(Warned("ledger_rewritten", f"row {number}", f"row {number} is not what it was"))
    return found


def _remembered(ledger: pl.DataFrame) -> list[dict[str, str]]:
    # Clock times and the chain's own digests stay out: the same ledger made again is remembered alike.
    kept = [name for name in ledger.columns if name != "row_digest" and not name.endswith("_at")]
    rows: list[dict[str, Any]] = ledger.select(kept).to_dicts()
    return [
        {
            PLACE_DIGEST: files.digest_of([row[name] for name in PLACE]),
            ROW_DIGEST: files.digest_of(row),
        }
        for row in rows
    ]

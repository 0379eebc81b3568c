"""One person out of everything that the platform made: ledgers, tables, volumes, pages, records.

Belongs here: which file is treated how. Does not: originals (`lifecycle.deliveries`), how a row is found in a
format (`lifecycle.formats`), Dagster's storage, which only its own layer touches.

The walk knows formats, not assets, so that a table added tomorrow is gone through as well. What an asset makes
anew from what is left (pages, lists) is only removed here.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import polars as pl

from ct_assets import files, tables
from ct_assets.cohort import case_numbers, splits
from ct_assets.identity.key import SecretKey
from ct_assets.identity.withdrawn import tombstone
from ct_assets.imaging.store import Store
from ct_assets.layout import MARKER_NAME, Layout
from ct_assets.lifecycle import databases, ephemeral, formats, pages
from ct_assets.lifecycle.affected_models import ledgers
from ct_assets.lifecycle.deliveries import delivery_of
from ct_assets.lifecycle.finder import Finder
from ct_assets.lifecycle.person import Subject, spellings_of_numbers
from ct_assets.tables.cohort import CaseNumbers, SplitLedger

LINES = (".csv", ".txt", ".md", ".log", ".out", ".err", ".yaml")


@dataclass
class Swept:
    """What was taken out."""

    folders: int = 0
    files: int = 0
    rows: int = 0
    pages: int = 0
    database_cells: int = 0
    store_entries: int = 0
    left: list[str] = field(default_factory=list)
    """Files of a format that nothing here can part from the person, relative to the data root."""


def entomb(subject: Subject, layout: Layout, key: SecretKey) -> None:
    """Turn the person's rows of the ledgers into tombstones, so that nobody else moves or is renumbered."""
    for patient in sorted(subject.pseudonyms):
        stone = tombstone(key, patient)
        for path in ledgers(layout):
            if path.exists():
                ledger = tables.read_table(path, SplitLedger)
                if patient in set(ledger["patient_id"]):
                    tables.write_table(path, splits.withdraw(ledger, patient, stone), SplitLedger)
        if layout.case_numbers.exists():
            numbers = tables.read_table(layout.case_numbers, CaseNumbers)
            if patient in set(numbers["patient_id"]):
                entombed = case_numbers.withdraw(numbers, patient, stone)
                tables.write_table(layout.case_numbers, entombed, CaseNumbers)


def sweep(subject: Subject, layout: Layout) -> Swept:
    """Take the person out of everything under the data root but originals and Dagster's storage."""
    swept = Swept()
    finder = subject.finder
    for folder in sorted(layout.released.glob("*/*")):
        if folder.name in subject.pseudonyms:
            shutil.rmtree(folder)
            swept.folders += 1
    tombs = {*ledgers(layout), layout.case_numbers}
    if _is_in_table(layout.brain / "features.parquet", finder):
        files.remove_tree(layout.brain / "prepared")  # ephemeral, and named by content alone
    for path in sorted(_products(layout)):
        if not path.exists():
            continue  # went with its folder
        if path not in tombs:
            _treat(path, layout, finder, subject, swept)
    for kind, experiment in sorted(subject.pages):
        swept.pages += pages.draw_again(layout, kind, experiment)
    _free_store(subject, layout, swept)
    for batch in sorted(subject.batches):
        _recount(layout, batch)
    return swept


def _is_in_table(path: Path, finder: Finder) -> bool:
    return path.exists() and finder.has_key(pl.read_parquet(path).write_ndjson().encode())


def _products(layout: Layout) -> Iterator[Path]:
    """Yield every file that is gone through by its format; a folder named by a key comes before its files."""
    skipped = {layout.dagster_home, layout.store / "volumes", layout.released, layout.storage_state}
    folders = [layout.root]
    while folders:
        current = folders.pop()
        with os.scandir(current) as entries:
            for entry in entries:
                path = Path(entry.path)
                if path in skipped or entry.is_symlink():
                    continue
                relative = layout.relative(path)
                if entry.is_dir():
                    folders.append(path)
                    yield path
                elif delivery_of(relative) is None and path.name != MARKER_NAME:
                    yield path


def _treat(path: Path, layout: Layout, finder: Finder, subject: Subject, swept: Swept) -> None:
    if _is_named(path, layout, finder):
        if path.is_dir():
            shutil.rmtree(path)
            swept.folders += 1
        else:
            path.unlink()
            swept.files += 1
        return
    if path.is_dir() or path == layout.withdrawal_under_way or path == layout.tombstones:
        return
    if path.suffix == ".parquet":
        swept.rows += formats.parquet(path, finder, subject.replaced)
    elif path.suffix == ".jsonl":
        swept.rows += formats.jsonl(path, finder, subject.replaced)
    elif path.suffix == ".json":
        swept.rows += formats.json(path, finder)
    elif path.suffix in LINES:
        swept.rows += formats.text(path, finder, spellings_of_numbers(subject))
    elif path.suffix == ".html" and finder.has(path.read_bytes()):
        path.unlink()
        swept.pages += 1
    elif databases.is_sqlite(path):
        swept.database_cells += databases.scrub_sqlite(path, finder)


def _is_named(path: Path, layout: Layout, finder: Finder) -> bool:
    """Tell whether a file or folder below a room of the platform bears one of the person's keys as its name."""
    return path.parent != layout.root and finder.has_key(path.name.encode("utf-8", "surrogateescape"))


def _free_store(subject: Subject, layout: Layout, swept: Swept) -> None:
    for store in (layout.store, *sorted((layout.root / "derived").glob("*/store"))):
        if store.is_dir():
            named = fold_keys(layout)
            held = set(Store(store).all_keys()) & subject.store_keys
            swept.store_entries += len(held - named)
            Store(store).remove(sorted(held - named))
    swept.store_entries += ephemeral.free(layout, remove=True).files


def fold_keys(layout: Layout) -> set[str]:
    """Return the store keys that any table still names."""
    from ct_assets.learning.volumes import fold_volumes

    root = layout.root
    folders = [*layout.folds.glob("*"), *(root / "derived").glob("*/folds/*"), *(root / "final").glob("*")]
    return fold_volumes.named_keys(folders)


def _recount(layout: Layout, batch: str) -> None:
    """Bring a batch's summary in line with its audit, and put a plain page in the place of its page.

    The page lists patients' cells and free text that was kept; making it anew needs the originals.
    """
    paths = layout.deid_paths(batch)
    if not paths.audit.exists():
        return
    by: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    patients = set()
    with paths.audit.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            by[row["disposition"]] += 1
            reasons.update(row["reasons"])
            if row["disposition"] == "released":
                patients.add(row["new_patient_id"])
    counted = {kind: by[kind] for kind in ("released", "quarantined", "rejected")}
    summary = paths.audit.with_name("summary.json")
    files.write_json(
        summary, {**counted, "patients": len(patients), "reasons": dict(sorted(reasons.items()))}
    )
    if paths.report.exists():
        files.write_text(paths.report, pages.plain_page(batch, counted, len(patients)))


def remove_batch(layout: Layout, batch: str) -> None:
    """Remove everything of a batch of which no original is left."""
    paths = layout.deid_paths(batch)
    folders = (
        paths.dicom,
        paths.audit.parent,
        paths.uid_dir,
        paths.quarantine,
        layout.metadata_audit(batch).parent,
    )
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    paths.report.unlink(missing_ok=True)

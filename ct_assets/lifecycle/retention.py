"""Originals and quarantine whose time is over.

Belongs here: which batches are due, the check before anything goes, and the record of what went. A batch counts
from its registration. Originals go only where every released object is as the audit says and every file of
the delivery has its disposition: afterwards nothing can be made from them again.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files
from ct_assets.deid.batch.review import LOOKED_AT, QUARANTINE_LIST
from ct_assets.deid.proof.verify import verify_store
from ct_assets.intake import deliveries, markers, retired
from ct_assets.intake.retired import Retired
from ct_assets.layout import Layout
from ct_assets.settings.keeping import KeepingSettings

RAW, SUPERSEDED, QUARANTINE = "originals", "replaced originals", "quarantine"


@dataclass(frozen=True)
class Due:
    """One batch's restricted data whose time is over."""

    what: str
    batch: str
    folder: Path
    files: int
    bytes: int
    refusal: str = ""
    """Why it stays all the same."""


def due(layout: Layout, settings: KeepingSettings, now: datetime, workers: int = 1) -> list[Due]:
    """Return what is due, with the reason where it may not go yet."""
    found: list[Due] = []
    retired.finish(layout.raw)
    registered, superseded = _times(layout)
    if settings.raw_days is not None:
        limit = now - timedelta(days=settings.raw_days)
        for folder in sorted(layout.raw.glob("[!.]*")):
            moment = registered.get(folder.name)
            if moment is not None and moment < limit and retired.read(folder) is None:
                found.append(_measured(RAW, folder.name, folder))
        for folder in sorted((layout.root / "raw/superseded").glob("*/*")):
            if superseded.get((folder.parent.name, folder.name), now) < limit:
                found.append(_measured(SUPERSEDED, folder.parent.name, folder))
    if settings.quarantine_days is not None:
        limit = now - timedelta(days=settings.quarantine_days)
        for folder in sorted((layout.root / "quarantine").glob("*")):
            if registered.get(folder.name, now) < limit and any(folder.glob("*.dcm")):
                found.append(_measured(QUARANTINE, folder.name, folder))
    if any(one.what == RAW for one in found):
        faulty = {fault.batch for fault in verify_store(layout, workers).faults}
        found = [_judged(one, layout, faulty) for one in found]
    return found


def apply(layout: Layout, wanted: list[Due], now: datetime) -> None:
    """Remove what is due and not refused, and record it."""
    for one in wanted:
        if one.refusal:
            continue
        if one.what == RAW:
            marker = markers.read(one.folder)
            if marker is None:
                continue
            retired.retire(one.folder, Retired(marker.digest, len(marker.entries), marker.bytes), now)
        elif one.what == SUPERSEDED:
            files.remove_tree(one.folder)
        else:
            _empty_quarantine(one.folder)
        _record(layout, one, now)


def _times(layout: Layout) -> tuple[dict[str, datetime], dict[tuple[str, str], datetime]]:
    """Return when each batch was last registered, and when each delivery was replaced."""
    registered: dict[str, datetime] = {}
    superseded: dict[tuple[str, str], datetime] = {}
    for line in deliveries.read(layout):
        moment = datetime.fromisoformat(line["recorded_at"])
        if line["event"] == deliveries.REGISTERED:
            registered[line["batch"]] = moment
        elif line["event"] == deliveries.SUPERSEDED:
            mark = (line["marker_digest"] or "unmarked")[:16]
            superseded[line["batch"], mark] = moment
    return registered, superseded


def _measured(what: str, batch: str, folder: Path) -> Due:
    count = sum(path.is_file() for path in folder.rglob("*"))
    return Due(what, batch, folder, count, files.tree_size(folder))


def _judged(one: Due, layout: Layout, faulty: set[str]) -> Due:
    """Return `one` with the reason why originals may not go."""
    if one.what != RAW:
        return one
    paths = layout.deid_paths(one.batch)
    refusal = ""
    marker = markers.read(one.folder)
    if marker is None or not paths.files.exists() or not paths.audit.exists():
        refusal = "is not de-identified yet"
    elif one.batch in faulty:
        refusal = "its released objects are not as the audit says"
    elif pl.scan_parquet(paths.files).select(pl.len()).collect().item() < len(marker.entries):
        refusal = "not every file has a disposition"
    return Due(one.what, one.batch, one.folder, one.files, one.bytes, refusal)


def _empty_quarantine(folder: Path) -> None:
    """Remove held objects and what people looked at; the list first, so that nothing is listed and gone."""
    listing = folder / QUARANTINE_LIST
    if listing.exists():
        files.write_jsonl(listing, [], mode=0o600)
    for path in folder.glob("*.dcm"):
        path.unlink()
    if (folder / LOOKED_AT).is_dir():
        files.remove_tree(folder / LOOKED_AT)


def _record(layout: Layout, one: Due, now: datetime) -> None:
    lines: list[dict[str, Any]] = files.read_jsonl(layout.retired) if layout.retired.exists() else []
    line = {
        "what": one.what,
        "batch": one.batch,
        "files": one.files,
        "bytes": one.bytes,
        "retired_at": now.astimezone(UTC).isoformat(timespec="seconds"),
    }
    files.write_jsonl(layout.retired, [*lines, line])

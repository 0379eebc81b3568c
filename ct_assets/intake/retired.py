"""Batches whose originals went when their time was over.

Belongs here: the note that stands in the place of the originals. Does not: how long they stay
(`settings.keeping`), and when they go (`lifecycle.retention`).

The note keeps the delivery's digest: the same delivery is known when it comes again, and what was released
from it stays current.
"""

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ct_assets import files
from ct_assets.layout import RESTRICTED_MODE, Layout

NOTE_NAME = ".retired.json"


@dataclass(frozen=True)
class Retired:
    """What is known of originals that went."""

    marker_digest: str
    files: int
    bytes: int


def read(folder: Path) -> Retired | None:
    """Return the note in a batch's folder, None where the originals are there."""
    path = folder / NOTE_NAME
    if not path.exists():
        return None
    note = files.read_json(path)
    return Retired(note["marker_digest"], note["files"], note["bytes"])


def finish(raw: Path) -> None:
    """Finish what a killed `retire` left: the note takes its place."""
    for partial in sorted(raw.glob(".partial-*")):
        folder = partial.with_name(partial.name.removeprefix(".partial-"))
        if (partial / NOTE_NAME).exists() and not folder.exists():
            partial.rename(folder)


def is_retired(layout: Layout, batch: str) -> bool:
    """Tell whether a batch's originals went."""
    return read(layout.raw_batch(batch)) is not None


def retire(folder: Path, what: Retired, now: datetime) -> None:
    """Put the note in the place of the originals; a killed process leaves the old or the new."""
    partial, old = folder.with_name(f".partial-{folder.name}"), folder.with_name(f".old-{folder.name}")
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir(mode=RESTRICTED_MODE)
    note = {
        "marker_digest": what.marker_digest,
        "files": what.files,
        "bytes": what.bytes,
        "retired_at": now.isoformat(timespec="seconds"),
    }
    files.write_json(partial / NOTE_NAME, note, mode=0o600)
    folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old)

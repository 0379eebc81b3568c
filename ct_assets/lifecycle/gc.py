"""`ct-assets gc`: what may be freed, told first.

Belongs here: the kinds of things that may go, each with its number and size. Nothing that a person made or
decided is among them, no released object, no ledger, no model.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ct_assets import files
from ct_assets.lifecycle import ephemeral, retention
from ct_assets.lifecycle.ephemeral import Freed
from ct_assets.settings import Settings

SECONDS_UNTIL_LEFT_OVER = 3600.0
"""What a process writes beside its target is left over when it has not changed for so long."""


@dataclass(frozen=True)
class Freeable:
    """One kind of thing that may go."""

    what: str
    count: int
    bytes: int
    note: str = ""

    @property
    def line(self) -> str:
        """In words."""
        told = f"; {self.note}" if self.note else ""
        return f"{self.what}: {self.count}, {self.bytes / 1e6:.1f} MB{told}"


def collect(
    settings: Settings, *, remove: bool, workers: int = 1, now: datetime | None = None
) -> list[Freeable]:
    """Return what may be freed, and free it where `remove` says so."""
    moment = now or datetime.now(UTC)
    layout = settings.layout
    found = [
        _of("left-overs of killed processes", _left_overs(layout.root), remove),
        _of("folds that the settings no longer name", _folds(settings), remove),
        _of("smaller sets that the settings no longer name", _derived(settings), remove),
        _of("checkpoints of finished trainings", _checkpoints(layout.root), remove),
        _freed("volumes in the store that no table names", ephemeral.free(layout, remove=remove)),
    ]
    due = retention.due(layout, settings.keeping, moment, workers)
    if remove:
        retention.apply(layout, due, moment)
    for what in (retention.RAW, retention.SUPERSEDED, retention.QUARANTINE):
        of_kind = [one for one in due if one.what == what]
        going = [one for one in of_kind if not one.refusal]
        stay = "; ".join(f"{one.batch} stays: {one.refusal}" for one in of_kind if one.refusal)
        if of_kind:
            count, size = sum(one.files for one in going), sum(one.bytes for one in going)
            found.append(Freeable(f"{what} beyond their time", count, size, stay))
    return [one for one in found if one.count or one.note]


def _freed(what: str, freed: Freed) -> Freeable:
    return Freeable(what, freed.files, freed.bytes)


def _of(what: str, paths: list[Path], remove: bool) -> Freeable:
    size = sum(files.tree_size(path) if path.is_dir() else path.stat().st_size for path in paths)
    for path in paths if remove else ():
        files.remove_tree(path)
    return Freeable(what, len(paths), size)


def _left_overs(root: Path) -> list[Path]:
    limit = time.time() - SECONDS_UNTIL_LEFT_OVER
    found: list[Path] = []
    for pattern in (".partial-*", ".old-*"):
        found += [path for path in root.rglob(pattern) if path.stat().st_mtime < limit]
    return sorted(path for path in found if not any(parent in found for parent in path.parents))


def _folds(settings: Settings) -> list[Path]:
    named = {str(fold) for fold in range(settings.splits.folds)}
    return sorted(
        path for path in settings.layout.folds.glob("*") if path.is_dir() and path.name not in named
    )


def _derived(settings: Settings) -> list[Path]:
    folder = settings.layout.root / "derived"
    return sorted(path for path in folder.glob("*") if path.is_dir() and path.name not in settings.derived)


def _checkpoints(root: Path) -> list[Path]:
    """A finished training is its weights and its record; checkpoints are for going on with one that is not."""
    return sorted(
        checkpoint
        for result in (root / "models").glob("*/*/result.json")
        if (result.parent / "best.safetensors").exists()
        for checkpoint in result.parent.glob("*.ckpt")
    )

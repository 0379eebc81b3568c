"""Writing several folders and files so that they become visible together, or not at all.

Belongs here: the staging places beside the targets and the swap. A killed run leaves the old or the new: until
the list of swaps is written, nothing has changed; from then on the next run finishes it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from ct_assets import files
from ct_assets.layout import RESTRICTED_MODE, DeidPaths

JOURNAL = "swap.json"


@dataclass(frozen=True)
class Staging:
    """The staging twin of a `DeidPaths`: same shape, hidden names beside the targets."""

    target: DeidPaths
    staged: DeidPaths
    journal: Path

    @classmethod
    def beside(cls, target: DeidPaths) -> "Staging":
        """Return fresh staging places for `target`, after finishing or clearing what a killed run left."""
        staged = DeidPaths(
            dicom=_twin(target.dicom),
            audit=_twin(target.audit),
            uid_dir=_twin(target.uid_dir),
            quarantine=_twin(target.quarantine),
            report=_twin(target.report),
        )
        staging = cls(target, staged, staged.uid_dir.with_name(f"{staged.uid_dir.name}.{JOURNAL}"))
        if staging.journal.exists():
            staging._swap()
        staging.clear()
        staged.dicom.mkdir(parents=True)
        for restricted in (staged.uid_dir, staged.quarantine):
            restricted.mkdir(parents=True)
            restricted.chmod(RESTRICTED_MODE)
        staged.audit.parent.mkdir(parents=True, exist_ok=True)
        staged.report.parent.mkdir(parents=True, exist_ok=True)
        return staging

    def release(self) -> None:
        """Put everything staged in the place of what was there."""
        files.write_json(self.journal, {"swap": "in progress"})
        self._swap()

    def clear(self) -> None:
        """Remove what is staged."""
        for staged, _ in self._pairs():
            _remove(staged)
        self.journal.unlink(missing_ok=True)

    def _swap(self) -> None:
        for staged, target in self._pairs():
            if not staged.exists():
                continue
            old = staged.with_name(f".old-{target.name}")
            _remove(old)
            if target.exists():
                target.rename(old)
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(target)
        for staged, target in self._pairs():
            _remove(staged.with_name(f".old-{target.name}"))
        self.journal.unlink()

    def _pairs(self) -> list[tuple[Path, Path]]:
        return [
            (getattr(self.staged, name), getattr(self.target, name))
            for name in ("dicom", "audit", "uid_dir", "quarantine", "report")
        ]


def _twin(path: Path) -> Path:
    return path.with_name(f".partial-{path.name}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

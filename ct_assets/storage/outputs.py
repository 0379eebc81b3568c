"""What an asset left on the disk, and whether it is still there as it was written.

Belongs here: the record of an asset's output files (path, size, time of change, SHA-256) and comparing it with the
disk. A file whose size and time of change are those of the record is taken as unchanged; any other is read again. Does
not: which files an asset writes (`defs.engine.outputs`), what follows from a difference.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.settings import Settings

Entry = tuple[int, int, str]
"""Size in bytes, time of change in ns, SHA-256."""


@dataclass(frozen=True)
class Difference:
    """An asset whose outputs are not what it wrote."""

    asset: str
    partition: str | None
    missing: tuple[str, ...]
    """Paths relative to the data root."""
    changed: tuple[str, ...]

    def line(self) -> str:
        """Return what a person reads."""
        of = f" of {self.partition}" if self.partition else ""
        parts = [
            f"{len(paths)} {word} ({', '.join(paths[:3])}{', …' if len(paths) > 3 else ''})"
            for word, paths in (("missing", self.missing), ("changed", self.changed))
            if paths
        ]
        return f"{self.asset}{of}: output files {' and '.join(parts)}; the next run rebuilds them"


class OutputRecords:
    """The records of one data root, a file an asset and partition."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder

    @classmethod
    def of(cls, settings: Settings) -> "OutputRecords | None":
        """Return the records of a platform; None where its data root is in a store: each machine has what it fetched."""
        if settings.storage.url is not None:
            return None
        return cls(settings.layout.root, settings.layout.dagster_home / "outputs")

    def write(self, asset: str, partition: str | None, patterns: Sequence[str]) -> None:
        """Record what lies at the patterns (relative to the data root) now."""
        before = self._read(self._path(asset, partition))
        entries = {}
        for path in _matches(self.root, patterns):
            name = path.relative_to(self.root).as_posix()
            entries[name] = _entry(path, before.get(name))
        content = {"asset": asset, "partition": partition, "files": entries}
        files.write_json(self._path(asset, partition), content)

    def difference(self, asset: str, partition: str | None) -> Difference | None:
        """Compare the disk with the record; None where nothing differs or nothing was recorded."""
        return self._compare(self._path(asset, partition))

    def differences(self) -> Iterator[Difference]:
        """Yield every asset and partition whose outputs differ."""
        for path in sorted(self.folder.glob("*/*.json")):
            if (found := self._compare(path)) is not None:
                yield found

    def renew(self) -> None:
        """Record what lies at the recorded paths now; files that are gone are recorded no longer.

        For changes that were wanted: a withdrawal takes rows and files of one person out of what assets wrote.
        """
        for path in sorted(self.folder.glob("*/*.json")):
            entries = {
                name: _entry(self.root / name, entry)
                for name, entry in self._read(path).items()
                if (self.root / name).is_file()
            }
            files.write_json(path, files.read_json(path) | {"files": entries})

    def _compare(self, path: Path) -> Difference | None:
        recorded = self._read(path)
        missing, changed, touched = [], [], {}
        for name, entry in recorded.items():
            try:
                now = _entry(self.root / name, entry)
            except FileNotFoundError:
                missing.append(name)
                continue
            if now[2] != entry[2]:
                changed.append(name)
            elif now != entry:
                touched[name] = now
        if touched:  # a copied platform: read once, not at each look
            content = files.read_json(path)
            files.write_json(path, content | {"files": recorded | touched})
        if not missing and not changed:
            return None
        partition = files.read_json(path)["partition"]
        return Difference(path.parent.name, partition, tuple(sorted(missing)), tuple(sorted(changed)))

    def _path(self, asset: str, partition: str | None) -> Path:
        name = "all" if partition is None else partition.replace("|", "+")
        return self.folder / asset / f"{name}.json"

    def _read(self, path: Path) -> dict[str, Entry]:
        """Return the recorded files; none where the record is missing or torn."""
        try:
            content = files.read_json(path)["files"]
        except (OSError, ValueError, KeyError, UsageError):
            return {}
        return {name: (entry[0], entry[1], entry[2]) for name, entry in content.items()}


def output_differences(settings: Settings) -> list[str]:
    """Return a line for every asset whose outputs are missing or changed."""
    records = OutputRecords.of(settings)
    return [] if records is None else [difference.line() for difference in records.differences()]


def _entry(path: Path, known: Entry | None) -> Entry:
    stat = path.stat()
    if known is not None and (stat.st_size, stat.st_mtime_ns) == known[:2]:
        return known
    return stat.st_size, stat.st_mtime_ns, files.sha256_file(path)


def _matches(root: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})

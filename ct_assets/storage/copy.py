"""The working copy: what of the store is on this machine, brought up to date and published again.

Belongs here: comparing disk, last known state and store; moving what differs; refusing what two machines
changed at once. Does not: when that happens (`session`), what is needed (`needs`).

`.storage/state.json` holds, for each file that this machine has, the entry that disk and store had in common
last. From it and the disk follows what changed here; from it and the newest generation, what changed there.
What was never pulled is not taken for deleted. A killed pull or publish leaves the old state or the new one:
files are replaced in one step, and the state is written after them.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock
import orjson

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.storage import tree
from ct_assets.storage.generations import (
    AreaList,
    Generation,
    Listing,
    by_area,
    conflicts,
    object_key,
    read_list,
    write_list,
)
from ct_assets.storage.store import Store
from ct_assets.storage.tree import STATE_FOLDER, Entry, State, area_of, is_restricted, path_of, patterns

LOCK_TIMEOUT_S = 3600.0
ATTEMPTS = 20
EVERYTHING = ("*",)


@dataclass(frozen=True, slots=True)
class Known:
    """What disk and store had in common, and the disk's state then."""

    entry: Entry
    state: State


class WorkingCopy:
    """One machine's copy of one data root in a store."""

    def __init__(self, layout: Layout, store: Store, *, left_out: Path | None = None) -> None:
        self.layout, self.store, self._left_out = layout, store, left_out
        self.folder = layout.storage_state

    def pull(self, needed: tuple[str, ...] = EVERYTHING) -> int:
        """Bring the files that match `needed` into line with the store; return how many were fetched.

        Raises `UsageError` where a file was changed here and in the store since the two were last in line.
        """
        with self._locked():
            known = self._read_state()
            latest = self._listing(self.store.newest())
            wanted = patterns(needed)
            fetch: list[str] = []
            for name in sorted(latest.keys() | known.keys()):
                entry, had = latest.get(name), known.get(name)
                if wanted.match(name) and self._must_fetch(name, entry, had, known):
                    fetch.append(name)
            self._fetch({name: latest[name] for name in fetch}, known)
            self._write_state(known)
        return len(fetch)

    def publish(self, skipped: tuple[str, ...] = ()) -> Generation | None:
        """Publish what changed here as a new generation; None where nothing did.

        Files that match `skipped` stay as the store has them. Raises `UsageError` where another machine
        changed the same file, or the store stays away.
        """
        with self._locked():
            known = self._read_state()
            for _ in range(ATTEMPTS):
                latest = self.store.newest()
                listing = self._listing(latest)
                changes, states = self._changes(known, listing, patterns(skipped))
                if not changes:
                    self._write_state(known)
                    return None
                base = {name: one.entry for name, one in known.items()}
                if refused := conflicts(changes, base, listing):
                    self._refuse(refused)
                generation = self._next(latest, listing, changes)
                if generation is None or self.store.publish(generation):
                    break
            else:
                raise UsageError(f"{self.store.url}: other machines publish without a pause; run it again")
            for name, entry in changes.items():
                if entry is None:
                    known.pop(name, None)
                else:
                    known[name] = Known(entry, states[name])
            self._write_state(known)
        return generation

    def free(self, kept: tuple[str, ...] = ()) -> tuple[int, int]:
        """Remove from this machine what is safe in the store; return files and bytes.

        What changed here and is not published stays, and so does what matches `kept`.
        """
        gone = size = 0
        with self._locked():
            known = self._read_state()
            stays = patterns(kept)
            there = self._listing(self.store.newest())
            for name, one in list(known.items()):
                path = path_of(self.layout.root, name)
                if stays.match(name) or there.get(name) != one.entry or self._state(path) != one.state:
                    continue
                path.unlink()
                del known[name]
                gone, size = gone + 1, size + one.entry.bytes
            self._write_state(known)
            _remove_empty(self.layout.root)
        return gone, size

    def sweep(self, older_than_hours: float) -> tuple[int, int]:
        """Remove from the store what the newest generation does not name; return objects and bytes."""
        if not self.store.settings.restricted:
            raise UsageError("storage.restricted: a machine that sees a part alone must not sweep the whole")
        self.store.forget_older(1)
        newest = self.store.newest()
        listing = self._listing(newest)
        named = {object_key(entry.sha256, name) for name, entry in listing.items()}
        named |= {object_key(area.sha256, name) for name, area in newest.areas.items()}
        return self.store.remove_unknown(named, older_than_hours)

    def _must_fetch(self, name: str, entry: Entry | None, had: Known | None, known: dict[str, Known]) -> bool:
        """Decide about one needed file; one that the store no longer has goes here too."""
        path = path_of(self.layout.root, name)
        state = self._state(path)
        if had is not None and entry == had.entry and state is not None:
            return False  # in line, or changed here alone: then it is published later
        unchanged_here = had is not None and state == had.state
        if entry is None:
            if unchanged_here:
                path.unlink()
                known.pop(name)
            elif state is None:
                known.pop(name)
            else:
                self._refuse([name])
            return False
        if state is None:
            return had is None or entry != had.entry  # else it was deleted here, which is published later
        if unchanged_here:
            return True
        with self._scratch() as scratch:
            mine, _ = tree.read(path, path.lstat(), scratch / "mine")
        if (mine.sha256, mine.kind) != (entry.sha256, entry.kind):
            self._refuse([name])
        known[name] = Known(entry, state)
        return False

    def _fetch(self, wanted: Listing, known: dict[str, Known]) -> None:
        plain = {name: entry for name, entry in wanted.items() if entry.kind == "file"}
        self._require_space(plain)
        self._make_folders(wanted)
        self.store.get(
            (
                (object_key(entry.sha256, name), entry.sha256, path_of(self.layout.root, name))
                for name, entry in plain.items()
            ),
            "fetching from the store",
        )
        for name, entry in wanted.items():
            path = path_of(self.layout.root, name)
            if entry.kind == "link":
                path.unlink(missing_ok=True)
                target = self.store.read(object_key(entry.sha256, name), entry.sha256)
                path.symlink_to(os.fsdecode(target))
            else:
                path.chmod(entry.mode)
                if path.suffix == ".db":
                    for side in ("-wal", "-shm", "-journal"):
                        path.with_name(path.name + side).unlink(missing_ok=True)
            state = self._state(path)
            assert state is not None
            known[name] = Known(entry, state)

    def _changes(
        self, known: dict[str, Known], there: Listing, skipped: re.Pattern[str]
    ) -> tuple[dict[str, Entry | None], dict[str, State]]:
        """Find what changed here, and upload the objects that the store does not name yet.

        A file that changes while it is read or uploaded is left for the next generation.
        """
        changes: dict[str, Entry | None] = {}
        states: dict[str, State] = {}
        seen: set[str] = set()
        stored = {object_key(entry.sha256, name) for name, entry in there.items()}
        uploads: dict[str, Path | bytes] = {}
        held: dict[str, tuple[Path, State]] = {}
        with self._scratch() as scratch:
            for number, (name, path, found) in enumerate(tree.walk(self.layout, left_out=self._left_out)):
                seen.add(name)
                if self._is_closed(name):
                    continue
                state = tree.state_of(path, found)
                had = known.get(name)
                if skipped.match(name) or (had is not None and had.state == state):
                    continue
                try:
                    entry, content = tree.read(path, found, scratch / str(number))
                except FileNotFoundError:
                    continue  # replaced or removed at this moment
                states[name] = state
                if had is not None and (had.entry.sha256, had.entry.kind) == (entry.sha256, entry.kind):
                    known[name] = Known(had.entry, state)
                    continue
                changes[name] = entry
                if (key := object_key(entry.sha256, name)) not in stored:
                    uploads[key] = content
                    held[name] = content, tree.state_of(content, content.stat())
            self.store.put(uploads, "publishing to the store")
            for name, (content, before) in held.items():
                if tree.state_of(content, content.stat()) != before:
                    del changes[name]
        for name in known.keys() - seen:
            if not skipped.match(name):
                changes[name] = None
        return changes, states

    def _next(
        self, latest: Generation, listing: Listing, changes: dict[str, Entry | None]
    ) -> Generation | None:
        """Return the generation after `latest` with the changes put on it, its lists uploaded."""
        areas = dict(latest.areas)
        uploads: dict[str, Path | bytes] = {}
        touched = by_area(changes)
        of_area = by_area(listing)
        for area, names in touched.items():
            merged: Listing = {name: listing[name] for name in of_area.get(area, [])}
            for name in names:
                entry = changes[name]
                if entry is None:
                    merged.pop(name, None)
                else:
                    merged[name] = entry
            if not merged:
                areas.pop(area, None)
                continue
            content = write_list(merged)
            digest = hashlib.sha256(content).hexdigest()
            areas[area] = AreaList(digest, len(merged), sum(entry.bytes for entry in merged.values()))
            if latest.areas.get(area) != areas[area]:
                uploads[object_key(digest, area)] = content
                self._cache_list(digest, content)
        if areas == latest.areas:
            return None
        self.store.put(uploads, "publishing lists")
        return Generation(latest.number + 1, areas)

    def _listing(self, generation: Generation) -> Listing:
        """Return every file of a generation; lists that did not change are read from this machine."""
        listing: Listing = {}
        for name, area in generation.areas.items():
            if self._is_closed(name):
                continue
            cached = self.folder / "lists" / area.sha256
            try:
                content = cached.read_bytes()
            except FileNotFoundError:
                content = self.store.read(object_key(area.sha256, name), area.sha256)
                self._cache_list(area.sha256, content)
            listing |= read_list(content)
        current = {area.sha256 for area in generation.areas.values()}
        folder = self.folder / "lists"
        for cached in folder.iterdir() if folder.is_dir() else ():
            if cached.name not in current and not cached.name.startswith("."):
                cached.unlink(missing_ok=True)
        return listing

    def _is_closed(self, name_or_area: str) -> bool:
        """Tell whether this machine must not see a file or area."""
        return is_restricted(name_or_area) and not self.store.settings.restricted

    def _cache_list(self, digest: str, content: bytes) -> None:
        files.write_bytes(self.folder / "lists" / digest, content, mode=0o600)

    def _refuse(self, names: list[str]) -> None:
        shown = sorted({area_of(name) or "the data root" for name in names})
        raise UsageError(
            f"{self.store.url}: {len(names)} files were changed by another machine and here since both were in "
            f"line ({', '.join(shown[:5])}). The store's are kept. To go on from them, move the working copy "
            f"{self.layout.root} aside and run again; embedded databases serve one machine at a time "
            "(docs/operate_storage.md)"
        )

    def _require_space(self, wanted: Listing) -> None:
        needed = sum(entry.bytes for entry in wanted.values())
        if needed:
            files.require_space(self.layout.root, needed, "what is fetched from the store")

    def _make_folders(self, wanted: Listing) -> None:
        self.layout.make_restricted()
        for name in wanted:
            mode = 0o700 if is_restricted(name) else 0o777
            path_of(self.layout.root, name).parent.mkdir(parents=True, exist_ok=True, mode=mode)

    def _state(self, path: Path) -> State | None:
        try:
            return tree.state_of(path, path.lstat())
        except FileNotFoundError:
            return None

    def _read_state(self) -> dict[str, Known]:
        path = self.folder / "state.json"
        if not path.exists():
            return {}
        content = orjson.loads(path.read_bytes())
        if content["store"] != self.store.url:
            raise UsageError(
                f"{self.layout.root}: the working copy of {content['store']}, not of {self.store.url}; name "
                "another storage.work_root"
            )
        return {
            name: Known(Entry(*entry), (state[0], state[1], state[2]))
            for name, (entry, state) in content["files"].items()
        }

    def _write_state(self, known: dict[str, Known]) -> None:
        rows = {name: (list(asdict(one.entry).values()), one.state) for name, one in sorted(known.items())}
        content = orjson.dumps({"store": self.store.url, "files": rows})
        path = self.folder / "state.json"
        if not path.exists() or path.read_bytes() != content:
            files.write_bytes(path, content, mode=0o600)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        folder = self.folder / f"scratch-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with filelock.FileLock(self.folder / ".lock", timeout=LOCK_TIMEOUT_S, mode=0o600):
            yield


def _remove_empty(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        path = Path(folder)
        if path != root and STATE_FOLDER not in path.parts:
            try:
                path.rmdir()
            except OSError:
                continue

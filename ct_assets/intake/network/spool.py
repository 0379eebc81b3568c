"""The spool: where arriving objects lie until their study is whole, durable before the sender is answered.

Belongs here: writing an object (file, fsync, rename, fsync of the folder), which associations a series still
waits for, and what a killed receiver left. Does not: when a study is whole (`settling`), the network.

    inbox/.receiving/arriving/            files under way, without meaning after a kill
    inbox/.receiving/studies/<study>/<series>/<instance>-<sha256>.dcm
    inbox/.receiving/marks/<study>/<series>.open-<association>   the association has not ended yet
    inbox/.receiving/marks/<study>/<series>.broken               it broke off; why, since when, what lacks

A file's name holds the digest of its bytes, so that publishing a file and recording its digest are one
rename, equal objects are one file, and unequal objects under one UID are two: both are delivered, and the
de-identification names the conflict. Names are digests of UIDs (`objects.opaque`), never the UIDs.
"""

import errno
import hashlib
import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import filelock

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.intake.network.objects import Identity
from ct_assets.layout import Layout

ABORTED, STOPPED, LACKING = "association_aborted", "receiver_stopped", "object_not_stored"
"""Reason codes (`ct_assets.reasons.intake`) of a series that is not whole."""

SECONDS_BETWEEN_LOOKS_AT_THE_DISK = 0.2
DECISION = ".decision"
"""Beside the marks of a study: what a person decided about it (`settling.decide`)."""
_OPEN, _BROKEN = ".open-", ".broken"


class NotStoredError(Exception):
    """The object could not be put on disk (no room, as a rule); the sender is told to come again (A700)."""


class Arriving(BytesIO):
    """An object under way: what is written goes to a file and through the digest at once, not into memory.

    It stands where the network library keeps a data set in memory; hence its base class. The first failure
    to write is kept and raised when the object is finished, since only then can the sender be answered.
    """

    def __init__(self, path: Path, head: bytes, *, has_room: bool = True) -> None:
        super().__init__()
        self.path = path
        self._digest = hashlib.sha256()
        self._file = -1
        self._error = None if has_room else OSError(errno.ENOSPC, "kept free")
        if has_room:
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except OSError as error:
                self._error = error
        self.write(head)

    def write(self, piece: "bytes | memoryview") -> int:  # type: ignore[override]
        """Append a piece of the data set."""
        if self._error is None:
            try:
                written = os.write(self._file, piece)
                while written < len(piece):
                    written += os.write(self._file, piece[written:])
            except OSError as error:
                self._error = error
            self._digest.update(piece)
        return len(piece)

    def flush_to_disk(self) -> str:
        """Flush the file to disk and return its SHA-256. Raises `NotStoredError` where writing failed."""
        if self._error is None:
            try:
                os.fsync(self._file)
            except OSError as error:
                self._error = error
        self._close()
        if self._error is not None:
            raise NotStoredError from None
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Remove the file: the object was refused, or its association broke off."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


@dataclass
class SeriesState:
    """What a series of an open study waits for."""

    open: set[str] = field(default_factory=set)
    """Associations that sent into it and have not ended."""
    broken: str | None = None
    """Reason code where an association broke off and the series was not sent again."""
    since: float = 0.0
    """When it broke (seconds since the epoch)."""
    lacking: set[str] = field(default_factory=set)
    """Instances that were begun or refused and have not arrived."""
    reported: bool = False

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing says that more should come."""
        return not self.open and self.broken is None


@dataclass
class StudyState:
    """An open study."""

    series: dict[str, SeriesState] = field(default_factory=dict)
    quiet_since: float = 0.0
    """When the last object arrived or the last association ended (monotonic seconds)."""
    delivered: set[str] = field(default_factory=set)
    """File names of this study in earlier batches: what comes again equal is not taken twice."""


class Spool:
    """The receiver's files; one process at a time holds it (`hold`)."""

    def __init__(self, layout: Layout, keep_free_bytes: int = 0) -> None:
        self.root = spool_root(layout)
        self.arriving, self.studies_dir, self.marks = (
            self.root / name for name in ("arriving", "studies", "marks")
        )
        self.handing_over = self.root / "handing-over"
        self.keep_free_bytes = keep_free_bytes
        self.studies: dict[str, StudyState] = {}
        self.lock = threading.RLock()
        self._delivered_before: Callable[[str], set[str]] = lambda _: set()
        self._refused: dict[str, set[str]] = {}
        self._number = 0
        self._free_bytes, self._looked = 0, -math.inf

    def hold(self, delivered_before: Callable[[str], set[str]]) -> filelock.BaseFileLock:
        """Take the spool for this process and find out what an earlier one left; return the lock to release.

        `delivered_before` tells the file names of a study in earlier batches. Associations that were under
        way when the earlier process ended broke off. Raises `UsageError` where another receiver runs.
        """
        for folder in (self.arriving, self.studies_dir, self.marks, self.handing_over):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = filelock.FileLock(self.root / ".lock", timeout=0, mode=0o600)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise UsageError("another receiver takes in for this data root; stop it first") from None
        self._delivered_before = delivered_before
        for left_over in self.arriving.iterdir():
            left_over.unlink()
        self.studies = self._found()
        return lock

    def begin(self, head: bytes) -> Arriving:
        """Open a file for an object that begins to arrive; without room it takes nothing, and says so at the end."""
        with self.lock:
            self._number += 1
            path = self.arriving / f"{self._number}.part"
            if time.monotonic() - self._looked >= SECONDS_BETWEEN_LOOKS_AT_THE_DISK:
                self._free_bytes, self._looked = shutil.disk_usage(self.arriving).free, time.monotonic()
            has_room = self._free_bytes >= self.keep_free_bytes
        return Arriving(path, head, has_room=has_room)

    def keep(self, association: str, identity: Identity, digest: str, arrived: Path) -> bool:
        """Publish an object that is on disk; False where an equal one is here, or was delivered before.

        Raises `NotStoredError` where the disk is full; nothing of the object counts then.
        """
        name = f"{identity.instance}-{digest}.dcm"
        folder = self.studies_dir / identity.study / identity.series
        try:
            self._touch(association, identity)
            with self.lock:
                study = self.studies[identity.study]
                is_new = name not in study.delivered and not (folder / name).exists()
            if is_new:
                arrived.rename(folder / name)
                sync_folder(folder)
            else:
                arrived.unlink()
        except OSError:
            raise NotStoredError from None
        with self.lock:
            study.quiet_since = time.monotonic()
            for waited_for in self._waited_for():
                waited_for.discard(identity.instance)
        return is_new

    def refuse(self, association: str, instance: str) -> None:
        """Note that an object was not stored: its sender knows, and what it belongs to waits for it."""
        with self.lock:
            self._refused.setdefault(association, set()).add(instance)

    def end(self, association: str, *, released: bool, under_way: str | None = None) -> None:
        """An association has ended: released, its series are whole unless an object of it was not stored.

        Broken off, its series stay open until they are sent again; `under_way` is the opaque name of the
        instance that was just arriving, where it is known.
        """
        with self.lock:
            lacking = self._refused.pop(association, set()) | ({under_way} if under_way else set())
            for name, study, series_name, series in self._series_of(association):
                study.quiet_since = time.monotonic()
                series.lacking |= lacking
                is_noted = True
                if lacking or not released:
                    is_noted = self._break(name, series_name, series, LACKING if released else ABORTED)
                elif series.broken is not None and not series.lacking:
                    self._mend(name, series_name, series)
                if is_noted:  # else the mark stays: a restart then finds the series open, which says as much
                    self._mark(name, series_name, f"{_OPEN}{association}").unlink(missing_ok=True)
                    sync_folder(self.marks / name)
                series.open.discard(association)

    def accept(self, study: str) -> None:
        """A person says that a study is whole as it is."""
        with self.lock:
            for series_name, series in self.studies[study].series.items():
                self._mend(study, series_name, series)

    def forget(self, study: str, series: list[str]) -> None:
        """Drop the state of series whose files have left the spool."""
        with self.lock:
            state = self.studies[study]
            for name in series:
                del state.series[name]
                self._mark(study, name, _BROKEN).unlink(missing_ok=True)
            if not state.series:
                del self.studies[study]
                for folder in (self.studies_dir / study, self.marks / study):
                    shutil.rmtree(folder, ignore_errors=True)

    def _touch(self, association: str, identity: Identity) -> None:
        """Note, on disk before anything of it counts, that an association sends into a series."""
        with self.lock:
            study = self.studies.get(identity.study)
            if study is None:
                study = StudyState(delivered=self._delivered_before(identity.study))
                self.studies[identity.study] = study
            series = study.series.setdefault(identity.series, SeriesState())
            if association in series.open:
                return
            folder, marks = self.studies_dir / identity.study, self.marks / identity.study
            (folder / identity.series).mkdir(parents=True, exist_ok=True, mode=0o700)
            marks.mkdir(exist_ok=True, mode=0o700)
            (marks / f"{identity.series}{_OPEN}{association}").touch(mode=0o600)
            for changed in (marks, self.marks, folder, self.studies_dir):
                sync_folder(changed)
            series.open.add(association)

    def _waited_for(self) -> list[set[str]]:
        """Return what lacks, by series and association: an object may belong to a series not begun then."""
        of_series = [series.lacking for study in self.studies.values() for series in study.series.values()]
        return [*of_series, *self._refused.values()]

    def _series_of(self, association: str) -> list[tuple[str, StudyState, str, SeriesState]]:
        return [
            (name, study, series_name, series)
            for name, study in self.studies.items()
            for series_name, series in study.series.items()
            if association in series.open
        ]

    def _mend(self, study: str, name: str, series: SeriesState) -> None:
        series.broken, series.lacking, series.reported = None, set(), False
        self._mark(study, name, _BROKEN).unlink(missing_ok=True)

    def _break(self, study: str, name: str, series: SeriesState, code: str) -> bool:
        """Note that a series is not whole; False where the disk has no room for the note."""
        if series.broken is None:
            series.broken, series.since, series.reported = code, time.time(), False
        content = {
            "reason": series.broken,
            "broken_at": datetime.fromtimestamp(series.since, UTC).isoformat(),
            "lacking": sorted(series.lacking),
        }
        try:
            files.write_json(self._mark(study, name, _BROKEN), content, mode=0o600)
        except OSError:
            return False
        return True

    def _mark(self, study: str, series: str, kind: str) -> Path:
        return self.marks / study / f"{series}{kind}"

    def _found(self) -> dict[str, StudyState]:
        """Return the state that an earlier process left."""
        found: dict[str, StudyState] = {}
        here: set[str] = set()
        now = time.monotonic()
        for folder in sorted(self.studies_dir.iterdir()):
            state = StudyState(quiet_since=now, delivered=self._delivered_before(folder.name))
            for series in sorted(folder.iterdir()):
                state.series[series.name] = SeriesState()
                here |= {path.name.partition("-")[0] for path in series.iterdir()}
            found[folder.name] = state
        for marks in sorted(self.marks.iterdir()):
            for mark in sorted(marks.iterdir()):
                if mark.name == DECISION:
                    continue
                name, _, kind = mark.name.partition(".")
                series_state = found[marks.name].series.get(name) if marks.name in found else None
                if series_state is None or mark.name.startswith("."):
                    mark.unlink()
                elif kind.startswith("open-"):
                    self._break(marks.name, name, series_state, STOPPED)
                    mark.unlink()
                else:
                    content = files.read_json(mark)
                    series_state.broken = content["reason"]
                    series_state.since = datetime.fromisoformat(content["broken_at"]).timestamp()
                    series_state.lacking = set(content["lacking"]) - here
        return found


def spool_root(layout: Layout) -> Path:
    """Return the spool's folder: in the inbox, closed like it, and passed over by whatever looks for batches."""
    return layout.inbox / ".receiving"


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk, so that a rename in it survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

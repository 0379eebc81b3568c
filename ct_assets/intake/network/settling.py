"""Studies become batches: when a study is whole, and handing it over to the inbox.

Belongs here: the rule, the marker made from the file names of the spool, the record of what was handed over.
The batch is as any other (`intake.batches`): a folder with a marker, a name that tells nothing.

A study is handed over when every association that sent into it was released and nothing came for the quiet
time. A series that broke off holds its study back until it is sent again; after the reporting time the
series that are whole are delivered and the broken one stays, told by its reason code, until it is sent again
or a person decides. Half a series is never delivered without a person's word.

Killed anywhere, the next start goes on: a folder in `handing-over` was whole when it was put there.
"""

import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ct_assets import progress
from ct_assets.errors import UsageError
from ct_assets.intake import batches, markers
from ct_assets.intake.markers import Entry, Marker
from ct_assets.intake.network.spool import DECISION, SeriesState, Spool, spool_root, sync_folder
from ct_assets.layout import Layout

if TYPE_CHECKING:
    from ct_assets.identity.key import SecretKey

DELIVER, DISCARD = "deliver", "discard"
HANDED_OVER, REPORTED, DISCARDED = "handed_over", "reported", "discarded"


@dataclass(frozen=True)
class OpenStudy:
    """A study in the spool, for people: opaque name, counts, and what it waits for."""

    study: str
    series: int
    objects: int
    bytes: int
    sending: int
    """Series into which an association still sends."""
    broken: dict[str, int]
    """Series that are not whole, by reason code."""
    lacking: int
    """Objects that were begun or refused and have not arrived."""


class Settler:
    """Hands whole studies over; one an open spool."""

    def __init__(
        self,
        spool: Spool,
        layout: Layout,
        key: "SecretKey | None",
        *,
        quiet_seconds: float,
        report_seconds: float,
    ) -> None:
        self.spool, self.layout, self.key = spool, layout, key
        self.quiet_seconds, self.report_seconds = quiet_seconds, report_seconds
        self.record = Record(spool.root)

    def delivered_before(self, study: str) -> set[str]:
        """Return the file names of a study in batches that wait or are registered."""
        found: set[str] = set()
        for batch in self.record.batches_of(study):
            for folder in (self.layout.inbox_batch(batch), self.layout.raw_batch(batch)):
                try:
                    marker = markers.read(folder)
                except markers.MarkerError:
                    marker = None
                found |= {entry.path.rpartition("/")[2] for entry in marker.entries} if marker else set()
        return found

    def resume(self) -> list[str]:
        """Finish what was being handed over when a receiver was killed or its disk was full; return the batches."""
        return [self._finish(folder.name) for folder in sorted(self.spool.handing_over.iterdir())]

    def settle(self) -> list[str]:
        """Hand over every study that is whole, and what is whole of those reported; return the batches."""
        made = self.resume()
        for study in list(self.spool.studies):
            with self.spool.lock:
                self._decide(study)
                ready = self._ready(study)
                if ready:
                    self._take_out(study, ready)
            if ready:
                made.append(self._finish(study))
        return made

    def _ready(self, study: str) -> list[str]:
        """Return the series of a study to hand over now."""
        state = self.spool.studies.get(study)
        if state is None or any(series.open for series in state.series.values()):
            return []
        if time.monotonic() - state.quiet_since < self.quiet_seconds:
            return []
        broken = {name: series for name, series in state.series.items() if series.broken is not None}
        if any(time.time() - series.since < self.report_seconds for series in broken.values()):
            return []
        self._report(study, broken)
        for name in [name for name in state.series if self._is_empty(study, name)]:
            self.spool.forget(study, [name])  # nothing of it was ever acknowledged
        return [name for name, series in state.series.items() if series.is_whole]

    def _report(self, study: str, broken: dict[str, SeriesState]) -> None:
        for series in broken.values():
            if not series.reported:
                series.reported = True
                self.record.note(REPORTED, study=study, reason=series.broken, lacking=len(series.lacking))
                progress.say(
                    f"study {study}: a series is not whole ({series.broken}); have it sent again, "
                    f"or decide: ct-assets receive --deliver {study} | --discard {study}"
                )

    def _is_empty(self, study: str, series: str) -> bool:
        folder = self.spool.studies_dir / study / series
        return not folder.is_dir() or not any(folder.iterdir())

    def _decide(self, study: str) -> None:
        """Do what a person decided about a study, by a file beside its marks."""
        wish = decision_file(self.spool.marks, study)
        if not wish.exists():
            return
        decided = wish.read_text().strip()
        wish.unlink()
        if decided == DELIVER:
            self.spool.accept(study)
            self.spool.studies[study].quiet_since = 0.0
        elif decided == DISCARD:
            broken = [n for n, s in self.spool.studies[study].series.items() if s.broken and not s.open]
            for name in broken:
                shutil.rmtree(self.spool.studies_dir / study / name, ignore_errors=True)
            self.spool.forget(study, broken)
            self.record.note(DISCARDED, study=study, series=len(broken))

    def _take_out(self, study: str, ready: list[str]) -> None:
        target = self.spool.handing_over / study
        target.mkdir(mode=0o700, exist_ok=True)
        for name in ready:
            (self.spool.studies_dir / study / name).rename(target / name)
        sync_folder(target)
        sync_folder(self.spool.handing_over)
        self.spool.forget(study, ready)

    def _finish(self, study: str) -> str:
        """Write the marker, note the batch, move it into the inbox."""
        folder = self.spool.handing_over / study
        marker = marker_from_names(folder)
        batch = batches.opaque_name(marker, self.key)
        marker.write(folder)
        # Noted before it is there: a batch that is noted twice or never came does no harm, but one that is
        # there and not noted would let its objects in again.
        self.record.note(HANDED_OVER, study=study, batch=batch, files=len(marker.entries), bytes=marker.bytes)
        if batches.hand_over(folder, self.layout, batch):
            sync_folder(self.layout.inbox)
            progress.say(
                f"batch {batch}: {len(marker.entries)} objects, {marker.bytes / 1e6:.1f} MB, waits in the inbox"
            )
        with self.spool.lock:
            if study in self.spool.studies:
                self.spool.studies[study].delivered |= {
                    entry.path.rpartition("/")[2] for entry in marker.entries
                }
        return batch


def marker_from_names(folder: Path) -> Marker:
    """Return the marker of a folder of the spool: the digests are in the file names, as they arrived."""
    entries = []
    for found in markers.walk(folder):
        path = Path(found.path)
        if path.suffix == ".dcm":
            digest = path.stem.partition("-")[2]
            entries.append(Entry(path.relative_to(folder).as_posix(), found.stat().st_size, digest))
    return Marker(tuple(sorted(entries)))


def decision_file(marks: Path, study: str) -> Path:
    """Return where a person's decision about a study is left for the receiver."""
    return marks / study / DECISION


def decide(layout: Layout, study: str, decision: str) -> None:
    """Leave a person's decision; the running receiver, or the next one, acts on it."""
    root = spool_root(layout)
    marks = root / "marks"
    if not study.isalnum() or not (root / "studies" / study).is_dir():
        raise UsageError(f"{study}: no such study waits; `ct-assets receive --list` names them")
    (marks / study).mkdir(exist_ok=True, mode=0o700)
    decision_file(marks, study).write_text(decision)


class Record:
    """What was handed over, reported and discarded: a line each, opaque names and counts (restricted)."""

    def __init__(self, spool_root: Path) -> None:
        self.path = spool_root / "record.jsonl"
        self._batches: dict[str, set[str]] | None = None

    def note(self, event: str, **facts: Any) -> None:
        """Append a line, on disk when this returns."""
        if "batch" in facts:
            self._by_study().setdefault(facts["study"], set()).add(facts["batch"])
        line = orjson.dumps({"event": event, **facts, "noted_at": datetime.now(UTC).isoformat()})
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            os.write(descriptor, (b"\n" if torn else b"") + line + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lines(self) -> list[dict[str, Any]]:
        """Return the record; a line that a killed process did not finish is passed over."""
        found = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else []:
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue
        return found

    def batches_of(self, study: str) -> list[str]:
        """Return the batches into which a study went."""
        return sorted(self._by_study().get(study, ()))

    def _by_study(self) -> dict[str, set[str]]:
        if self._batches is None:
            self._batches = {}
            for line in self.lines():
                if "batch" in line:
                    self._batches.setdefault(line["study"], set()).add(line["batch"])
        return self._batches


def open_studies(layout: Layout) -> list[OpenStudy]:
    """Return what waits in the spool, as it is on disk; also while a receiver runs."""
    root = spool_root(layout)
    found = []
    for folder in sorted((root / "studies").iterdir()) if (root / "studies").is_dir() else []:
        states = [entry.stat() for entry in markers.walk(folder)]
        marks = sorted((root / "marks" / folder.name).glob("*")) if (root / "marks").is_dir() else []
        sending = {mark.name.partition(".")[0] for mark in marks if ".open-" in mark.name}
        broken: dict[str, int] = {}
        lacking = 0
        for mark in marks:
            if mark.name.endswith(".broken"):
                content = orjson.loads(mark.read_bytes())
                broken[content["reason"]] = broken.get(content["reason"], 0) + 1
                lacking += len(content["lacking"])
        series = sum(1 for path in folder.iterdir() if path.is_dir())
        size = sum(state.st_size for state in states)
        found.append(OpenStudy(folder.name, series, len(states), size, len(sending), broken, lacking))
    return found

"""The ledger of readings of the test split: who read it, with what, and whether it was forced.

Reading means scoring predictions against the test labels. The ledger is one for the whole platform; a system's test set
that was read for one experiment is no longer new to the next. Lines are only ever added, each with
the digest of the line before. A record beside the ledger remembers every line's digest, so that a ledger that was
deleted or cut is noticed. A last line that a crash left unfinished was no reading (no label was opened yet): it is
said, passed over, and replaced by the next one.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson
from filelock import FileLock

from ct_assets import files, progress
from ct_assets.errors import SafetyError, UsageError
from ct_assets.layout import Layout
from ct_assets.settings.base import Section

LEDGER_NAME = "test_readings.jsonl"
LEDGER_DIR = "models"
"""Below the data root."""
RECORD_NAME = "test_readings_record.json"
"""What is remembered of the ledger outside of it."""


class Reading(Section):
    """One way of reading the test split."""

    experiment: str
    model_digest: str
    test_digest: str
    """The test patients with their labels."""
    settings_digest: str
    """How predictions are judged."""

    @property
    def digest(self) -> str:
        """Tells readings apart."""
        return files.digest_of(self.model_dump(mode="json"))


@dataclass(frozen=True)
class MadeReading:
    """A line of the ledger."""

    experiment: str
    forced: bool
    read_at: str


def readings(layout: Layout) -> list[MadeReading]:
    """Return the readings made on this platform, in order. Raises `SafetyError` for a ledger changed by hand."""
    lines = Readings.of(layout).lines
    return [MadeReading(line["experiment"], line["is_forced"], line["read_at"]) for line in lines]


def _system_of(line: dict[str, Any]) -> str:
    """Return the system of a line, whose test patients are its own: `nodules/first` is of nodules; lung names none."""
    return str(line["experiment"]).rpartition("/")[0]


class Readings:
    """The ledger in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER_NAME
        self.record = folder / RECORD_NAME
        self._torn = b""
        self.lines = self._read()

    @classmethod
    def of(cls, layout: Layout) -> Self:
        """Return the platform's one ledger."""
        return cls(layout.root / LEDGER_DIR)

    def has(self, reading: Reading) -> bool:
        """Tell whether this very reading was made."""
        return any(line["reading_digest"] == reading.digest for line in self.lines)

    def is_forced(self, reading: Reading) -> bool:
        """Tell whether this reading was forced."""
        return any(line["is_forced"] for line in self.lines if line["reading_digest"] == reading.digest)

    def count(self) -> int:
        """Return how many readings there were."""
        return len(self.lines)

    def open(self, reading: Reading, *, force: bool) -> None:
        """Write the reading down before it is made, or refuse a second, different one.

        Raises `UsageError` for a second reading without `force`.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            self.lines = self._read()
            if self.has(reading):
                self._remember()
                return  # it was begun and broken off: nothing new is learnt from it
            before = [
                line for line in self.lines if _system_of(line) == reading.experiment.rpartition("/")[0]
            ]
            if before and not force:
                first = before[0]
                raise UsageError(
                    f"test_already_read: the test split was read at {first['read_at']} for experiment "
                    f"{first['experiment']}; a second reading with another model, settings or patients needs "
                    "--force and is marked in the report for ever"
                )
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._append(reading, is_forced=bool(before), read_at=now)

    def take_over(self, former: "Readings", system: str) -> int:
        """Append what a ledger of one system's own held, times and marks as they were; return the number of lines."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        count = 0
        with FileLock(f"{self.path}.lock"):
            self.lines = self._read()
            for line in former.lines:
                named = {name: line[name] for name in Reading.model_fields}
                reading = Reading.model_validate(named | {"experiment": f"{system}/{line['experiment']}"})
                if not self.has(reading):
                    self._append(reading, is_forced=line["is_forced"], read_at=line["read_at"])
                    count += 1
        return count

    def _append(self, reading: Reading, *, is_forced: bool, read_at: str) -> None:
        line: dict[str, Any] = {
            **reading.model_dump(mode="json"),
            "reading_digest": reading.digest,
            "is_forced": is_forced,
            "previous": self.lines[-1]["line_digest"] if self.lines else "",
            "read_at": read_at,
        }
        line["line_digest"] = files.digest_of(line)
        with self.path.open("ab") as ledger:
            ledger.truncate(ledger.tell() - len(self._torn))
            ledger.write(orjson.dumps(line) + b"\n")
            ledger.flush()
            os.fsync(ledger.fileno())
        self._torn = b""
        self.lines.append(line)
        self._remember()

    def _remember(self) -> None:
        files.write_json(self.record, {"lines": [line["line_digest"] for line in self.lines]})

    def _read(self) -> list[dict[str, Any]]:
        content = self.path.read_bytes() if self.path.exists() else b""
        whole, newline, self._torn = content.rpartition(b"\n")
        if self._torn:
            progress.say(
                f"{self.path}: its last line was never finished; it is passed over, no label was read"
            )
        changed = SafetyError(
            f"{self.path}: was changed by hand; readings of the test split cannot be trusted; restore it from a backup"
        )
        lines: list[dict[str, Any]] = []
        previous = ""
        for raw in whole.splitlines() if newline else ():
            try:
                line = orjson.loads(raw)
                told, line_digest = line["previous"], line["line_digest"]
            except (ValueError, KeyError, TypeError):
                raise changed from None
            held = {key: value for key, value in line.items() if key != "line_digest"}
            if told != previous or files.digest_of(held) != line_digest:
                raise changed
            previous = line_digest
            lines.append(line)
        remembered = files.read_json(self.record)["lines"] if self.record.exists() else []
        if remembered != [line["line_digest"] for line in lines][: len(remembered)]:
            raise SafetyError(
                f"{self.path}: {len(remembered)} readings of the test split were made, and it no longer holds all of "
                "them; restore it from a backup"
            )
        return lines

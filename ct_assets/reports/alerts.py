"""Alerts: what a person is told when something failed or waits, and the book of what was told.

Belongs here: the words of an alert and when it is told again. Finding out that something failed is
`defs.operations.alerts`; sending is `reports.notify`. An alert holds opaque keys, codes and counts: no path, no text of
an error, nothing of a patient, since it leaves the platform.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ct_assets import files
from ct_assets.reasons import all_reasons, reason

Kind = Literal["run failed", "check failed", "stale", "stuck"]

OPAQUE = re.compile(r"[A-Za-z0-9_-]{1,64}(\|[A-Za-z0-9_-]{1,64})?")
HIDDEN = "(a name that is not opaque)"
KEPT_ALERTS = 1000
SEND_AGAIN_FOR_HOURS = 24.0

_CODE = re.compile(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b")


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person should know."""

    kind: Kind
    stage: str
    """Asset or job."""
    partition: str | None
    """Batch, fold, experiment, or None for the whole cohort."""
    code: str
    """A code of `ct_assets.reasons`."""
    run_id: str | None = None
    count: int = 1

    @property
    def identity(self) -> str:
        """What makes two alerts the same: told once, and again only after a while."""
        return files.digest_of([self.kind, self.stage, self.partition, self.code, self.run_id])[:16]

    @property
    def where(self) -> str:
        """Stage and partition, for a subject line."""
        return self.stage if self.partition is None else f"{self.stage} of {shown_key(self.partition)}"

    def facts(self, ui_url: str | None) -> dict[str, Any]:
        """Return the alert as the webhook's JSON has it."""
        why = reason(self.code)
        link = f"{ui_url.rstrip('/')}/runs/{self.run_id}" if ui_url and self.run_id else None
        return {
            "kind": self.kind,
            "stage": self.stage,
            "partition": None if self.partition is None else shown_key(self.partition),
            "reason": self.code,
            "meaning": why.meaning,
            "next_step": why.mend,
            "count": self.count,
            "run_id": self.run_id,
            "url": link,
        }

    def text(self, ui_url: str | None) -> str:
        """Return the alert as lines for people."""
        facts = self.facts(ui_url)
        times = f" ({self.count} times)" if self.count > 1 else ""
        lines = [f"{self.kind}: {self.where}{times}", f"  reason: {self.code}. {facts['meaning']}"]
        lines.append(f"  next: {facts['next_step']}")
        return "\n".join(lines + ([f"  {facts['url']}"] if facts["url"] else []))


def shown_key(key: str) -> str:
    """Return a partition key if it is opaque; the UI lets people add any."""
    return key if OPAQUE.fullmatch(key) else HIDDEN


def code_in(text: str | None) -> str | None:
    """Return the first registered reason code that a message names; nothing else of it is used."""
    known = {one.code for one in all_reasons()}
    return next((word for word in _CODE.findall(text or "") if word in known), None)


class AlertBook:
    """What was told, to whom and when: a file of JSON lines, so that a new process does not begin again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, Any]] = files.read_jsonl(path) if path.exists() else []

    def note(self, alerts: Iterable[Alert], *, now: float, repeat_hours: float) -> list[Alert]:
        """Note what holds now; return what is to be told: new, or told so long ago that it is told again.

        A clock that was set back counts as no time gone by, never as a reason to tell everything again.
        """
        last = {row["identity"]: row["noted_at"] for row in self._rows}
        due = []
        for alert in alerts:
            before = last.get(alert.identity)
            if before is not None and now - _seconds(before) < repeat_hours * 3600:
                continue
            last[alert.identity] = _text(now)
            self._rows.append(
                {"identity": alert.identity, **asdict(alert), "noted_at": _text(now), "sent_to": []}
            )
            due.append(alert)
        return due

    def unsent(self, receiver: str, *, now: float) -> list[Alert]:
        """Return what `receiver` has not got yet, as far back as a day."""
        return [
            _alert(row)
            for row in self._rows
            if receiver not in row["sent_to"]
            and now - _seconds(row["noted_at"]) < SEND_AGAIN_FOR_HOURS * 3600
        ]

    def sent(self, receiver: str, alerts: Iterable[Alert]) -> None:
        """Note that `receiver` got them."""
        told = {alert.identity for alert in alerts}
        for row in self._rows:
            if row["identity"] in told and receiver not in row["sent_to"]:
                row["sent_to"].append(receiver)

    def since(self, moment: float) -> list[tuple[str, Alert]]:
        """Return the alerts noted since `moment`, with their time, the newest first."""
        found = [(row["noted_at"], _alert(row)) for row in self._rows if _seconds(row["noted_at"]) >= moment]
        return found[::-1]

    def save(self) -> None:
        """Write the book, the newest thousand lines of it."""
        files.write_jsonl(self._path, self._rows[-KEPT_ALERTS:])


def _alert(row: dict[str, Any]) -> Alert:
    return Alert(row["kind"], row["stage"], row["partition"], row["code"], row["run_id"], row["count"])


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

"""A day's work of a platform: what came in, what waits, what failed, how long each stage took, disk used.

Belongs here: the facts, collected once for the page (`reports.status_page`), the metrics (`reports.metrics`)
and the terminal. What only Dagster's instance knows is handed in as `Runs` by `defs.operations.run_history`; the
state of the cohort is `reports.status`. Names of batches, codes and numbers only: nothing of a patient.
"""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ct_assets import files
from ct_assets.layout import Layout
from ct_assets.reports.alerts import Alert
from ct_assets.reports.status import Status, collect
from ct_assets.settings import Settings

HOURS = 24.0
DISK_LOOK_S = 20.0
"""Counting the bytes of millions of files takes longer than anybody waits; what was counted is then a floor."""


@dataclass(frozen=True)
class StageTime:
    """How long one asset took in the window."""

    asset: str
    made: int
    seconds: float
    longest: float
    peak_mb: float | None = None


@dataclass(frozen=True)
class Runs:
    """What Dagster's instance knows of the window."""

    states: dict[str, int] = field(default_factory=dict)
    """`queued`, `working`, `succeeded`, `failed`, `canceled` to number of runs; the first two are now."""
    waiting: list[dict[str, Any]] = field(default_factory=list)
    """A row a run that is queued or at work: job, partition, state, minutes."""
    failures: list[tuple[str, Alert]] = field(default_factory=list)
    """Each failed run of the window, with its time."""
    stages: list[StageTime] = field(default_factory=list)
    daemon_seen_at: float | None = None
    """When the daemon last gave a sign of life."""


@dataclass(frozen=True)
class Day:
    """A day's work."""

    until: float
    hours: float
    status: Status
    deliveries: list[dict[str, Any]]
    """The lines of `deliveries.jsonl` in the window."""
    runs: Runs
    disk: dict[str, int]
    """Folder of the data root to bytes."""
    disk_is_floor: bool
    disk_free: int
    alerts: list[tuple[str, Alert]]


def collect_day(
    settings: Settings, runs: Runs, alerts: list[tuple[str, Alert]], *, now: float, hours: float = HOURS
) -> Day:
    """Return the last `hours` of the platform that `settings` describe."""
    layout = settings.layout
    disk, is_floor = disk_used(layout.root)
    existing = next(folder for folder in (layout.root, *layout.root.parents) if folder.exists())
    return Day(
        until=now,
        hours=hours,
        status=collect(settings),
        deliveries=deliveries_since(layout, now - hours * 3600),
        runs=runs,
        disk=disk,
        disk_is_floor=is_floor,
        disk_free=shutil.disk_usage(existing).free,
        alerts=alerts,
    )


def deliveries_since(layout: Layout, moment: float) -> list[dict[str, Any]]:
    """Return the deliveries recorded since `moment`, the newest first."""
    rows = files.read_jsonl(layout.deliveries) if layout.deliveries.exists() else []
    return [row for row in reversed(rows) if datetime.fromisoformat(row["recorded_at"]).timestamp() >= moment]


def disk_used(root: Path, seconds: float = DISK_LOOK_S) -> tuple[dict[str, int], bool]:
    """Return bytes by folder of the data root, and whether time ran out before all was counted."""
    used: dict[str, int] = {}
    deadline = time.monotonic() + seconds
    if not root.is_dir():
        return used, False
    for entry in sorted(os.scandir(root), key=lambda found: found.name):
        total = 0
        for size in _sizes(entry):
            total += size
            if time.monotonic() > deadline:
                return used | {entry.name: total}, True
        used[entry.name] = total
    return used, False


def _sizes(entry: "os.DirEntry[str]") -> Iterator[int]:
    try:
        if entry.is_dir(follow_symlinks=False):
            for inner in os.scandir(entry.path):
                yield from _sizes(inner)
        else:
            yield entry.stat(follow_symlinks=False).st_size
    except OSError:
        return  # it went while we looked


def as_time(moment: float) -> str:
    """Return a moment as people read it, in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")

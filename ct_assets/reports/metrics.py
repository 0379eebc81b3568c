"""`reports/ct_assets.prom`: the figures of the status page in Prometheus' text format.

Belongs here: names, help lines and labels of the metrics. They are read by node_exporter's textfile
collector, or from `/reports/ct_assets.prom` behind the proxy's login.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ct_assets import files
from ct_assets.layout import Layout
from ct_assets.reports.day import Day

NAME = "ct_assets.prom"
Sample = tuple[Mapping[str, str], float]


def write(layout: Layout, day: Day) -> Path:
    """Write the file and return its path."""
    path = layout.reports / NAME
    files.write_text(path, render(day), mode=0o644)
    return path


def render(day: Day) -> str:
    """Return the metrics; those with `_day` are over the page's window, the others are now."""
    status, runs = day.status, day.runs
    registered = [row for row in day.deliveries if row["event"] == "registered"]
    failures: dict[tuple[str, str], int] = {}
    for _, alert in runs.failures:
        failures[alert.stage, alert.code] = failures.get((alert.stage, alert.code), 0) + 1
    lines: list[str] = []

    def add(name: str, help_text: str, samples: Iterable[Sample]) -> None:
        lines.extend([f"# HELP ct_assets_{name} {help_text}", f"# TYPE ct_assets_{name} gauge"])
        lines.extend(_line(f"ct_assets_{name}", labels, value) for labels, value in samples)

    add("looked_at_seconds", "When these figures were collected, in seconds since 1970.", [({}, day.until)])
    if runs.daemon_seen_at is not None:
        add("daemon_seen_seconds", "When the daemon last gave a sign of life.", [({}, runs.daemon_seen_at)])
    add("batches_registered_day", "Batches registered.", [({}, len(registered))])
    add("bytes_registered_day", "Bytes registered.", [({}, sum(row["bytes"] or 0 for row in registered))])
    add("inbox_batches", "Complete batches that wait in the inbox.", [({}, status.waiting_in_inbox)])
    add(
        "inbox_incomplete",
        "Folders of the inbox that are no batch yet, by reason.",
        [({"reason": code}, count) for code, count in status.incomplete_in_inbox.items()],
    )
    add(
        "runs",
        "Runs: queued and working now, ended in the window.",
        [({"state": state}, count) for state, count in sorted(runs.states.items())],
    )
    add(
        "failures_day",
        "Failed runs by stage and reason.",
        [({"stage": stage, "reason": code}, count) for (stage, code), count in sorted(failures.items())],
    )
    add("alerts_day", "Alerts raised.", [({}, len(day.alerts))])
    add(
        "stage_seconds_day",
        "Seconds that a stage took, all partitions together.",
        [({"stage": stage.asset}, stage.seconds) for stage in runs.stages],
    )
    add(
        "stage_made_day",
        "How often a stage was made.",
        [({"stage": stage.asset}, stage.made) for stage in runs.stages],
    )
    for what in ("released", "quarantined", "rejected"):
        add(
            f"instances_{what}",
            f"Instances {what}, all batches.",
            [({}, sum(batch[what] for batch in status.batches))],
        )
    add("patients", "Patients judged.", [({}, status.patients)])
    add("patients_eligible", "Patients in the cohort.", [({}, status.eligible)])
    add(
        "patients_excluded",
        "Patients excluded, by reason.",
        [({"reason": code}, count) for code, count in status.excluded.items()],
    )
    add(
        "disk_used_bytes",
        "Bytes by folder of the data root.",
        [({"folder": name}, size) for name, size in sorted(day.disk.items())],
    )
    add("disk_free_bytes", "Bytes free where the data root lies.", [({}, day.disk_free)])
    return "\n".join(lines) + "\n"  # fmt: skip


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    shown = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    number = f"{value:.3f}".rstrip("0").rstrip(".")
    return f"{name}{{{shown}}} {number}" if shown else f"{name} {number}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

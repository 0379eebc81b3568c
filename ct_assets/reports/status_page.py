"""`reports/status.html`: a whole day's work on one page, for whoever comes in the morning.

Belongs here: laying out a `Day`. What is in it is collected by `reports.day`.
"""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from ct_assets import files
from ct_assets.layout import Layout
from ct_assets.reasons import reason
from ct_assets.reports.alerts import shown_key
from ct_assets.reports.day import Day, as_time

NAME = "status.html"
DAEMON_LOST_S = 300.0
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}td.n{text-align:right}
.calm{color:#2a6b2a}.bad{background:#fbeaea}.note{color:#666}.tiles{display:flex;flex-wrap:wrap;gap:1rem}
.tile{border:1px solid #ddd;border-radius:4px;padding:.5rem 1rem;min-width:7rem}.tile b{font-size:1.4rem;display:block}"""


def write(layout: Layout, day: Day) -> Path:
    """Write the page and return its path."""
    path = layout.reports / NAME
    files.write_text(path, render(day))
    return path


def render(day: Day) -> str:
    """Return the page."""
    status, runs = day.status, day.runs
    tiles = {
        "batches came in": len({row["batch"] for row in day.deliveries if row["event"] == "registered"}),
        "batches wait": status.waiting_in_inbox,
        "folders arrive": sum(status.incomplete_in_inbox.values()),
        "runs succeeded": runs.states.get("succeeded", 0),
        "runs failed": runs.states.get("failed", 0),
        "at work": runs.states.get("working", 0),
        "queued": runs.states.get("queued", 0),
        "in quarantine": sum(batch["quarantined"] for batch in status.batches),
        "patients eligible": f"{status.eligible} of {status.patients}",
    }
    shown = "".join(
        f"<div class=tile><b>{escape(str(value))}</b>{escape(name)}</div>" for name, value in tiles.items()
    )
    parts = [
        f"<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=300><title>ct-assets: the day</title>"
        f"<style>{_STYLE}</style><h1>The last {day.hours:g} hours, to {as_time(day.until)}</h1>",
        _daemon(day),
        f"<div class=tiles>{shown}</div>",
        "<h2>What came in</h2>",
        _table(
            ("batch", "what", "files", "MB", "when"),
            (
                (row["batch"], row["event"], row["files"], _mb(row["bytes"]), _clock(row["recorded_at"]))
                for row in day.deliveries
            ),
            "No delivery was registered.",
        ),
        "<h2>What waits</h2>",
        _list([*_waiting(day), *status.to_do], "Nothing waits for a person."),
        _table(
            ("job", "partition", "state", "minutes"),
            ((row["job"], _key(row["partition"]), row["state"], f"{row['minutes']:.0f}") for row in runs.waiting),
            "No run is queued or at work.",
        ),
        "<h2>What failed</h2>",
        _table(
            ("when", "stage", "partition", "reason", "what to do"),
            (
                (_clock(at), alert.stage, _key(alert.partition), _reason(alert.code), reason(alert.code).mend)
                for at, alert in runs.failures
            ),
            "No run failed.",
            bad=True,
        ),
        "<h2>Alerts</h2>",
        _table(
            ("when", "kind", "stage", "partition", "reason", "what to do"),
            (
                (_clock(at), alert.kind, alert.stage, _key(alert.partition), _reason(alert.code), reason(alert.code).mend)
                for at, alert in day.alerts
            ),
            "No alert was raised.",
        ),
        "<h2>How long each stage took</h2>",
        _table(
            ("stage", "made", "seconds together", "seconds each", "longest", "peak MB"),
            (
                (stage.asset, stage.made, f"{stage.seconds:.1f}", f"{stage.seconds / stage.made:.1f}",
                 f"{stage.longest:.1f}", "" if stage.peak_mb is None else f"{stage.peak_mb:.0f}")
                for stage in runs.stages
            ),
            "Nothing was made.",
        ),
        "<h2>Disk</h2>",
        f"<p>{_gb(day.disk_free)} GB free. {'Not all was counted: a floor.' if day.disk_is_floor else ''}</p>",
        _table(
            ("folder of the data root", "GB"),
            ((name, _gb(size)) for name, size in sorted(day.disk.items(), key=lambda item: -item[1])),
            "The data root is empty.",
        ),
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _daemon(day: Day) -> str:
    seen = day.runs.daemon_seen_at
    if seen is None:
        return "<p class=note>No daemon has given a sign of life: nothing runs by itself.</p>"
    silent = max(0.0, day.until - seen)
    if silent > DAEMON_LOST_S:
        return f"<p class=bad>The daemon was last seen {silent / 60:.0f} minutes ago: nothing runs by itself.</p>"
    return "<p class=calm>The daemon is at work.</p>"


def _waiting(day: Day) -> list[str]:
    lines = []
    for code, count in day.status.incomplete_in_inbox.items():
        lines.append(f"{count} folders of the inbox are no batch yet: {code}. {reason(code).mend}")
    return lines


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]], none: str, *, bad: bool = False) -> str:
    body = "".join(
        f"<tr{' class=bad' if bad else ''}>" + "".join(f"<td>{escape(str(cell))}" for cell in row)
        for row in rows
    )
    if not body:
        return f"<p class=calm>{escape(none)}</p>"
    return "<table><tr>" + "".join(f"<th>{escape(name)}" for name in head) + f"{body}</table>"


def _list(lines: list[str], none: str) -> str:
    if not lines:
        return f"<p class=calm>{escape(none)}</p>"
    return "<ul>" + "".join(f"<li>{escape(line)}" for line in lines) + "</ul>"


def _reason(code: str) -> str:
    return f"{code}: {reason(code).meaning}"


def _key(key: str | None) -> str:
    return "" if key is None else shown_key(key)


def _clock(at: str) -> str:
    return at[:16].replace("T", " ")


def _mb(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f}"

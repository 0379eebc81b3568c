"""The watch: a sensor that finds what failed or waits too long, tells people, and writes the status page.

Belongs here: finding (runs, checks, batches, assets that fell behind) and the sensor. The words are
`reports.alerts`, the sending `reports.notify`, the page `reports.status_page`. It launches nothing; runs
whose process is gone it ends (`defs.engine.lost_runs`), so that they are reported and tried again.
"""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from ct_assets.defs.engine import provenance
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.instance import PARTITION_TAG
from ct_assets.defs.engine.lost_runs import end_lost
from ct_assets.defs.engine.partitions import BATCH
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations.run_history import UNDER_WAY, collect_runs, failure_of, job_of
from ct_assets.layout import Layout
from ct_assets.reports.alerts import Alert, AlertBook

SECONDS_BETWEEN_LOOKS = 60
SECONDS_BETWEEN_PAGES = 600
WINDOW_HOURS = 24.0
HEAVY_GROUPS = ("training", "evaluation")
CHECKS_LOOKED_AT = 1000


@dg.sensor(
    name="watch",
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells people what failed or waits too long, and writes the status page.",
)
def watch(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
    """Look once: tell what is new, and every ten minutes write the page and the metrics."""
    cursor: dict[str, Any] = json.loads(context.cursor) if context.cursor else {}
    now = time.time()
    behind: dict[str, float] = cursor.get("behind", {})
    written = float(cursor.get("page_at", 0))
    end_lost(context.instance, platform.layout)
    write = not 0 <= now - written < SECONDS_BETWEEN_PAGES  # also when the clock was set back
    if write:
        behind = still_behind(context.instance, platform, behind, now)
    told, troubles = look(context.instance, platform, behind, now=now)
    if write:
        write_pages(context.instance, platform, now=now)
        written = now
    return dg.SensorResult(
        cursor=json.dumps({"behind": behind, "page_at": written}, sort_keys=True),
        skip_reason=dg.SkipReason(f"{told} alerts told" + "".join(f"; {line}" for line in troubles)),
    )


def look(
    instance: dg.DagsterInstance, platform: Platform, behind: dict[str, float], *, now: float
) -> tuple[int, list[str]]:
    """Find what holds now, tell what is new; return how much was told and which receivers are away."""
    from ct_assets.reports.notify import receivers

    settings = platform.settings.alerts
    book = AlertBook(book_path(platform.layout))
    found = [
        *failed_runs(instance, now),
        *failed_checks(instance, now),
        *stuck_batches(instance, platform, now),
        *stuck_runs(instance, platform, now),
        *stale_assets(platform, behind, now),
        *overdue(platform, now),
    ]
    told, troubles = len(book.note(found, now=now, repeat_hours=settings.repeat_hours)), []
    for name, tell in receivers(settings).items():
        waiting = book.unsent(name, now=now)
        if not waiting:
            continue
        try:
            tell(waiting)
        except OSError as error:
            troubles.append(f"{name} is away ({type(error).__name__}): {len(waiting)} alerts wait for it")
        else:
            book.sent(name, waiting)
    book.save()
    return told, troubles


def book_path(layout: Layout) -> Path:
    """Return where the book of alerts lies: with Dagster's own records, not among the reports."""
    return layout.dagster_home / "alerts.jsonl"


def write_pages(instance: dg.DagsterInstance, platform: Platform, *, now: float) -> Path:
    """Write `reports/status.html` and `reports/ct_assets.prom`; return the page's path."""
    from ct_assets.reports import metrics, status_page
    from ct_assets.reports.day import collect_day

    since = now - WINDOW_HOURS * 3600
    runs = collect_runs(instance, now=now, hours=WINDOW_HOURS)
    day = collect_day(
        platform.settings,
        runs,
        AlertBook(book_path(platform.layout)).since(since),
        now=now,
        hours=WINDOW_HOURS,
    )
    metrics.write(platform.layout, day)
    return status_page.write(platform.layout, day)


def failed_runs(instance: dg.DagsterInstance, now: float) -> Iterator[Alert]:
    """Yield each run that failed within the window."""
    since = datetime.fromtimestamp(now - WINDOW_HOURS * 3600).astimezone()
    wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    for record in instance.get_run_records(wanted, limit=CHECKS_LOOKED_AT):
        yield failure_of(instance, record)


def failed_checks(instance: dg.DagsterInstance, now: float) -> Iterator[Alert]:
    """Yield each check that failed within the window, with the partition of its run."""
    records = instance.event_log_storage.get_event_records(
        dg.EventRecordsFilter(
            dg.DagsterEventType.ASSET_CHECK_EVALUATION, after_timestamp=now - WINDOW_HOURS * 3600
        ),
        limit=CHECKS_LOOKED_AT,
    )
    partitions: dict[str, str | None] = {}
    for record in records:
        evaluation = record.event_log_entry.get_dagster_event().asset_check_evaluation_data
        if evaluation.passed:
            continue
        run_id = record.event_log_entry.run_id
        if run_id not in partitions:
            run = instance.get_run_by_id(run_id)
            partitions[run_id] = run.tags.get(PARTITION_TAG) if run else None
        stage = f"{evaluation.asset_key.to_user_string()}.{evaluation.check_name}"
        serious = evaluation.blocking or evaluation.severity == dg.AssetCheckSeverity.ERROR
        code = "safety_check_failed" if serious else "check_warned"
        yield Alert("check failed", stage, partitions[run_id], code, run_id or None)


def stuck_batches(instance: dg.DagsterInstance, platform: Platform, now: float) -> Iterator[Alert]:
    """Yield complete batches that nobody took, folders that never became one, and batches without a partition."""
    from ct_assets.intake.batches import complete_batches, incomplete, registered_names

    layout, patience = platform.layout, platform.settings.alerts.stuck_minutes * 60
    for waiting in complete_batches(layout):
        if now - _changed_at(layout.inbox_batch(waiting.batch)) > patience:
            yield Alert("stuck", "dicom_batch", waiting.batch, "batch_stuck")
    unfinished = [one.reason for one in incomplete(layout)]
    folders = [path for path in layout.inbox.iterdir() if path.is_dir()] if layout.inbox.is_dir() else []
    if folders and now - max(_changed_at(path) for path in folders) > patience:
        for code in sorted(set(unfinished)):
            yield Alert("stuck", "inbox", None, code, count=unfinished.count(code))
    known = set(instance.get_dynamic_partitions(BATCH))
    for registered in registered_names(layout):
        if registered not in known:
            yield Alert("stuck", "dicom_batch", registered, "partition_removed")


def stuck_runs(instance: dg.DagsterInstance, platform: Platform, now: float) -> Iterator[Alert]:
    """Yield runs that have waited or worked for longer than is usual."""
    settings = platform.settings.alerts
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNDER_WAY), limit=CHECKS_LOOKED_AT):
        run = record.dagster_run
        chosen = {key.to_user_string() for key in run.asset_selection or ()}
        heavy = run.job_name in ("cross_validation", "final_training") or any(
            GRAPH[name].group in HEAVY_GROUPS for name in chosen if name in GRAPH
        )
        patience = settings.training_hours * 3600 if heavy else settings.stuck_minutes * 60
        if now - record.create_timestamp.timestamp() > patience:
            yield Alert("stuck", job_of(run), run.tags.get(PARTITION_TAG), "run_stuck", run.run_id)


def still_behind(
    instance: dg.DagsterInstance, platform: Platform, before: dict[str, float], now: float
) -> dict[str, float]:
    """Return the automated assets that are not made from what their inputs are now, and since when we saw it.

    Age alone says nothing here: an asset is made again when an input's content changed, and not before.
    """
    records = provenance.Records(instance, ahead=True)
    behind = {}
    for name, node in GRAPH.items():
        if not node.automated or node.partition not in (None, "fold"):
            continue
        for key in provenance.partition_keys(instance, platform, name):
            made = records.latest(name, key) is not None
            if made and not provenance.is_current(records, platform, name, key):
                mark = f"{name}:{key or ''}"
                behind[mark] = min(before.get(mark, now), now)
    return behind


def stale_assets(platform: Platform, behind: dict[str, float], now: float) -> Iterator[Alert]:
    """Yield the assets that have been behind for longer than the settings allow."""
    for mark, since in behind.items():
        if now - since > platform.settings.alerts.stale_hours * 3600:
            name, _, key = mark.partition(":")
            yield Alert("stale", name, key or None, "asset_stale")


def overdue(platform: Platform, now: float) -> Iterator[Alert]:
    """Yield an alert when no batch was registered for longer than the settings expect."""
    from ct_assets.intake import deliveries

    days = platform.settings.alerts.delivery_days
    lines = deliveries.read(platform.layout) if days is not None else []
    if days is not None and lines:
        last = max(datetime.fromisoformat(line["recorded_at"]).timestamp() for line in lines)
        if now - last > days * 86400:
            yield Alert("stale", "inbox", None, "delivery_overdue")


def _changed_at(path: Path) -> float:
    """Return when a folder or its marker last changed; now where it just went."""
    try:
        return max(one.stat().st_ctime for one in (path, *path.glob(".complete")))
    except OSError:
        return time.time()

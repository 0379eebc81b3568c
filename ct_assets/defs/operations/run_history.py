"""What Dagster's instance knows of a day: its runs, their failures by reason, how long each asset took.

Belongs here: reading the instance into the value objects of `ct_assets.reports.day`. Errors are read for
reason codes and kinds only; their text stays in the instance.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.instance import JOB_TAG, PARTITION_TAG
from ct_assets.reports.alerts import Alert, code_in
from ct_assets.reports.day import Runs, StageTime

STATES = {
    dg.DagsterRunStatus.QUEUED: "queued",
    dg.DagsterRunStatus.NOT_STARTED: "queued",
    dg.DagsterRunStatus.STARTING: "working",
    dg.DagsterRunStatus.STARTED: "working",
    dg.DagsterRunStatus.CANCELING: "working",
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
}
UNDER_WAY = [status for status, state in STATES.items() if state in ("queued", "working")]
ENDED = [status for status, state in STATES.items() if state not in ("queued", "working")]
RUNS_LOOKED_AT = 2000
ROWS_A_STAGE = 2000
IMPLICIT_JOB = "__ASSET_JOB"

NO_SPACE = (
    "No space left on device",
    "DiskFull",
    "could not extend file",
    "database or disk is full",
    "disk I/O error",  # sqlite, where there is no room for its side file; a disk that fails reads the same
)
NO_SERVER = ("MlflowException", "ConnectionError", "OperationalError", "URLError", "EndpointConnectionError")


def collect_runs(instance: dg.DagsterInstance, *, now: float, hours: float) -> Runs:
    """Return what the instance knows of the last `hours`."""
    ended = instance.get_run_records(
        dg.RunsFilter(statuses=ENDED, updated_after=_moment(now - hours * 3600)), limit=RUNS_LOOKED_AT
    )
    under_way = instance.get_run_records(dg.RunsFilter(statuses=UNDER_WAY), limit=RUNS_LOOKED_AT)
    records = [*under_way, *ended]
    failed = [record for record in ended if record.dagster_run.status == dg.DagsterRunStatus.FAILURE]
    beats = [beat.timestamp for beat in instance.get_daemon_heartbeats().values()]
    return Runs(
        states=dict(Counter(STATES[record.dagster_run.status] for record in records)),
        waiting=[
            {
                "job": job_of(record.dagster_run),
                "partition": record.dagster_run.tags.get(PARTITION_TAG),
                "state": STATES[record.dagster_run.status],
                "minutes": max(0.0, now - record.create_timestamp.timestamp()) / 60,
            }
            for record in under_way
        ],
        failures=[
            (_text(record.end_time or record.update_timestamp.timestamp()), failure_of(instance, record))
            for record in failed
        ],
        stages=_stages(instance, now - hours * 3600),
        daemon_seen_at=max(beats, default=None),
    )


def failure_of(instance: dg.DagsterInstance, record: dg.RunRecord) -> Alert:
    """Return what to tell of a failed run: the stage that failed first, and why, as a reason code."""
    run = record.dagster_run
    failures = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    stage, code = job_of(run), "run_worker_lost"
    for failure in failures:
        event = failure.event_log_entry.get_dagster_event()
        stage = event.step_key or stage
        code = code_of(event.step_failure_data)
        break
    return Alert("run failed", stage, run.tags.get(PARTITION_TAG), code, run.run_id)


def job_of(run: dg.DagsterRun) -> str:
    """Return a run's job; for one that was requested by assets, the assets."""
    if run.job_name.startswith(IMPLICIT_JOB) and run.asset_selection:
        return ", ".join(sorted(key.to_user_string() for key in run.asset_selection)[:3])
    return run.tags.get(JOB_TAG, run.job_name)


def code_of(failure: Any) -> str:
    """Return the reason code of a failed step; of its message nothing but a registered code is used."""
    said = failure.user_failure_data.description if failure.user_failure_data else None
    error, chain = failure.error, []
    while error is not None:
        chain.append((error.cls_name or "", error.message or ""))
        error = error.cause
    if any(mark in message or mark in kind for kind, message in chain for mark in NO_SPACE):
        return "disk_full"
    if said is not None:
        return code_in(said) or ("disk_full" if " GB free" in said else "stage_refused")
    if any(kind in NO_SERVER for kind, _ in chain):
        return "tracking_away"
    if any(kind == "DagsterExecutionInterruptedError" for kind, _ in chain):
        return "run_worker_lost"
    return "stage_crashed"


def _stages(instance: dg.DagsterInstance, since: float) -> list[StageTime]:
    """Return how long each asset took, in the order of the graph."""
    found = []
    for name in GRAPH:
        wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(name), after_timestamp=since)
        made: list[Mapping[str, Any]] = [
            record.asset_materialization.metadata
            for record in instance.fetch_materializations(wanted, limit=ROWS_A_STAGE).records
            if record.asset_materialization is not None
        ]
        seconds = [float(data["seconds"].value) for data in made if "seconds" in data]
        peaks = [float(data["peak_memory_mb"].value) for data in made if "peak_memory_mb" in data]
        if seconds:
            found.append(StageTime(name, len(made), sum(seconds), max(seconds), max(peaks, default=None)))
    return found


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _text(seconds: float) -> str:
    return _moment(seconds).isoformat(timespec="seconds")

"""Runs of other processes at the same work: a command and the daemon never do one partition twice.

Belongs here: finding such a run and waiting for it. The lock of a single step is `defs.engine.step_lock`; a place in a
pool is `defs.engine.pools`.
"""

import time
from collections.abc import Collection

import dagster as dg

from ct_assets import progress
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.instance import PARTITION_TAG
from ct_assets.defs.engine.lost_runs import end_lost
from ct_assets.layout import Layout

SECONDS_BETWEEN_LOOKS = 2.0
DAEMON_LOST_S = 120.0
"""Without a heartbeat for so long nobody begins a queued run."""
WORKING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]


def at_work(instance: dg.DagsterInstance, names: Collection[str], key: str | None) -> list[str]:
    """Return the IDs of runs that make any of the assets `names` of partition `key`, or will with a living daemon."""
    beats = [beat.timestamp for beat in instance.get_daemon_heartbeats().values()]
    has_daemon = bool(beats) and time.time() - max(beats) < DAEMON_LOST_S
    tags = {} if key is None else {PARTITION_TAG: key}
    wanted = dg.RunsFilter(statuses=[*WORKING, *(WAITING if has_daemon else [])], tags=tags)
    return [run.run_id for run in instance.get_runs(wanted) if _made_by(instance, run) & set(names)]


def wait_for_others(
    instance: dg.DagsterInstance, layout: Layout, names: Collection[str], key: str | None
) -> bool:
    """Return once nobody else is at work on the partition; whether there was anybody."""
    waited: list[str] = []
    while runs := at_work(instance, names, key):
        if runs != waited:
            shown = ", ".join(run[:8] for run in runs)
            progress.say(f"{', '.join(names)}: run {shown} is at work on it; waiting for it to end")
            waited = runs
        time.sleep(SECONDS_BETWEEN_LOOKS)
        end_lost(instance, layout)
    return bool(waited)


def _made_by(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """Return the assets that a run makes; of a whole job, what its snapshot's plan says."""
    if run.asset_selection:
        return {key.to_user_string() for key in run.asset_selection}
    if run.execution_plan_snapshot_id is None:
        return set()
    plan = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    made = {
        output.properties.asset_key.to_user_string()
        for step in plan.steps
        for output in step.outputs
        if output.properties is not None and output.properties.asset_key is not None
    }
    return made & set(GRAPH)

"""A place in a pool (trainings, one a device): a command waits for it here before it begins its run.

Belongs here: the wait. Dagster would wait as well, but inside the run, without a word and deaf to Ctrl-C and
SIGTERM. How many places a pool has is `dagster.yaml`'s and the UI's.
"""

import time
from collections.abc import Iterable

import dagster as dg

from ct_assets import progress
from ct_assets.defs.engine.lost_runs import end_lost
from ct_assets.layout import Layout

SECONDS_BETWEEN_LOOKS = 2.0


def wait_for_place(instance: dg.DagsterInstance, layout: Layout, pools: Iterable[str]) -> None:
    """Return once each of the pools has a place that no living run holds; say whom it waits for."""
    for pool in sorted(pools):
        waits_for: set[str] = set()
        while holders := _holders(instance, pool):
            if holders != waits_for:
                waits_for = holders
                runs = ", ".join(sorted(run[:8] for run in holders))
                progress.say(f"waiting for a place in the pool {pool}: taken by run {runs}")
            time.sleep(SECONDS_BETWEEN_LOOKS)
            end_lost(instance, layout)


def _holders(instance: dg.DagsterInstance, pool: str) -> set[str]:
    """Return the runs that hold the pool's places, or are the next to get one; none where a place is free."""
    info = instance.event_log_storage.get_concurrency_info(pool)
    taken = info.active_slot_count + info.assigned_step_count
    return set() if info.limit is None or taken < info.limit else info.active_run_ids | info.assigned_run_ids

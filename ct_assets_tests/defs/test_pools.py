"""A command waits for a place in a pool as long as a living run holds it, and no longer."""

import threading
import time
import uuid

import dagster as dg
import pytest

from ct_assets import progress
from ct_assets.defs.engine import lost_runs, pools
from ct_assets.layout import Layout

POOL = "training"


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path)


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "SECONDS_BETWEEN_LOOKS", 0.05)
    (tmp_path / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as opened:
        opened.event_log_storage.set_concurrency_slots(POOL, 1)
        yield opened


def hold(instance):
    run_id = str(uuid.uuid4())
    claim = instance.event_log_storage.claim_concurrency_slot(POOL, run_id, "fold_model")
    assert claim.is_claimed
    return run_id


def test_a_free_pool_and_one_without_a_limit_are_not_waited_for(instance, layout):
    pools.wait_for_place(instance, layout, {POOL, "unknown"})


def test_a_living_run_is_waited_for_by_name(instance, layout):
    holder, said = hold(instance), []

    def wait():
        with progress.lines_to(said.append):
            pools.wait_for_place(instance, layout, {POOL})

    with lost_runs.alive(layout, holder):
        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
        assert waiting.is_alive()
        instance.event_log_storage.free_concurrency_slot_for_step(holder, "fold_model")
        waiting.join(60)
    assert not waiting.is_alive()
    assert said == [f"waiting for a place in the pool training: taken by run {holder[:8]}"]


def test_a_run_whose_process_is_gone_is_not_waited_for(instance, layout):
    holder = hold(instance)
    with pytest.raises(OSError, match="killed"), lost_runs.alive(layout, holder):
        raise OSError("killed")
    pools.wait_for_place(instance, layout, {POOL})
    assert instance.event_log_storage.get_concurrency_info(POOL).active_slot_count == 0


def test_one_that_was_killed_while_it_waited_does_not_come_first(instance, layout):
    """Its claim is next in the queue of the pool; a place that becomes free would be kept for it."""
    holder, waiting = hold(instance), str(uuid.uuid4())
    claim = instance.event_log_storage.claim_concurrency_slot(POOL, waiting, "fold_model")
    assert not claim.is_claimed
    with pytest.raises(OSError, match="killed"), lost_runs.alive(layout, waiting):
        raise OSError("killed")
    instance.event_log_storage.free_concurrency_slot_for_step(holder, "fold_model")
    pools.wait_for_place(instance, layout, {POOL})

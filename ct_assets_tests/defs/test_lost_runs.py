"""A run whose process was killed is ended as failed; one that lives is left alone, whatever its records say."""

import contextlib
import os
import signal
import subprocess
import sys

import dagster as dg
import pytest

from ct_assets.defs.engine import lost_runs
from ct_assets.layout import Layout

WORKER = """
import sys, time, uuid
from pathlib import Path
import dagster as dg
from ct_assets.defs.engine import lost_runs
from ct_assets.layout import Layout

root, way, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
layout = Layout(root)

@dg.op
def work(context):
    print(context.run_id, flush=True)
    time.sleep(seconds)

@dg.job(executor_def=lost_runs.giving_signs(getattr(dg, way, dg.in_process_executor), layout))
def a_job():
    work()

if __name__ == "__main__":
    with dg.DagsterInstance.local_temp(str(root / "instance")) as instance:
        if way == "command":
            run_id = str(uuid.uuid4())
            with lost_runs.alive(layout, run_id):
                a_job.execute_in_process(instance=instance, run_id=run_id)
        else:
            dg.execute_job(dg.reconstructable(a_job), instance)
"""
WAYS = ("command", "in_process_executor", "multiprocess_executor")
"""A run of a command, and the two ways in which a worker of Dagster's launcher executes the steps."""


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path)


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as opened:
        yield opened


@pytest.fixture
def worker(tmp_path):
    """Return how to start a run in a process of its own; all are ended with the test."""
    started = []
    script = tmp_path / "worker.py"
    script.write_text(WORKER)

    def start(way, seconds):
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), way, str(seconds)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        kill(process)
        process.stdout.close()


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def status_of(instance, run_id):
    return instance.get_run_by_id(run_id).status


@pytest.mark.parametrize("way", WAYS)
def test_a_run_is_lost_once_its_process_is_killed_and_not_before(way, worker, instance, layout):
    process, run_id = worker(way, 600)
    assert lost_runs.end_lost(instance, layout) == 0
    assert status_of(instance, run_id) == dg.DagsterRunStatus.STARTED
    kill(process)
    assert status_of(instance, run_id) == dg.DagsterRunStatus.STARTED, "nobody else notices"
    assert lost_runs.end_lost(instance, layout) == 1
    assert status_of(instance, run_id) == dg.DagsterRunStatus.FAILURE
    assert lost_runs.end_lost(instance, layout) == 0


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_run_that_ended_well_stays_so_and_leaves_nothing(way, worker, instance, layout):
    process, run_id = worker(way, 0)
    assert process.wait() == 0
    assert lost_runs.end_lost(instance, layout) == 0
    assert status_of(instance, run_id) == dg.DagsterRunStatus.SUCCESS
    assert [path.name for path in (layout.dagster_home / "working").iterdir()] == []


def recorded(instance, status):
    """Return the id of a run of which only the record is there."""

    @dg.job
    def nothing():
        pass

    return instance.create_run_for_job(nothing, status=status).run_id


def test_a_run_without_a_sign_is_not_judged(instance, layout):
    """It may be at work on another machine, or not have begun."""
    run_id = recorded(instance, dg.DagsterRunStatus.STARTED)
    assert lost_runs.end_lost(instance, layout) == 0
    assert status_of(instance, run_id) == dg.DagsterRunStatus.STARTED


@pytest.mark.parametrize(
    ("status", "ends_as"),
    [
        (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED),  # what failed the daemon tries again
    ],
)
def test_a_block_that_raises_keeps_the_sign_for_whoever_looks_next(instance, layout, status, ends_as):
    run_id = recorded(instance, status)

    def cut_off():
        with lost_runs.alive(layout, run_id):
            assert lost_runs.end_lost(instance, layout) == 0
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        cut_off()
    assert lost_runs.end_lost(instance, layout) == 1
    assert status_of(instance, run_id) == ends_as


def test_a_run_that_is_forgotten_leaves_no_sign(instance, layout):
    with pytest.raises(OSError, match="no room"), lost_runs.alive(layout, "1a1a1a1a"):
        raise OSError("no room")
    assert lost_runs.end_lost(instance, layout) == 0
    assert not list((layout.dagster_home / "working").glob("*.pid"))

"""Runs whose process is gone (killed, out of memory, power lost): found, and ended as failed.

Belongs here: the sign of life of a run and ending the runs that gave one and live no more. Dagster's local
launcher does not look after its processes, so such a run would count as working for ever: its partition and
its places in queue and pools stay taken, nobody tries it again, and a withdrawal is refused. Runs that were
lost on a cluster are found by the cluster's launcher.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import filelock
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig

from ct_assets import files
from ct_assets.layout import Layout

GONE = "The process of this run is gone: it was killed, ran out of memory, or its machine stopped."

_held: list[filelock.BaseFileLock] = []


def end_lost(instance: dg.DagsterInstance, layout: Layout) -> int:
    """End what counts as working and has no process any more, as failed; return how many runs that were.

    Only runs that gave a sign on this file system are judged: they hold a lock as long as they live, which
    no clock, restart or reused process id can feign.
    """
    ended = 0
    for sign in sorted(_folder(layout).glob("*.pid")):
        lock = _lock(sign)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            continue
        try:
            run = instance.get_run_by_id(sign.stem)
            if run is not None and not run.is_finished:
                is_unwanted = run.status == dg.DagsterRunStatus.CANCELING  # then it must not be tried again
                report = instance.report_run_canceled if is_unwanted else instance.report_run_failed
                report(run, GONE)
                ended += 1
            instance.event_log_storage.free_concurrency_slots_for_run(sign.stem)
            _remove(sign)
        finally:
            lock.release()
    return ended


@contextmanager
def alive(layout: Layout, run_id: str) -> Iterator[None]:
    """Give the sign of life of a run that is done when the block ends.

    After an exception the run may stand unfinished in Dagster's records: its sign stays, for `end_lost`.
    """
    lock = _give_sign(layout, run_id)
    try:
        yield
        _remove(_sign(layout, run_id))
    finally:
        lock.release()


def giving_signs(executor: dg.ExecutorDefinition, layout: Layout) -> dg.ExecutorDefinition:
    """Return the same executor, whose run gives its sign of life until its process ends.

    To be wrapped before it is configured: configuration is of the definition, not of what it makes.
    """
    create = executor.executor_creation_fn
    if create is None:
        raise TypeError(f"the executor {executor.name} cannot be made")
    schema: Any = executor.config_schema  # taken as it is; its annotation admits only what people write
    return dg.ExecutorDefinition(
        name=executor.name,
        config_schema=schema,
        requirements=executor.get_requirements,
        executor_creation_fn=lambda context: _Alive(create(context), layout),
        description=executor.description,
    )


class _Alive(dg.Executor):
    """An executor that gives the sign of its run before it begins."""

    def __init__(self, executor: dg.Executor, layout: Layout) -> None:
        self._executor, self._layout = executor, layout

    @property
    def retries(self) -> RetryMode:
        return self._executor.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return self._executor.step_dependency_config

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        # The run is marked as ended after this: the lock is left to the end of the process, one a run.
        _held.append(_give_sign(self._layout, plan_context.run_id))
        yield from self._executor.execute(plan_context, execution_plan)


def _give_sign(layout: Layout, run_id: str) -> filelock.BaseFileLock:
    sign = _sign(layout, run_id)
    sign.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(sign)
    lock.acquire()
    files.write_bytes(sign, f"{socket.gethostname()} {os.getpid()}\n".encode())
    return lock


def _remove(sign: Path) -> None:
    sign.unlink(missing_ok=True)
    sign.with_suffix(".lock").unlink(missing_ok=True)


def _lock(sign: Path) -> filelock.BaseFileLock:
    return filelock.FileLock(sign.with_suffix(".lock"), mode=0o600, thread_local=False)


def _sign(layout: Layout, run_id: str) -> Path:
    return _folder(layout) / f"{run_id}.pid"


def _folder(layout: Layout) -> Path:
    return layout.dagster_home / "working"

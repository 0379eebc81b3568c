"""`ct-assets run`: materialize what is missing or stale, in order, without a UI or a daemon.

Belongs here: which assets of which partitions need work, and running them through the same definitions.
What an asset does, and what makes it stale, is decided elsewhere.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster_shared.error import SerializableErrorInfo

from ct_assets import machine_faults, progress
from ct_assets.defs.assets.deid import DESCRIPTIONS as MADE_IN_ONE_PASS
from ct_assets.defs.engine import partitions, provenance
from ct_assets.defs.engine.build import build_definitions
from ct_assets.defs.engine.graph import GRAPH, TRAINING_DOOR
from ct_assets.defs.engine.lost_runs import alive, end_lost
from ct_assets.defs.engine.other_runs import wait_for_others
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.pools import wait_for_place
from ct_assets.defs.engine.stage import COMMAND, LAUNCHED_BY
from ct_assets.defs.operations.run_history import code_of
from ct_assets.errors import SafetyError, UsageError
from ct_assets.settings import Settings

MADE_TOGETHER = frozenset(MADE_IN_ONE_PASS)
SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Dagster's own lines stay in its event log; the terminal shows the work's progress and what failed."""


@dataclass
class Outcome:
    """What a run of the pipeline did."""

    made: list[tuple[str, str | None]] = field(default_factory=list)
    """Assets and partitions that were materialized."""
    failed: list[str] = field(default_factory=list)
    """One line a failed piece of work, in the words of its error."""
    unsafe: bool = False
    """True where a safety check failed."""
    cohort_failed: bool = False
    """True where work on the whole cohort failed: what stands behind it waits."""

    def raise_failures(self) -> None:
        """Raise what failed as the error that gives the command its exit code."""
        if self.failed:
            kind = SafetyError if self.unsafe else UsageError
            raise kind("; ".join(self.failed))


class Pipeline:
    """Runs the graph of one platform over its instance, in this process."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.platform = Platform(settings)
        self.platform.admit()
        self.instance = instance
        if lost := end_lost(instance, self.platform.layout):
            progress.say(
                f"runs ended as failed, since their process is gone: {lost}; their work is done again"
            )
        self._definitions = build_definitions(settings)
        self._job = self._definitions.resolve_implicit_global_asset_job_def()
        self._blocking: dict[str, list[dg.AssetCheckKey]] = {}
        for node in self._definitions.resolve_asset_graph().asset_check_nodes:
            if node.blocking:
                self._blocking.setdefault(node.key.asset_key.to_user_string(), []).append(node.key)
        self.records = provenance.Records(instance, ahead=True)
        self._failed: dict[str, bool] = {}
        self.outcome = Outcome()

    def register_batches(self) -> list[str]:
        """Make a partition of every complete batch in the inbox; return their names.

        A registered batch whose partition somebody deleted in the UI gets it back: its data are there.
        """
        from ct_assets.intake.batches import registered_names, settled_batches

        settle_seconds = self.platform.settings.intake.settle_seconds
        waiting = settled_batches(self.platform.layout, now=time.time(), settle_seconds=settle_seconds)
        found = [one.batch for one in waiting]
        known = set(self.instance.get_dynamic_partitions(partitions.BATCH))
        wanted = dict.fromkeys([*found, *registered_names(self.platform.layout)])
        if new := [batch for batch in wanted if batch not in known]:
            self.instance.add_dynamic_partitions(partitions.BATCH, new)
        return found

    def refresh(self, names: list[str], keys: Sequence[str | None] | None = None) -> None:
        """Materialize those of `names` that are stale, partition by partition, in the order of the graph.

        All of `names` have the same kind of partition. What stands behind a failed piece is left for the
        next run; other partitions go on.
        """
        for key in (
            keys if keys is not None else provenance.partition_keys(self.instance, self.platform, names[0])
        ):
            stale = self.stale(names, key)
            if stale and wait_for_others(self.instance, self.platform.layout, stale, key):
                self._forget_records()
                stale = self.stale(names, key)
            if stale:
                self._run(stale, key)

    def _forget_records(self) -> None:
        """Read the instance again: another process has materialized something."""
        self.records = provenance.Records(self.instance, ahead=True)
        self._failed.clear()

    def add_experiment(self, experiment: str, kind: partitions.Kind = partitions.EXPERIMENT) -> None:
        """Make a partition of an experiment's name; `kind` is that of the system's assets."""
        self.instance.add_dynamic_partitions(partitions.dynamic_name(kind), [experiment])

    def stale(self, names: list[str], key: str | None) -> list[str]:
        """Return the assets to make: those whose inputs changed, and what of `names` stands behind them.

        What one pass makes together is stale together: a run that was cut off may have recorded a part.
        """
        stale: list[str] = []
        for name in names:
            together = MADE_TOGETHER if name in MADE_TOGETHER else {name}
            behind = any(dep in stale for each in together for dep in GRAPH[each].deps)
            if behind or not all(self._holds(each, key) for each in together):
                stale.append(name)
        return stale

    def _holds(self, name: str, key: str | None) -> bool:
        """Tell whether an asset is current and no safety check of it stands failed."""
        if name not in self._failed:
            checks = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(
                self._blocking.get(name, [])
            )
            failed = AssetCheckExecutionRecordStatus.FAILED
            self._failed[name] = any(record.status == failed for record in checks.values())
        return not self._failed[name] and provenance.is_current(self.records, self.platform, name, key)

    def _pools(self, names: list[str]) -> set[str]:
        graph = self._definitions.resolve_asset_graph()
        return {pool for name in names for pool in graph.get(dg.AssetKey(name)).pools or ()}

    def _run(self, names: list[str], key: str | None) -> None:
        where = f" of {key}" if key else ""
        progress.say(f"{', '.join(names)}{where}")
        wait_for_place(self.instance, self.platform.layout, self._pools(names))
        run_id = str(uuid.uuid4())
        try:
            with alive(self.platform.layout, run_id):
                result = self._job.execute_in_process(
                    asset_selection=[dg.AssetKey(name) for name in names],
                    partition_key=key,
                    instance=self.instance,
                    raise_on_error=False,
                    tags={LAUNCHED_BY: COMMAND},
                    run_config=SILENT,
                    run_id=run_id,
                )
        except Exception as error:
            said = machine_faults.told(error)
            if said is None:
                raise
            # Dagster could not write its own records: no other partition would fare better.
            self.outcome.failed.append(f"{names[0]}{where}: {said}")
            self.outcome.raise_failures()
            raise
        made = []
        for event in result.get_asset_materialization_events():
            if event.asset_key:
                made.append(event.asset_key.to_user_string())
                self.records.note(made[-1], key, event.step_materialization_data.materialization)
        for name in names:
            self._failed.pop(name, None)
        self.outcome.made += [(name, key) for name in made]
        if any(_is_interrupt(event.step_failure_data.error) for event in result.get_step_failure_events()):
            raise KeyboardInterrupt
        if not result.success:
            self.outcome.cohort_failed |= key is None
            self.outcome.failed += [f"{names[0]}{where}: {line}" for line in self._failures(result)]

    def _failures(self, result: dg.ExecuteInProcessResult) -> Iterator[str]:
        """Yield the reason of each failed step and the name of each failed blocking check."""
        for evaluation in result.get_asset_check_evaluations():
            if not evaluation.passed and evaluation.blocking:
                self.outcome.unsafe = True
                yield f"the safety check {evaluation.check_name} of {evaluation.asset_key.to_user_string()} failed"
        for event in result.get_step_failure_events():
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                yield data.user_failure_data.description
            elif code_of(data) == "disk_full":
                yield machine_faults.DISK_FULL
            elif not any(
                check.blocking and not check.passed for check in result.get_asset_check_evaluations()
            ):
                error = data.error.cause if data.error and data.error.cause else data.error
                kind = error.cls_name if error else "failure"
                yield f"unexpected {kind} in {event.step_key}; its run in the UI has the details"


def _is_interrupt(error: SerializableErrorInfo | None) -> bool:
    """Tell whether a step ended because somebody stopped the run; what was done until then is saved."""
    names = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
    while error is not None:
        if error.cls_name in names:
            return True
        error = error.cause
    return False


def batch_assets() -> list[str]:
    """Return the assets of one batch, in order."""
    return [name for name, node in GRAPH.items() if node.partition == "batch"]


def run_to_the_door(pipeline: Pipeline, until: str | None = None) -> None:
    """Register what waits in the inbox and make everything as far as training's door, or as far as `until`."""
    if until is not None and until not in GRAPH:
        raise UsageError(f"--until {until}: no such asset; there are {', '.join(GRAPH)}")
    pipeline.register_batches()
    wanted = _upstream_of(until) if until else set(GRAPH)
    pipeline.refresh([name for name in batch_assets() if name in wanted])
    for kind in (None, "fold"):
        names = [
            name
            for name, node in GRAPH.items()
            if node.partition == kind and node.automated and name in wanted
        ]
        if names and _has_inputs(pipeline, names, kind):
            pipeline.refresh(names)


def _has_inputs(pipeline: Pipeline, names: list[str], kind: str | None) -> bool:
    """Tell whether what the next part of the graph reads was ever made, and did not fail just now."""
    first_inputs = {"nifti_cohort"}
    if kind is None:
        first_inputs = {dep for name in names for dep in GRAPH[name].deps if GRAPH[dep].partition == "batch"}
    made = all(_was_made(pipeline, name) for name in first_inputs)
    return made and (kind is None or not pipeline.outcome.cohort_failed)


def _was_made(pipeline: Pipeline, name: str) -> bool:
    keys = provenance.partition_keys(pipeline.instance, pipeline.platform, name)
    return any(pipeline.records.data_versions(name, keys).values())


def _upstream_of(name: str) -> set[str]:
    """Return an asset with all that it is made from; what one pass makes together is never made in part."""
    found = {name}
    for dep in GRAPH[name].deps:
        found |= _upstream_of(dep)
    return found | MADE_TOGETHER if found & MADE_TOGETHER else found


__all__ = ["TRAINING_DOOR", "Outcome", "Pipeline", "run_to_the_door"]

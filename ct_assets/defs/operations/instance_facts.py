"""What `ct-assets status` shows of Dagster's instance: what is stale and why, what failed, which batches were refused.

Belongs here: reading the instance into the value objects of `ct_assets.reports.status`.
"""

import time
from collections import Counter, defaultdict

import dagster as dg

from ct_assets.defs.engine import provenance
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.instance import PARTITION_TAG, open_instance
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations.run_history import collect_runs
from ct_assets.reports.status import NO_FACTS, InstanceFacts
from ct_assets.settings import Settings

HOURS = 24.0
PARTITIONS_SHOWN = 3


def instance_facts(settings: Settings) -> InstanceFacts:
    """Return the facts of a platform; none where nothing was ever run on it."""
    if not settings.layout.dagster_home.is_dir() and settings.service.database is None:
        return NO_FACTS
    platform = Platform(settings)
    with open_instance(settings) as instance:
        runs = collect_runs(instance, now=time.time(), hours=HOURS)
        failures = Counter(
            (alert.kind, alert.stage, alert.partition, alert.code) for _, alert in runs.failures
        )
        first = {(one.kind, one.stage, one.partition, one.code): one for _, one in runs.failures}
        return InstanceFacts(
            stale=tuple(stale_lines(instance, platform)),
            failures=tuple((first[identity], count) for identity, count in failures.items()),
            refused=frozenset(_refused(instance, platform)),
        )


def stale_lines(instance: dg.DagsterInstance, platform: Platform) -> list[str]:
    """Return what is stale by its own inputs, a line an asset and cause, with the command that makes it again."""
    records = provenance.Records(instance, ahead=True)
    lines = []
    for name, node in GRAPH.items():
        by_cause: dict[tuple[str, ...], list[str | None]] = defaultdict(list)
        for key in provenance.partition_keys(instance, platform, name):
            if (changed := provenance.why_stale(records, platform, name, key)) is not None:
                by_cause[tuple(changed)].append(key)
        for causes, keys in by_cause.items():
            again = "`ct-assets train`" if node.group in ("training", "evaluation") else "`ct-assets run`"
            why = ", ".join(causes) if causes else "its inputs"
            lines.append(f"{name}{_partitions(keys)}: {why} changed; {again} makes it again")
    return lines


def _partitions(keys: list[str | None]) -> str:
    named = [key for key in keys if key is not None]
    if not named:
        return ""
    more = f" and {len(named) - PARTITIONS_SHOWN} more" if len(named) > PARTITIONS_SHOWN else ""
    return f" of {', '.join(named[:PARTITIONS_SHOWN])}{more}"


def _refused(instance: dg.DagsterInstance, platform: Platform) -> list[str]:
    """Return the complete batches of the inbox whose last run ended as failed."""
    from ct_assets.intake.batches import complete_batches

    refused = []
    for found in complete_batches(platform.layout):
        last = instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: found.batch}), limit=1)
        if last and last[0].status == dg.DagsterRunStatus.FAILURE:
            refused.append(found.batch)
    return refused

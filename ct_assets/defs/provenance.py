"""What an asset was made from, and whether that still holds.

Belongs here: the digest of an asset's inputs (data versions upstream, settings, code version, outside
files), stored with each materialization. `ct-assets run` makes an asset again when the digest changed.
"""

from collections.abc import Sequence

import dagster as dg

from ct_assets import files
from ct_assets.defs import partitions
from ct_assets.defs.graph import GRAPH
from ct_assets.defs.platform import Platform

INPUT_DIGEST = "input_digest"


def input_digest(instance: dg.DagsterInstance, platform: Platform, name: str, partition: str | None) -> str:
    """Return the digest of everything that decides the asset's content now."""
    node = GRAPH[name]
    upstream = {
        dep: {
            str(key): data_version(instance, dep, key)
            for key in _upstream(instance, platform, dep, name, partition)
        }
        for dep in node.deps
    }
    return files.digest_of(
        {
            "code_version": node.code_version,
            "settings": {
                section: getattr(platform.settings, section).model_dump(mode="json")
                for section in node.sections
            },
            "external": None if node.external is None else node.external(platform, partition),
            "upstream": upstream,
        }
    )


def is_current(instance: dg.DagsterInstance, platform: Platform, name: str, partition: str | None) -> bool:
    """Tell whether the last materialization was made from what its inputs are now."""
    recorded = _latest(instance, name, partition)
    if recorded is None or INPUT_DIGEST not in recorded.metadata:
        return False
    return recorded.metadata[INPUT_DIGEST].value == input_digest(instance, platform, name, partition)


def data_version(instance: dg.DagsterInstance, name: str, partition: str | None) -> str | None:
    """Return the data version of the last materialization, None where there is none."""
    latest = _latest(instance, name, partition)
    return None if latest is None else (latest.tags or {}).get("dagster/data_version")


def partition_keys(instance: dg.DagsterInstance, platform: Platform, name: str) -> Sequence[str | None]:
    """Return every partition key that the asset has now; `[None]` for one over the whole cohort."""
    kind = GRAPH[name].partition
    if kind is None:
        return [None]
    if kind == "batch":
        return sorted(instance.get_dynamic_partitions(partitions.BATCH))
    if kind == "experiment":
        return sorted(instance.get_dynamic_partitions(partitions.EXPERIMENT))
    if kind == "study":
        return sorted(instance.get_dynamic_partitions(partitions.STUDY))
    if kind == "derived":
        return sorted(platform.settings.derived)
    folds = partitions.fold_names(platform.settings)
    if kind == "fold":
        return folds
    experiments = sorted(instance.get_dynamic_partitions(partitions.EXPERIMENT))
    return [partitions.join_key(experiment, fold) for experiment in experiments for fold in folds]


def _upstream(
    instance: dg.DagsterInstance, platform: Platform, dep: str, name: str, partition: str | None
) -> list[str | None]:
    every = [key for key in partition_keys(instance, platform, dep) if key is not None]
    return partitions.upstream_keys(GRAPH[dep].partition, GRAPH[name].partition, partition, every)


def _latest(instance: dg.DagsterInstance, name: str, partition: str | None) -> dg.AssetMaterialization | None:
    wanted = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey(name), asset_partitions=None if partition is None else [partition]
    )
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].asset_materialization if records else None

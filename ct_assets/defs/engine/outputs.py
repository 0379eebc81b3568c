"""The outputs of assets: recorded when they are written, compared with the disk by `run`, `train` and `status`.

Belongs here: the calls. Which files count as an asset's output is in its row of the graph table, the record itself
in `storage.outputs`.
"""

from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.platform import Platform
from ct_assets.storage.outputs import Difference, OutputRecords


def record(platform: Platform, name: str, partition: str | None) -> None:
    """Record the outputs of an asset that was just materialized."""
    records = OutputRecords.of(platform.settings)
    patterns = GRAPH[name].outputs
    if patterns is not None and records is not None:
        records.write(name, _record_key(name, partition), patterns(partition or ""))


def discard_changed(platform: Platform, name: str, partition: str | None) -> None:
    """Remove the outputs of an incremental asset that were changed on disk, so that its work writes them again."""
    if not GRAPH[name].is_incremental:
        return
    found = difference(platform, name, partition)
    for path in found.changed if found else ():
        (platform.layout.root / path).unlink()


def difference(platform: Platform, name: str, partition: str | None) -> Difference | None:
    """Return what of an asset's outputs is missing or changed; None where nothing is, or none is recorded."""
    records = OutputRecords.of(platform.settings)
    return None if records is None else records.difference(name, _record_key(name, partition))


def _record_key(name: str, partition: str | None) -> str | None:
    """Return the partition that a record is of; None where all partitions write the same files (final sets)."""
    patterns = GRAPH[name].outputs
    return None if patterns is None or patterns("") == patterns(partition or "") else partition

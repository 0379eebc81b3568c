"""The outputs of assets: recorded when they are written, compared with the disk by `run`, `train` and `status`.

Belongs here: the two calls. Which files count as an asset's output is in its row of the graph table, the record itself
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
        records.write(name, partition, patterns(partition or ""))


def difference(platform: Platform, name: str, partition: str | None) -> Difference | None:
    """Return what of an asset's outputs is missing or changed; None where nothing is, or none is recorded."""
    records = OutputRecords.of(platform.settings)
    return None if records is None else records.difference(name, partition)

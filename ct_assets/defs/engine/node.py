"""One row of the graph table.

Belongs here: what the table says of an asset. The table is `defs.engine.graph`; a system may bring rows of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ct_assets.defs.engine.partitions import Kind
from ct_assets.defs.engine.platform import Platform


@dataclass(frozen=True)
class Node:
    """One asset's place in the graph."""

    group: str
    partition: Kind | None
    deps: tuple[str, ...]
    sections: tuple[str, ...] = ()
    """Sections of the settings that decide the result, or single settings (`labels.stages`, `derived.{partition}`)."""
    external: Callable[[Platform, str | None], Any] | None = None
    """What the asset reads that no other asset makes and that is no single file (a marker, a folder)."""
    files: tuple[str, ...] = ()
    """Settings that name an outside file (`labels.csv`): its content counts, wherever it lies."""
    after: Callable[[Platform, str | None], Any] | None = None
    """As `external`, but known only when the work is done, since it follows from what the work writes too."""
    after_files: tuple[str, ...] = ()
    """Settings of the outside files that `after` reads: one that changed during the work counts as not used."""
    places: tuple[str, ...] = ()
    """Attributes of `Layout` where the asset writes; it and what depends on it may use them."""
    outputs: Callable[[str], tuple[str, ...]] | None = None
    """Of a partition, the files that count as its output, as patterns relative to the data root."""
    is_incremental: bool = False
    """The work keeps outputs that are there: those that were changed on disk are removed before it begins."""
    kinds: frozenset[str] = frozenset({"python"})
    automated: bool = True
    code_version: str = "1"

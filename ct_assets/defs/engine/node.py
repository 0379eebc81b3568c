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
    """Sections of the settings that decide the result, or single settings (`labels.stages`)."""
    external: Callable[[Platform, str | None], Any] | None = None
    """What the asset reads that no other asset makes (a marker, the clinic's table, a query)."""
    kinds: frozenset[str] = frozenset({"python"})
    automated: bool = True
    code_version: str = "1"

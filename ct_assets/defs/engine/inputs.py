"""What an asset's body may read: settings, places, tables and outside files that its row of the graph table declares.

Belongs here: the object that a body gets in place of settings and paths, and the refusal of what is not declared. What
is declared is in `defs.engine.graph`; how it decides whether an asset is stale, in `defs.engine.provenance`.

The secret key, who has withdrawn, the number of workers and the tracking server are of the platform and open to all.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ct_assets.defs.engine import stored_tables
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.platform import Platform
from ct_assets.layout import Layout

if TYPE_CHECKING:
    from ct_assets.identity.key import SecretKey
    from ct_assets.identity.withdrawn import Withdrawn

OPEN_PLACES = frozenset(
    {
        *("root", "relative", "restricted", "make_restricted", "reports", "store"),
        *("dagster_home", "mlflow", "storage_state", "key_record", "platform_record"),
        *("tombstones", "withdrawal_under_way", "withdrawals_due", "retired"),
    }
)
"""Attributes of `Layout` that every asset may use: pages, stores by content, records of the platform itself."""


class UndeclaredInputError(Exception):
    """An asset's body reads what its row of the graph table does not declare: a fault of the program."""


@dataclass(frozen=True)
class DeclaredLayout(Layout):
    """The layout as far as an asset may use it; any other place raises `UndeclaredInputError`."""

    assets: tuple[str, ...]
    places: frozenset[str]

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in ("assets", "places", "root"):
            return super().__getattribute__(name)
        if name not in self.places and name not in OPEN_PLACES:
            raise UndeclaredInputError(
                f"{', '.join(self.assets)}: reads layout.{name}, which none of its declared inputs writes"
            )
        return getattr(Layout(self.root), name)


class Inputs:
    """What the assets of one step may read."""

    def __init__(self, platform: Platform, assets: tuple[str, ...], partition: str | None) -> None:
        self._platform, self.assets, self.partition = platform, assets, partition
        self._nodes = [GRAPH[name] for name in assets]

    @cached_property
    def layout(self) -> Layout:
        """The places of these assets and of those that they depend on."""
        upstream = {dep for node in self._nodes for dep in node.deps}
        places = {place for name in (*self.assets, *upstream) for place in GRAPH[name].places}
        return DeclaredLayout(self._platform.layout.root, self.assets, frozenset(places))

    def setting(self, name: str) -> Any:
        """Return a section of the settings (`labels`) or one setting of it (`labels.stages`).

        Raises `UndeclaredInputError` where neither it nor a section around it is declared.
        """
        declared = {
            section.format(partition=self.partition) for node in self._nodes for section in node.sections
        }
        if not any(name == section or name.startswith(f"{section}.") for section in declared):
            raise self._undeclared(f"the setting {name}")
        return self._platform.setting(name)

    def file(self, name: str) -> Path | None:
        """Return the outside file that a setting names (`labels.csv`); None where it names none."""
        if not any(name in (*node.files, *node.after_files) for node in self._nodes):
            raise self._undeclared(f"the file {name}")
        path: Path | None = self._platform.setting(name)
        return path

    def table(self, name: str, *, site_columns: bool = False) -> pl.DataFrame:
        """Read a stored table by its name in `defs.engine.stored_tables`; of a fold, that of the partition's fold.

        The columns are those of its schema; `site_columns` adds those that the site keeps beside them.
        """
        return stored_tables.TABLES[name].read(self.layout, self.partition, site_columns=site_columns)

    @property
    def workers(self) -> int:
        """Worker processes of a stage."""
        return self._platform.workers

    @property
    def key(self) -> "SecretKey":
        """The secret key."""
        return self._platform.key

    @property
    def withdrawn(self) -> "Withdrawn":
        """Who has withdrawn from this platform."""
        return self._platform.withdrawn

    @property
    def tracking_uri(self) -> str:
        """The MLflow tracking server."""
        return self._platform.tracking_uri

    def _undeclared(self, what: str) -> UndeclaredInputError:
        return UndeclaredInputError(f"{', '.join(self.assets)}: reads {what}, which its row does not declare")

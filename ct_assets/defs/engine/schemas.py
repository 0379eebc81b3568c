"""A check for every table: what lies on disk matches its declared schema.

Belongs here: the checks. Which tables there are is in `defs.engine.stored_tables`; a table that breaks its
schema is refused when it is written, so these checks notice what was changed, or written by an older version,
since then.
"""

import dagster as dg
import polars as pl

from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.engine.stored_tables import TABLES
from ct_assets.tables.io import TableError, validate


def _check_of(asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name="tables_match_their_schemas",
        blocking=True,
        description="Every column as declared, every rule kept.",
    )
    def check(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        """Read each table and hold it against its schema."""
        faults = []
        for table in (table for table in TABLES.values() if table.asset == asset):
            for path in table.paths(platform.layout):
                try:
                    validate(path.name, pl.read_parquet(path), table.schema, open_ended=table.is_open)
                except TableError as error:
                    faults.append(str(error))
                except (OSError, pl.exceptions.PolarsError):
                    faults.append(f"{path.name}: cannot be read")
        return dg.AssetCheckResult(passed=not faults, metadata={"faults": faults})

    return check


checks = [_check_of(asset) for asset in dict.fromkeys(table.asset for table in TABLES.values())]

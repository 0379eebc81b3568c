"""The metadata audit: the header index of released instances, written and read again.

Belongs here: one batch's table, the whole cohort's, and what need not be read a second time. Does not: the
reading of headers (`dicom.index`).
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ct_assets import tables
from ct_assets.dicom import index
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.tables.audits import MetadataAudit


def write(folder: Path, table_path: Path, *, root: Path, workers: int) -> pl.DataFrame:
    """Scan the headers below `folder` into the table at `table_path`, and return it.

    Files that have not changed since the table was written last are not read again: the table's own time of
    modification is set to the moment when its scan began, and a file is unchanged where path and size are
    the same and both its content and its inode are older than that. Raises `UsageError` for no folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    began_ns = time.time_ns()
    previous, previous_ns = _previous(table_path)
    table = index.scan(folder, root=root, workers=workers, previous=previous, previous_ns=previous_ns)
    tables.write_table(table_path, table, MetadataAudit)
    os.utime(table_path, ns=(began_ns, began_ns))
    return table


def write_batch(layout: Layout, batch: str, *, workers: int) -> pl.DataFrame:
    """Write the metadata audit of one batch's released instances, and return it."""
    folder = layout.deid_batch(batch)
    folder.mkdir(parents=True, exist_ok=True)  # a batch of which nothing may be released has none
    return write(folder, layout.metadata_audit(batch), root=layout.released, workers=workers)


def read_cohort(layout: Layout) -> pl.DataFrame:
    """Return the header index of all batches, ready for `dicom.series.group`."""
    paths = sorted(layout.metadata_audits.glob("*/metadata_audit.parquet"))
    parts = [tables.read_table(path, MetadataAudit) for path in paths]
    joined = pl.concat(parts) if parts else tables.frame([], MetadataAudit)
    return index.with_content_digests(index.by_path(joined), layout.released)


def read_identities(layout: Layout, kinds: Sequence[str]) -> pl.DataFrame:
    """Return `patient_id` with the columns `kinds` (those that there are) of all batches, distinct rows.

    Nothing else is read of the indexes: what this costs does not depend on how much a header tells.
    """
    columns = ["patient_id", *(name for name in kinds if name in MetadataAudit.column_names())]
    paths = sorted(layout.metadata_audits.glob("*/metadata_audit.parquet"))
    parts = [pl.read_parquet(path, columns=columns).unique() for path in paths]
    return pl.concat(parts) if parts else tables.frame([], MetadataAudit).select(columns)


def _previous(table_path: Path) -> tuple[pl.DataFrame | None, int]:
    try:
        # A table of an older version of this code lacks columns and is read anew.
        return tables.read_table(table_path, MetadataAudit), table_path.stat().st_mtime_ns
    except (OSError, UsageError, pl.exceptions.PolarsError):
        return None, 0

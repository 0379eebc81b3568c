"""Checks of what a run left behind, for the graph and for `verify`.

Belongs here: questions to the written tables and folders. Does not: the leak scan, which runs before release.
"""

from pathlib import Path

import polars as pl

from ct_assets.deid.batch.listing import list_files
from ct_assets.layout import DeidPaths


def lost_files(input_dir: Path, paths: DeidPaths) -> list[str]:
    """Return the files of the batch that have no disposition, as keyless positions: names stay inside."""
    known = set(pl.read_parquet(paths.files, columns=["path"])["path"].to_list())
    return [path for path in list_files(input_dir) if path not in known]


def uid_map_faults(paths: DeidPaths) -> list[str]:
    """Return what is wrong with the UID map in words: not one-to-one, or an old UID that was released."""
    uid_map = pl.read_parquet(paths.uid_map)
    faults = []
    if uid_map["new_uid"].n_unique() != uid_map.height:
        faults.append("two old UIDs share a new one")
    changed = uid_map.filter(pl.col("old_uid") != pl.col("new_uid"))
    released = {path.stem for path in paths.dicom.rglob("*.dcm")}
    if released & set(changed["old_uid"].to_list()):
        faults.append("an original SOPInstanceUID names a released file")
    return faults

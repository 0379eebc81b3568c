"""The crosswalk of UIDs as a graph: what kind each is, what it lies under, and which lead nowhere.

Belongs here: the table `uid_map`. Does not: making new UIDs (`uids`), finding old ones (`gather`).
"""

import polars as pl

from ct_assets import tables
from ct_assets.deid.batch.gather import UidSeen
from ct_assets.identity.key import SecretKey
from ct_assets.identity.uids import new_uid
from ct_assets.settings.deid import DeidProfile
from ct_assets.tables.deid import UidMap

RESOLVABLE_TYPES = ("study", "series", "instance", "frame_of_reference")
"""Types whose objects a batch can contain; a reference to one that it does not contain is dangling."""


def build(seen: dict[str, UidSeen], profile: DeidProfile, key: SecretKey) -> pl.DataFrame:
    """Return the UID map, a row a distinct old UID, ordered by new UID."""

    def new(old: str) -> str:
        return old if profile.retain_uids else new_uid(key, old)

    rows = [
        {
            "old_uid": old,
            "new_uid": new(old),
            "uid_type": one.uid_type,
            "parent_new_uid": new(one.parent) if one.parent else None,
            "seen_as": "instance" if one.is_object else "reference",
        }
        for old, one in seen.items()
    ]
    return tables.frame(rows, UidMap).sort("new_uid", "old_uid")


def dangling(uid_map: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of UIDs that objects refer to and no object of the batch has."""
    return uid_map.filter(
        (pl.col("seen_as").cast(pl.String) == "reference") & pl.col("uid_type").is_in(RESOLVABLE_TYPES)
    )

"""What an asset was made from, and whether that still holds.

Belongs here: the digest of an asset's inputs (data versions upstream, settings, code version, outside
files), stored with each materialization. `ct-assets run` makes an asset again when the digest changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import dagster as dg
from pydantic import BaseModel

from ct_assets import files, progress
from ct_assets.defs.engine import external, outputs, partitions
from ct_assets.defs.engine.graph import GRAPH
from ct_assets.defs.engine.platform import Platform
from ct_assets.identity.key import is_key_here
from ct_assets.settings.brain import configurations

INPUT_DIGEST, INPUT_PARTS = "input_digest", "input_parts"
CODE, OUTSIDE_FILES = "the program", "files outside the graph"
PART_DIGITS = 12
DATA_VERSION_TAG = "dagster/data_version"
RECORDS_A_PAGE = 1000


class Records:
    """The last materialization of each asset and partition, as the instance has it.

    With `ahead`, all partitions of an asset are read at once when the first is asked for, and kept: a look
    at thousands of batches is then a few queries an asset, not a few a batch.
    """

    def __init__(self, instance: dg.DagsterInstance, *, ahead: bool = False) -> None:
        self.instance = instance
        self._ahead = ahead
        self._known: dict[str, dict[str | None, dg.AssetMaterialization]] = {}

    def latest(self, name: str, partition: str | None) -> dg.AssetMaterialization | None:
        """Return the last materialization, None where there is none."""
        if not self._ahead:
            wanted = dg.AssetRecordsFilter(
                asset_key=dg.AssetKey(name), asset_partitions=None if partition is None else [partition]
            )
            records = self.instance.fetch_materializations(wanted, limit=1).records
            return records[0].asset_materialization if records else None
        if name not in self._known:
            self._known[name] = self._all(name)
        return self._known[name].get(partition)

    def data_versions(self, name: str, keys: Sequence[str | None]) -> dict[str, str | None]:
        """Return the data version of the last materialization of each partition, None where there is none."""
        several = [key for key in keys if key is not None]
        if self._ahead or len(several) < 2:
            return {str(key): _data_version(self.latest(name, key)) for key in keys}
        tags = self.instance.event_log_storage.get_latest_tags_by_partition(
            dg.AssetKey(name), dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG], several
        )
        return {key: tags.get(key, {}).get(DATA_VERSION_TAG) for key in several}

    def note(self, name: str, partition: str | None, made: dg.AssetMaterialization) -> None:
        """Put what was materialized just now into what was read ahead."""
        if name in self._known:
            self._known[name][partition] = made

    def _all(self, name: str) -> dict[str | None, dg.AssetMaterialization]:
        found: dict[str | None, dg.AssetMaterialization] = {}
        cursor: str | None = None
        while True:
            page = self.instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=dg.AssetKey(name)), limit=RECORDS_A_PAGE, cursor=cursor
            )
            for record in page.records:  # the newest first
                found.setdefault(record.partition_key, _materialization(record))
            if not page.has_more:
                return found
            cursor = page.cursor


@dataclass(frozen=True)
class InputState:
    """What decides an asset's content, as it was when its work began."""

    parts: Mapping[str, Any]
    after_files: Mapping[str, str | None]

    @classmethod
    def of(cls, records: Records, platform: Platform, name: str, partition: str | None) -> Self:
        """Digest the inputs as they are now; nothing of them may have been read for the work yet."""
        node = GRAPH[name]
        parts: dict[str, Any] = {
            "code_version": node.code_version,
            "settings": {
                section: _wherever(platform.setting(section))
                for section in (declared.format(partition=partition) for declared in node.sections)
            },
            "external": None if node.external is None else node.external(platform, partition),
            "upstream": {
                dep: records.data_versions(dep, _upstream(records.instance, platform, dep, name, partition))
                for dep in node.deps
            },
        }
        if node.files:
            parts["files"] = _file_digests(platform, node.files)
        return cls(parts, _file_digests(platform, node.after_files))

    def digest(self, platform: Platform, name: str, partition: str | None) -> str:
        """Return the digest of these inputs, with what is known only after the work (`Node.after`)."""
        node = GRAPH[name]
        if node.after is None:
            return files.digest_of(self.parts)
        unchanged = _file_digests(platform, node.after_files) == self.after_files
        after = node.after(platform, partition) if unchanged else "changed while it was read"
        return files.digest_of({**self.parts, "after": after})

    def digest_of_each(self) -> dict[str, str]:
        """Return a digest of each part, by what people call it: they tell later why an asset is stale."""
        named = {
            CODE: self.parts["code_version"],
            OUTSIDE_FILES: [self.parts["external"], self.parts.get("files"), dict(self.after_files)],
            **{f"setting {section}": value for section, value in self.parts["settings"].items()},
            **self.parts["upstream"],
        }
        return {name: files.digest_of(value)[:PART_DIGITS] for name, value in named.items()}


def why_stale(records: Records, platform: Platform, name: str, partition: str | None) -> list[str] | None:
    """Return which inputs of a materialized asset changed since; None where it is current or was never made.

    The list is empty where the record does not tell. Outputs are not looked at (`storage.outputs`).
    """
    recorded = records.latest(name, partition)
    if recorded is None or INPUT_DIGEST not in recorded.metadata:
        return None
    state = InputState.of(records, platform, name, partition)
    if recorded.metadata[INPUT_DIGEST].value == state.digest(platform, name, partition):
        return None
    before: Any = recorded.metadata[INPUT_PARTS].value if INPUT_PARTS in recorded.metadata else None
    if not isinstance(before, Mapping):
        return []
    now = state.digest_of_each()
    return [part for part in {**before, **now} if before.get(part) != now.get(part)]


def input_digest(records: Records, platform: Platform, name: str, partition: str | None) -> str:
    """Return the digest of everything that decides the asset's content now."""
    return InputState.of(records, platform, name, partition).digest(platform, name, partition)


def _file_digests(platform: Platform, names: Sequence[str]) -> dict[str, str | None]:
    paths = {name: platform.setting(name) for name in names}
    return {
        name: files.sha256_file(path) if path is not None and path.is_file() else None
        for name, path in paths.items()
    }


def _wherever(section: Any) -> Any:
    """Return a section of the settings as plain values, of outside files only the name.

    What stands in them counts by itself (`external`); where they lie differs between the machines of one
    platform, and would have each make anew what the other made.
    """
    if not isinstance(section, BaseModel):
        return _without_folders(section, section)
    return _without_folders(section.model_dump(), section.model_dump(mode="json"))


def _without_folders(value: Any, shown: Any) -> Any:
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        both = zip(value.values(), shown.items(), strict=True)
        return {key: _without_folders(inner, plain) for inner, (key, plain) in both}
    if isinstance(value, list | tuple):
        return [_without_folders(inner, plain) for inner, plain in zip(value, shown, strict=True)]
    return shown


def is_current(records: Records, platform: Platform, name: str, partition: str | None) -> bool:
    """Tell whether the last materialization was made from what its inputs are now, and its outputs are still there."""
    recorded = records.latest(name, partition)
    if recorded is None or INPUT_DIGEST not in recorded.metadata:
        return False
    if partition is not None and GRAPH[name].group in ("intake", "deid"):
        from ct_assets.intake.retired import is_retired

        if is_retired(platform.layout, partition):
            return True  # nothing can be made from originals that went; what was made stays
    if GRAPH[name].after is external.clinic_rows_of_batch and not is_key_here(
        platform.settings.deid.key_file
    ):
        return (
            True  # only a machine with the key can tell whether the clinic's rows changed, or make it again
        )
    if recorded.metadata[INPUT_DIGEST].value != input_digest(records, platform, name, partition):
        return False
    difference = outputs.difference(platform, name, partition)
    if difference is not None:
        progress.say(difference.line())
    return difference is None


def partition_keys(instance: dg.DagsterInstance, platform: Platform, name: str) -> Sequence[str | None]:
    """Return every partition key that the asset has now; `[None]` for one over the whole cohort."""
    kind = GRAPH[name].partition
    if kind is None:
        return [None]
    if kind == "batch":
        return sorted(instance.get_dynamic_partitions(partitions.BATCH))
    if kind.partition("@")[0] == "experiment":
        return sorted(instance.get_dynamic_partitions(partitions.dynamic_name(kind)))
    if kind == "study":
        return sorted(instance.get_dynamic_partitions(partitions.STUDY))
    if kind == "brain_configuration":
        return sorted(configurations(platform.settings.brain))
    if kind == "brain_fold":
        return [
            partitions.brain_fold_key(name, str(fold))
            for name in sorted(configurations(platform.settings.brain))
            for fold in range(platform.settings.brain.k_folds)
        ]
    if kind == "derived":
        return sorted(platform.settings.derived)
    folds = partitions.fold_names(platform.settings)
    if kind == "fold":
        return folds
    experiments = sorted(instance.get_dynamic_partitions(partitions.dynamic_name(kind)))
    return [partitions.join_key(experiment, fold) for experiment in experiments for fold in folds]


def _upstream(
    instance: dg.DagsterInstance, platform: Platform, dep: str, name: str, partition: str | None
) -> list[str | None]:
    every = [key for key in partition_keys(instance, platform, dep) if key is not None]
    return partitions.upstream_keys(GRAPH[dep].partition, GRAPH[name].partition, partition, every)


def _materialization(record: dg.EventLogRecord) -> dg.AssetMaterialization:
    if record.asset_materialization is None:
        raise TypeError("a record of a materialization without one")
    return record.asset_materialization


def _data_version(materialization: dg.AssetMaterialization | None) -> str | None:
    return None if materialization is None else (materialization.tags or {}).get(DATA_VERSION_TAG)

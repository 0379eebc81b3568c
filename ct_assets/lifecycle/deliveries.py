"""One person's originals out of inbox, registered deliveries, superseded ones and quarantine.

Belongs here: what happens to files as they were delivered, and to their names. Does not: anything the
platform made of them (`lifecycle.sweep`).
"""

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from blake3 import blake3

from ct_assets import files, parallel, progress
from ct_assets.deid.batch.dispositions import file_digest
from ct_assets.deid.batch.review import LOOKED_AT
from ct_assets.identity.key import SecretKey
from ct_assets.intake import taking_out
from ct_assets.layout import MARKER_NAME, Layout
from ct_assets.lifecycle import mentions
from ct_assets.lifecycle.finder import Finder
from ct_assets.lifecycle.mentions import Mention
from ct_assets.lifecycle.originals import FILES_A_TASK, Census, Original

PRELOAD = ("ct_assets.lifecycle.deliveries",)
_OURS = frozenset((MARKER_NAME, ".lock", taking_out.NOTE_NAME))
_TABLES = (".csv", ".json", ".jsonl", ".parquet", ".db", ".yaml", ".key")
"""Outside deliveries, files of these kinds are gone through line by line (`lifecycle.sweep`)."""


@dataclass
class Outcome:
    """What became of the originals."""

    removed: int = 0
    mentions_removed: int = 0
    """Files of nobody (letters, logs, directories of media) that named the person."""
    masked: int = 0
    """Objects of others in which a mention was overwritten."""
    renamed: int = 0
    empty_batches: set[str] = field(default_factory=set)
    """Batches of which nothing is left."""


def delivery_of(path: str) -> str | None:
    """Return the folder of the delivery that a path below the data root lies in; None outside deliveries."""
    parts = PurePosixPath(path).parts
    for room in (("inbox",), ("raw", "dicom_input"), ("raw", "superseded")):
        if parts[: len(room)] == room:
            depth = len(room) + (2 if room[-1] == "superseded" else 1)
            return "/".join(parts[:depth]) if len(parts) > depth else None
    return None


def find_mentions(
    layout: Layout, census: Census, own: Sequence[Original], finder: Finder, workers: int
) -> list[Mention]:
    """Search every original that is not the person's own; also the released objects of others."""
    theirs = {one.path for one in own}
    work = [
        (one.path, one.code is None)
        for one in census.files
        if one.path not in theirs and PurePosixPath(one.path).name not in _OURS and _is_searched(one)
    ]
    work += [
        (path.relative_to(layout.root).as_posix(), True)
        for path in sorted(layout.released.rglob("*.dcm"))
        if not finder.has_key(path.parts[-4].encode())
    ]
    tasks = [
        (layout.root, finder, work[start : start + FILES_A_TASK])
        for start in range(0, len(work), FILES_A_TASK)
    ]
    found: list[Mention] = []
    with progress.track("searching what is others'", len(work)) as advance:
        for searched, part in parallel.map_ordered(_mentions_task, tasks, workers=workers, preload=PRELOAD):
            found += part
            advance(searched)
    return found


def _is_searched(one: Original) -> bool:
    return one.code is None or delivery_of(one.path) is not None or not one.path.endswith(_TABLES)


def _mentions_task(task: tuple[Path, Finder, list[tuple[str, bool]]]) -> tuple[int, list[Mention]]:
    root, finder, work = task
    found = []
    for path, is_instance in work:
        content = (root / path).read_bytes()
        search = mentions.in_instance if is_instance else mentions.in_other_file
        mention = search(path, content, finder)
        if mention.uids or mention.has_words:
            found.append(mention)
    return len(work), found


def masked_digests(
    layout: Layout, mentioned: Iterable[Mention], finder: Finder, key: SecretKey
) -> dict[str, str]:
    """Return what digests of others' objects become when mentions in them are overwritten, old to new."""
    replaced: dict[str, str] = {}
    for mention in mentioned:
        if mention.has_words and mention.can_be_masked:
            content = (layout.root / mention.path).read_bytes()
            new = mentions.masked(content, finder) or content
            before, after = hashlib.sha256(content).hexdigest(), hashlib.sha256(new).hexdigest()
            replaced |= {before: after, file_digest(key, before): file_digest(key, after)}
            replaced[blake3(content).hexdigest()] = blake3(new).hexdigest()
    return replaced


def remove(layout: Layout, own: Sequence[Original], mentioned: Iterable[Mention], finder: Finder) -> Outcome:
    """Remove the person's originals and every mention of them from what is others'."""
    outcome = Outcome(removed=len(own))
    gone: dict[str | None, set[str]] = defaultdict(set)
    masked: dict[str | None, set[str]] = defaultdict(set)
    for one in own:
        gone[delivery_of(one.path)].add(one.path)
    for mention in mentioned:
        if mention.has_words:
            (masked if mention.can_be_masked else gone)[delivery_of(mention.path)].add(mention.path)
            outcome.mentions_removed += not mention.can_be_masked
    for path in sorted(masked[None]):
        outcome.masked += _mask(layout.root / path, finder)
    _remove_loose(layout, gone[None])
    for folder in _deliveries(layout):
        _take_out(layout, folder, gone[folder], masked[folder], finder, outcome)
    return outcome


def _mask(place: Path, finder: Finder) -> bool:
    content = place.read_bytes()
    new = mentions.masked(content, finder)
    if new is None or new == content:
        return False
    files.write_bytes(place, new, mode=place.stat().st_mode & 0o777)
    if place.stem == hashlib.sha256(content).hexdigest():  # in quarantine an object is named by its digest
        place.rename(place.with_name(f"{hashlib.sha256(new).hexdigest()}{place.suffix}"))
    return True


def _remove_loose(layout: Layout, paths: set[str]) -> None:
    """Remove files outside deliveries, with what a person put aside to look at them."""
    for path in sorted(paths):
        place = layout.root / path
        place.unlink(missing_ok=True)
        looked_at = place.parent / LOOKED_AT / place.stem[:12]
        if looked_at.is_dir():
            for picture in looked_at.iterdir():
                picture.unlink()
            looked_at.rmdir()
        for folder in place.parents:
            if folder.parent in (layout.root, layout.root.parent) or any(folder.iterdir()):
                break
            folder.rmdir()


def _deliveries(layout: Layout) -> list[str]:
    found = [folder for folder in layout.inbox.glob("*") if folder.is_dir()]
    found += [folder for folder in layout.raw.glob("*") if folder.is_dir()]
    found += [folder for folder in (layout.root / "raw/superseded").glob("*/*") if folder.is_dir()]
    return sorted(folder.relative_to(layout.root).as_posix() for folder in found)


def _take_out(
    layout: Layout, folder: str, gone: set[str], masked: set[str], finder: Finder, outcome: Outcome
) -> None:
    place = layout.root / folder
    taking_out.finish(place)
    removed, changed = ({_within(path, folder) for path in paths} for paths in (gone, masked))
    renamed = {
        path: new
        for path in _paths_below(place)
        if path not in removed and (new := _clean_path(path, finder)) != path
    }
    outcome.renamed += len(renamed)
    taking_out.announce(
        place,
        map(_as_marker, removed),
        renamed={_as_marker(old): new for old, new in renamed.items()},
        changed=map(_as_marker, changed),
    )
    for path in sorted(changed):
        outcome.masked += _mask(place / path, finder)
    taking_out.finish(place)
    if (removed or renamed) and not _paths_below(place):
        shutil.rmtree(place)
        if folder.startswith("raw/dicom_input/"):
            outcome.empty_batches.add(place.name)


def _paths_below(folder: Path) -> list[str]:
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if (path.is_file() or path.is_symlink()) and path.name not in _OURS
    ]


def _clean_path(path: str, finder: Finder) -> str:
    """Return a path with every mention of the person in it overwritten."""
    return os.fsdecode(finder.masked(os.fsencode(path)))


def _within(path: str, folder: str) -> str:
    return path[len(folder) + 1 :]


def _as_marker(path: str) -> str:
    """Return a path as markers write it."""
    return "".join(f"%{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in path)

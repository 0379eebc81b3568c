"""Taking files out of a delivery: the folder and its marker go on agreeing, also when the process is killed.

Belongs here: removing, renaming and re-digesting files of one delivery. Does not: who is to be taken out
(`identity.withdrawn`, `lifecycle.withdraw`).

What is to be done is written down first, beside the marker; a killed process leaves that note, and whoever
touches the delivery next finishes it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ct_assets import files
from ct_assets.intake import markers
from ct_assets.intake.markers import Entry, Marker, MarkerError

NOTE_NAME = ".taking-out.json"


def take_out(
    folder: Path,
    removed: Iterable[str],
    *,
    renamed: Mapping[str, str] | None = None,
    changed: Iterable[str] = (),
) -> None:
    """Remove files of a delivery, rename others, and write the marker that holds for what is left.

    Paths are as the marker writes them. `changed` names files whose content somebody has written anew. A
    delivery of which nothing is left keeps an empty list as its marker.
    """
    announce(folder, removed, renamed=renamed, changed=changed)
    finish(folder)


def announce(
    folder: Path,
    removed: Iterable[str] = (),
    *,
    renamed: Mapping[str, str] | None = None,
    changed: Iterable[str] = (),
) -> None:
    """Write down what `finish` is to do, before any file is touched."""
    note = {"removed": sorted(removed), "renamed": dict(renamed or {}), "changed": sorted(changed)}
    if any(note.values()):
        files.write_json(folder / NOTE_NAME, note, mode=0o600)


def finish(folder: Path) -> bool:
    """Finish what a killed `take_out` left; return whether there was anything."""
    path = folder / NOTE_NAME
    if not path.exists():
        return False
    note = files.read_json(path)
    source_of = {found.path: found.source for found in markers.survey(folder) if found.path != NOTE_NAME}
    removed, renamed = set(note["removed"]), dict(note["renamed"])
    for written in removed & source_of.keys():
        source_of[written].unlink()
    for old, new in renamed.items():
        if old in source_of and old not in removed:
            target = folder / new
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            source_of[old].rename(target)
    _write_marker(folder, removed, renamed, set(note["changed"]))
    _remove_empty_folders(folder)
    path.unlink()
    return True


def _write_marker(folder: Path, removed: set[str], renamed: Mapping[str, str], changed: set[str]) -> None:
    try:
        marker = markers.read(folder)
    except MarkerError:
        marker = None
    if marker is None:
        return
    entries = []
    for entry in marker.entries:
        if entry.path in removed:
            continue
        path = renamed.get(entry.path, entry.path)
        source = folder / path
        if {entry.path, path} & changed and source.is_file():
            entries.append(Entry(path, source.stat().st_size, files.sha256_file(source)))
        else:
            entries.append(Entry(path, entry.bytes, entry.sha256, entry.kind))
    Marker(tuple(sorted(entries))).write(folder)


def _remove_empty_folders(folder: Path) -> None:
    below = sorted(
        (path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True
    )
    for path in below:
        if not any(path.iterdir()):
            path.rmdir()

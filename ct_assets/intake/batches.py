"""Batches: how a delivery enters the inbox and from there the platform.

Belongs here: ingesting a folder, finding what is complete, registering (verify, then move to the raw
originals). A batch is known by an opaque name; its marker's digest tells one delivery from a corrected one.

Every step is a rename, so that a killed process leaves a state that the next call goes on from:
`inbox/.partial-*` (a copy under way) -> `inbox/<batch>` -> `raw/dicom_input/<batch>`; what a corrected
delivery replaces goes to `raw/superseded/<batch>/<digest>` first. Each registration and each replacement
leaves a line in `audits/intake/deliveries.jsonl` (`intake.deliveries`).
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from ct_assets import files, progress
from ct_assets.deid.batch.withdrawn_files import holds_file
from ct_assets.errors import UsageError
from ct_assets.identity import withdrawn
from ct_assets.identity.withdrawn import Withdrawn
from ct_assets.intake import deliveries, markers, retired, taking_out
from ct_assets.intake.markers import Marker, MarkerError
from ct_assets.layout import MARKER_NAME, Layout, check_key

if TYPE_CHECKING:
    from ct_assets.identity.key import SecretKey

NAME_HEX_DIGITS = 16
NOBODY = Withdrawn()
LOCK_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class InboxBatch:
    """A complete delivery that waits in the inbox."""

    batch: str
    marker_digest: str
    delivered_ns: int
    """When the marker was written; the same delivery made once more is another one."""


@dataclass(frozen=True)
class RegisteredBatch:
    """A delivery among the raw originals."""

    batch: str
    marker_digest: str
    files: int
    bytes: int


class NothingLeftError(UsageError):
    """Every file of a delivery is of people who have withdrawn: there is no batch."""


@dataclass(frozen=True)
class Waiting:
    """A folder in the inbox that is no complete batch; its name may be a patient's and is not told."""

    reason: str
    """Code of `ct_assets.reasons.intake`."""


def ingest(drop: Path, layout: Layout, key: "SecretKey | None", name: str | None = None) -> str:
    """Copy a folder into the inbox as one batch, with its marker, in one step to all onlookers.

    Returns the batch's name: `name`, or a keyed digest of the file list (without a key a plain one), since
    folder names of a hospital carry identities. A delivery that is there already, waiting or registered,
    under whatever name, is not taken twice. An explicit `name` that is registered with other files is a
    corrected delivery, and replaces the batch when it is registered.
    Files of people who have withdrawn are not copied.
    Raises `UsageError` where the drop cannot be read whole, changes meanwhile, or does not fit on the disk.
    """
    if name is not None:
        check_key(name, "--name")
    refused = withdrawn.load(layout.tombstones, key)
    _refuse_wrong_folder(drop, layout)
    layout.make_restricted()
    size = sum(found.state.st_size for found in markers.survey(drop))
    files.require_space(layout.inbox, size, "the copy of the delivery")
    with _locked(layout):
        _clear_partial(layout)
        partial = layout.inbox / ".partial-ingest"
        try:
            partial.mkdir(mode=0o700)
            marker = markers.take(drop, "ingesting", copy_to=partial)
            marker.write(partial)
            if left_out := _take_out_withdrawn(partial, refused):
                progress.say(f"{left_out} files are of people who have withdrawn and were left out")
                marker = _marker_of(partial, name or "of this delivery") or Marker(())
                if not marker.entries:
                    raise NothingLeftError(
                        f"{drop}: every file is of people who have withdrawn; nothing was taken"
                    )
            known = _known_as(layout, marker.digest)
            if known and _is_damaged(layout, known, marker):
                # What waits is no longer what was delivered: the same delivery again mends it.
                shutil.rmtree(layout.inbox_batch(known))
                name, known = known, None
            if known:
                _deliver_again(layout, known)
                progress.say(f"this delivery is here already, as batch {known}: nothing was copied")
                return known
            batch = name or opaque_name(marker, key)
            _put_into_inbox(layout, batch, partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    progress.say(
        f"batch {batch}: {len(marker.entries)} files, {marker.bytes / 1e6:.1f} MB, waits in the inbox"
    )
    return batch


def hand_over(prepared: Path, layout: Layout, batch: str) -> bool:
    """Move a prepared folder with its marker into the inbox as `batch`, in one step to all onlookers.

    For intake that makes its batches on the inbox's own disk. Returns False, and removes the folder, where
    the same delivery waits or is registered under that name already.
    """
    with _locked(layout):
        marker = _marker_of(prepared, batch)
        if marker is not None and marker_digest(layout, batch) == marker.digest:
            shutil.rmtree(prepared)
            _deliver_again(layout, batch)
            return False
        _put_into_inbox(layout, batch, prepared)
    return True


def complete_batches(layout: Layout) -> list[InboxBatch]:
    """Return the batches of the inbox that have a marker with a list, by name; only markers are read."""
    complete = []
    for folder in _inbox_folders(layout):
        try:
            marker = markers.read(folder) if _is_name(folder.name) else None
        except MarkerError:
            continue
        if marker is not None:
            delivered_ns = (folder / MARKER_NAME).stat().st_mtime_ns
            complete.append(InboxBatch(folder.name, marker.digest, delivered_ns))
    return complete


def incomplete(layout: Layout) -> list[Waiting]:
    """Return why each other folder of the inbox is no complete batch, for people to look at."""
    waiting = []
    for folder in _inbox_folders(layout):
        if not _is_name(folder.name):
            waiting.append(Waiting("batch_name_refused"))
            continue
        try:
            if markers.read(folder) is None:
                waiting.append(Waiting("batch_without_marker"))
        except MarkerError as error:
            waiting.append(Waiting(error.code))
    return waiting


def settle(
    layout: Layout, seen: Mapping[str, list[float]], *, now: float, settle_seconds: float
) -> dict[str, list[float]]:
    """Write the marker of folders that came without one and have stopped changing; return what still moves.

    For senders that cannot write markers. A folder is complete when files, bytes and the newest change of
    anything in it are the same as when it was first seen so, at an earlier call and at least
    `settle_seconds` ago; one with an empty marker is complete at once. `seen` is what the last call
    returned: digest of the folder's name to files, bytes, newest change, first seen.
    """
    moving: dict[str, list[float]] = {}
    for folder in _inbox_folders(layout):
        if not _is_name(folder.name) or not _lacks_marker(folder):
            continue
        mark = files.digest_of(folder.name)[:NAME_HEX_DIGITS]
        state = _state(folder)
        if state is None:
            continue
        before = list(seen.get(mark, ()))
        same = before[:3] == state
        if markers.is_touched(folder) or (same and now - before[3] >= settle_seconds):
            try:
                markers.take(folder, "digesting a settled delivery").write(folder)
            except UsageError as error:
                progress.say(f"a folder of the inbox waits: {error}")
            continue
        # A clock that was set back must not make a folder wait until the old time comes round again.
        moving[mark] = [*state, min(before[3], now) if same else now]
    return moving


def settled_batches(layout: Layout, *, now: float, settle_seconds: float) -> list[InboxBatch]:
    """Write the markers of folders unchanged for `settle_seconds`; return all complete batches.

    For a command that looks once: what counts is the newest inode change (ctime), which no copying tool
    can set back, as it can the time of modification.
    """
    quiet = {}
    for folder in _inbox_folders(layout):
        state = _state(folder) if _is_name(folder.name) and _lacks_marker(folder) else None
        if state is not None and now - state[2] >= settle_seconds:
            quiet[files.digest_of(folder.name)[:NAME_HEX_DIGITS]] = [*state, state[2]]
    settle(layout, quiet, now=now, settle_seconds=settle_seconds)
    return complete_batches(layout)


def register(layout: Layout, batch: str, refused: Withdrawn = NOBODY) -> RegisteredBatch:
    """Verify a batch against its marker and move it to the raw originals; again for one registered before.

    A batch in the inbox whose name is registered with another marker is a corrected delivery: the old
    originals are moved aside (`raw/superseded`), never deleted. Files of people who have withdrawn are
    taken out of what waits, and counted in the record of deliveries. Raises `UsageError` where the batch is
    neither in the inbox nor registered, or differs from its marker; it then stays where it is. Raises
    `NothingLeftError` where nothing of the delivery may be registered; it is then gone.
    """
    layout.make_restricted()
    waiting, raw = layout.inbox_batch(batch), layout.raw_batch(batch)
    left_out = 0
    with _locked(layout):
        for folder in (waiting, raw):
            taking_out.finish(folder)
        marker = _marker_of(waiting, batch)
        if marker is None and (gone := retired.read(raw)) is not None:
            return RegisteredBatch(batch, gone.marker_digest, gone.files, gone.bytes)
        if marker is None:
            marker = _marker_of(raw, batch)
            if marker is None:
                raise UsageError(f"batch {batch}: not in the inbox with a marker, and not registered")
            _verify(raw, marker, batch)
        else:
            _verify(waiting, marker, batch)
            if left_out := _take_out_withdrawn(waiting, refused):
                progress.say(f"batch {batch}: {left_out} files of people who have withdrawn were taken out")
                marker = _marker_of(waiting, batch) or Marker(())
            if not marker.entries:
                shutil.rmtree(waiting)
                deliveries.record(layout, deliveries.REFUSED, batch, marker, left_out)
                raise NothingLeftError(
                    f"batch {batch}: every file is of people who have withdrawn; nothing was registered"
                )
            old, gone = _marker_of(raw, batch), retired.read(raw)
            if marker.digest in (old and old.digest, gone and gone.marker_digest):
                shutil.rmtree(waiting)
                progress.say(f"batch {batch} was delivered again, unchanged")
                if gone is not None:
                    return RegisteredBatch(batch, gone.marker_digest, gone.files, gone.bytes)
            else:
                if raw.exists():
                    _set_aside(layout, batch, raw)
                _move(waiting, raw)
        _record(layout, batch, marker, left_out)
    return RegisteredBatch(batch, marker.digest, len(marker.entries), marker.bytes)


def registered_batches(layout: Layout) -> list[RegisteredBatch]:
    """Return the registered batches by name; the files themselves are not looked at."""
    registered = []
    for folder in sorted(layout.raw.iterdir()) if layout.raw.is_dir() else []:
        marker = None if folder.name.startswith(".") else _marker_of(folder, folder.name)
        if marker is not None:
            registered.append(RegisteredBatch(folder.name, marker.digest, len(marker.entries), marker.bytes))
        elif (gone := retired.read(folder)) is not None:
            registered.append(RegisteredBatch(folder.name, gone.marker_digest, gone.files, gone.bytes))
    return registered


def registered_names(layout: Layout) -> list[str]:
    """Return the names of the registered batches; not even their markers are read."""
    folders = layout.raw.iterdir() if layout.raw.is_dir() else iter(())
    return sorted(folder.name for folder in folders if _is_name(folder.name))


def marker_digest(layout: Layout, batch: str) -> str | None:
    """Return the digest of the delivery that holds for a batch: the one in the inbox, else the raw one."""
    for folder in (layout.inbox_batch(batch), layout.raw_batch(batch)):
        try:
            marker = markers.read(folder)
        except MarkerError:
            continue
        if marker is not None:
            return marker.digest
    gone = retired.read(layout.raw_batch(batch))
    return gone.marker_digest if gone is not None else None


def _refuse_wrong_folder(drop: Path, layout: Layout) -> None:
    if not drop.is_dir():
        what = "a file" if drop.exists() else "no such folder"
        raise UsageError(f"{drop}: {what}; name the folder that holds the delivery")
    inside, root = drop.resolve(), layout.root.resolve()
    if inside == root or root.is_relative_to(inside):
        raise UsageError(f"{drop}: holds the data root; name the folder that holds the delivery")
    if any(inside.is_relative_to(folder.resolve()) for folder in (layout.inbox, layout.raw)):
        raise UsageError(f"{drop}: lies in the platform already; name a folder outside it")


def _known_as(layout: Layout, digest: str) -> str | None:
    """Return the name under which a delivery waits or is registered."""
    holding = {registered.batch: registered.marker_digest for registered in registered_batches(layout)}
    holding |= {waiting.batch: waiting.marker_digest for waiting in complete_batches(layout)}
    return next((batch for batch, held in holding.items() if held == digest), None)


def _deliver_again(layout: Layout, batch: str) -> None:
    """Renew the time of the marker of a delivery that still waits: where its run failed, it is requested again."""
    marker = layout.inbox_batch(batch) / MARKER_NAME
    if marker.exists():
        marker.touch()


def _is_damaged(layout: Layout, batch: str, marker: Marker) -> bool:
    """Tell whether a delivery that waits in the inbox differs from its own marker by now."""
    waiting = layout.inbox_batch(batch)
    return waiting.is_dir() and bool(markers.differences(waiting, marker, f"verifying {batch}"))


def opaque_name(marker: Marker, key: "SecretKey | None") -> str:
    """Return the name of a delivery: a keyed digest of its list, without a key a plain one."""
    digest = marker.digest if key is None else key.digest("batch name", marker.digest).hex()
    return f"b{digest[:NAME_HEX_DIGITS]}"


def _put_into_inbox(layout: Layout, batch: str, partial: Path) -> None:
    target = layout.inbox_batch(batch)
    if target.exists():
        if _lacks_marker(target):
            raise UsageError(f"batch {batch}: one of this name is just arriving; wait or use another --name")
        # A correction of what nobody has registered yet: the older one is kept aside like any other.
        _set_aside(layout, batch, target)
    partial.rename(target)


def _take_out_withdrawn(folder: Path, refused: Withdrawn) -> int:
    """Remove the files of people who have withdrawn from a delivery; return their number."""
    if not refused:
        return 0
    found = [
        one.path
        for one in markers.survey(folder)
        if not one.source.is_symlink() and holds_file(refused, one.source)
    ]
    taking_out.take_out(folder, found)
    return len(found)


def _verify(folder: Path, marker: Marker, batch: str) -> None:
    found = markers.differences(folder, marker, f"verifying {batch}")
    if found:
        counts = ", ".join(f"{count} x {code}" for code, count in sorted(found.items()))
        raise UsageError(
            f"batch {batch} is not what its marker says ({counts}): nothing was registered; deliver it again"
        )


def _record(layout: Layout, batch: str, marker: Marker, left_out: int) -> None:
    """Note the registration, and before it each replacement that a killed registration did not come to note."""
    noted = {
        line["marker_digest"] for line in deliveries.read(layout) if line["event"] == deliveries.SUPERSEDED
    }
    aside = layout.superseded(batch, "x").parent
    for folder in sorted(aside.iterdir()) if aside.is_dir() else []:
        old = None if folder.name.startswith(".") else _marker_of(folder, batch)
        if old is not None and old.digest not in noted:
            deliveries.record(layout, deliveries.SUPERSEDED, batch, old)
    deliveries.record(layout, deliveries.REGISTERED, batch, marker, left_out)


def _set_aside(layout: Layout, batch: str, folder: Path) -> None:
    """Move a replaced delivery to `raw/superseded/<batch>/<digest>`; one that is there already is equal."""
    try:
        marker = markers.read(folder)
    except MarkerError:
        marker = None
    aside = layout.superseded(batch, marker.digest[:NAME_HEX_DIGITS] if marker else "unmarked")
    if aside.exists():
        shutil.rmtree(folder)
    else:
        _move(folder, aside)
    deliveries.record(layout, deliveries.SUPERSEDED, batch, marker)


def _move(source: Path, target: Path) -> None:
    """Move a folder in one step, also between file systems."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        source.rename(target)
    except OSError:
        partial = target.with_name(f".partial-{target.name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial, symlinks=True)
        partial.rename(target)
        shutil.rmtree(source)


def _marker_of(folder: Path, batch: str) -> Marker | None:
    try:
        return markers.read(folder)
    except MarkerError as error:
        raise UsageError(f"batch {batch}: {error} ({error.code}); deliver it again") from None


def _lacks_marker(folder: Path) -> bool:
    try:
        return markers.read(folder) is None
    except MarkerError:
        return False


def _state(folder: Path) -> list[float] | None:
    """Return files, bytes and the newest change of anything in a folder; None where it cannot be read."""
    try:
        states = [entry.stat(follow_symlinks=False) for entry in markers.walk(folder)]
        newest = max([folder.stat().st_ctime, *(state.st_ctime for state in states)])
    except OSError:
        return None
    return [float(len(states)), float(sum(state.st_size for state in states)), newest]


def _inbox_folders(layout: Layout) -> list[Path]:
    if not layout.inbox.is_dir():
        return []
    return sorted(
        path
        for path in layout.inbox.iterdir()
        if not path.name.startswith(".") and path.is_dir() and not path.is_symlink()
    )


def _is_name(name: str) -> bool:
    try:
        check_key(name, "batch")
    except UsageError:
        return False
    return True


def _clear_partial(layout: Layout) -> None:
    """Remove what a killed ingest left; called under the lock, so nobody else is copying."""
    for left_over in layout.inbox.glob(".partial-*"):
        shutil.rmtree(left_over, ignore_errors=True)


@contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    with filelock.FileLock(layout.inbox / ".lock", timeout=LOCK_TIMEOUT_S, mode=0o600):
        yield

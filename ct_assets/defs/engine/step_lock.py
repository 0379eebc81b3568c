"""One writer a partition: whoever begins a step that another process is still at waits for it.

Belongs here: the lock. Why it is needed: a node that was given up for lost may go on working, and its step is
then run a second time elsewhere; two runs may have been launched for one partition; two schedulers may watch
one inbox. Content does not depend on who comes first (the same input gives the same bytes), so the second
simply does it again, or finds everything done.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import filelock

from ct_assets import files, progress
from ct_assets.errors import UsageError
from ct_assets.layout import Layout

PATIENCE_S = 3600.0
FIRST_TRY_S = 0.5


@contextmanager
def only_writer(
    layout: Layout, step: str, partition: str | None, patience_s: float = PATIENCE_S
) -> Iterator[None]:
    """Hold the lock of one step and partition inside the block; it ends with its process, however that ends.

    The lock is a file under the data root, which every machine that works on the platform shares. Raises
    `UsageError` when another process keeps it for longer than `patience_s`.
    """
    folder = layout.dagster_home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    name = files.digest_of([step, partition])[:16]
    lock = filelock.FileLock(folder / f"{step}-{name}.lock", mode=0o600)
    try:
        try:
            lock.acquire(timeout=min(FIRST_TRY_S, patience_s))
        except filelock.Timeout:
            progress.say(f"{step}: another process still works on this partition; waiting for it to end")
            lock.acquire(timeout=patience_s)
    except filelock.Timeout:
        raise UsageError(
            f"{step}: another process has worked on this partition for more than {patience_s / 60:.0f} minutes; "
            "look for it in the UI's runs, end it, and launch this again"
        ) from None
    try:
        yield
    finally:
        lock.release()

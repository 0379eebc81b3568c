"""Faults of the machine rather than of the work: no room on the disk, no permission, a database that does not answer.

Belongs here: telling them from other errors, however deep they lie in a chain of causes, and what to do. They
pass: nothing is blamed on a file for them, and the same command goes on once they are over.
"""

import errno
import os
from collections.abc import Iterator

DISK_FULL = (
    "disk_full: there is no room left where the platform writes; nothing half-written was kept. Make room "
    "(`ct-assets gc` frees resampled volumes), then launch this again"
)
DATABASE_AWAY = (
    "tracking_away: the database of the platform does not answer: it is away, or another process keeps it locked. "
    "What was made is kept; launch this again once it answers"
)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOT_PERMITTED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)
_NO_ROOM_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")
"""https://www.sqlite.org/rescode.html: the disk is full; the side file of a write-ahead log could not grow."""
_LOCKED_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED")
_AWAY_POSTGRES = ("OperationalError", "InterfaceError")
"""https://peps.python.org/pep-0249: errors of the database's operation, a lost connection say, not of a statement."""


def told(error: BaseException) -> str | None:
    """Return the message of a fault of the machine, with its reason code; None for any other error."""
    if is_disk_full(error):
        return DISK_FULL
    if is_database_away(error):
        return DATABASE_AWAY
    return unwritable(error)


def unwritable(error: BaseException) -> str | None:
    """Return the message of a place that may not be read or written; None for any other error."""
    for seen in _chain(error):
        if isinstance(seen, OSError) and seen.errno in _NOT_PERMITTED and seen.filename:
            return (
                f"{os.fsdecode(seen.filename)}: {os.strerror(seen.errno)}; give this user access to it, or name "
                "another folder (CT_ASSETS_DATA for the data root)"
            )
    return None


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error, or what caused it, is that there was no room left to write."""
    return any(
        getattr(seen, "errno", None) in _NO_ROOM
        or getattr(seen, "sqlite_errorname", None) in _NO_ROOM_SQLITE
        or "No space left on device" in str(seen)
        for seen in _chain(error)
    )


def is_database_away(error: BaseException) -> bool:
    """Tell whether an error, or what caused it, is that a database did not answer."""
    return any(
        getattr(seen, "sqlite_errorname", None) in _LOCKED_SQLITE
        or any(
            kind.__module__ == "psycopg2" and kind.__name__ in _AWAY_POSTGRES for kind in type(seen).__mro__
        )
        for seen in _chain(error)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__

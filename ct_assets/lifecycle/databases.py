"""One person out of databases: cells that name them, and the free pages that remember what was deleted.

Belongs here: any database that SQLAlchemy opens, table by table. Does not: what a row means; Dagster's own
records are removed by its own means first (`ct_assets.defs.operations.withdrawal`).
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from ct_assets.lifecycle.finder import Finder

SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
_SIDE_FILES = ("-wal", "-shm", "-journal")
REPLACEMENT = "withdrawn"


def is_sqlite(path: Path) -> bool:
    """Tell whether a file is an SQLite database, by its first bytes."""
    with contextlib.suppress(OSError), path.open("rb") as opened:
        return opened.read(16) == b"SQLite format 3\0"
    return False


def scrub_sqlite(path: Path, finder: Finder) -> int:
    """Overwrite every mention in an SQLite file, then write the file anew without free pages; return cells."""
    changed = scrub(f"sqlite:///{path}", finder)
    vacuum(path)
    return changed


def scrub(url: str, finder: Finder) -> int:
    """Overwrite the person's keys and words in every text of a database; return how many cells changed.

    A row whose primary key names the person goes.
    """
    import sqlalchemy as sa

    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    changed = 0
    try:
        metadata = sa.MetaData()
        metadata.reflect(engine)
        with engine.begin() as connection:
            for table in metadata.sorted_tables:
                changed += _scrub_table(connection, table, finder)
    finally:
        engine.dispose()
    return changed


def _scrub_table(connection: Any, table: Any, finder: Finder) -> int:
    import sqlalchemy as sa

    changed = 0
    keys = list(table.primary_key.columns) or list(table.columns)
    found = []
    for row in connection.execute(sa.select(table)):
        values = dict(row._mapping)
        new = {
            name: cleaned
            for name, value in values.items()
            if (cleaned := _cleaned(value, finder)) is not value
        }
        if new:
            found.append(({column.name: values[column.name] for column in keys}, new))
    for where, new in found:
        this = sa.and_(*(table.c[name] == value for name, value in where.items()))
        # A row that is found by the person is the person's own.
        is_own = any(column.name in new for column in table.primary_key.columns)
        connection.execute(table.delete().where(this) if is_own else table.update().where(this).values(**new))
        changed += len(new)
    return changed


def _cleaned(value: Any, finder: Finder) -> Any:
    """Return a cell without the person; the very same object where it held nothing of theirs."""
    if not isinstance(value, str | bytes):
        return value
    content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    spans = sorted({*finder.key_spans(content), *finder.word_spans(content)})
    if not spans:
        return value
    pieces, place = [], 0
    for start, end in spans:
        if start >= place:
            pieces += [content[place:start], REPLACEMENT.encode()]
        place = max(place, end)
    cleaned = b"".join([*pieces, content[place:]])
    return cleaned.decode("utf-8", "surrogatepass") if isinstance(value, str) else cleaned


def vacuum(path: Path) -> None:
    """Write an SQLite file anew, so that no free page and no write-ahead log holds what was deleted."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def vacuum_server(url: str) -> None:
    """Write the tables of a database server anew, without the rows that were deleted or overwritten.

    What the server keeps beside them (its log, its own backups) is its administrator's.
    """
    import sqlalchemy as sa

    engine = sa.create_engine(url, poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("VACUUM FULL"))
    finally:
        engine.dispose()


def side_files(path: Path) -> list[Path]:
    """Return the write-ahead log and its kin beside an SQLite file."""
    return [side for suffix in _SIDE_FILES if (side := path.with_name(path.name + suffix)).exists()]

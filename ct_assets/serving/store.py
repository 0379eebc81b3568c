"""The database of the API: its tables, opening it, and the two kinds of transaction.

Belongs here: SQLAlchemy tables and the engine. sqlite by default (`serving/serving.db`); with `service.database` the
schema `serving` of that Postgres. Rows hold opaque keys, counts and codes, no identifier of an image: those stay in
the restricted spool. Changes of a table are a migration in `serving/migrations`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import sqlalchemy as sa

from ct_assets.settings import Settings

SCHEMA = "serving"
VERSION_TABLE = "serving_alembic_version"
DATABASE_NAME = "serving.db"
BUSY_TIMEOUT_S = 15.0
MIGRATIONS = Path(__file__).with_name("migrations")

METADATA = sa.MetaData()
NAME = sa.String(64)

API_KEYS = sa.Table(
    "api_key",
    METADATA,
    sa.Column("key_id", NAME, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
)
"""Keys of programs: the keyed digest, never the key."""

JOBS = sa.Table(
    "job",
    METADATA,
    sa.Column("job_id", NAME, primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("model", sa.String(128)),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("body_digest", sa.String(64), nullable=False),
    sa.Column("idempotency_key", sa.String(128)),
    sa.Column("key_id", NAME, nullable=False),
    sa.Column("request_id", NAME),
    sa.Column("run_id", NAME),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("reason", NAME),
    sa.Column("result", sa.JSON),
    sa.Column("accepted_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.UniqueConstraint("key_id", "idempotency_key", name="job_idempotency"),
    sa.Index("job_queue", "kind", "state", "priority", "accepted_at"),
    sa.Index("job_ended", "ended_at"),
)
"""Requests: single inference, batches, trainings."""

EVENTS = sa.Table(
    "event",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", NAME, nullable=False),
    sa.Column("job_id", NAME),
    sa.Column("content", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Index("event_job", "job_id", "number"),
    sqlite_autoincrement=True,
)
"""What happened, in order: the source of streams and webhooks."""

WEBHOOKS = sa.Table(
    "webhook",
    METADATA,
    sa.Column("webhook_id", NAME, primary_key=True),
    sa.Column("url", sa.String(2048), nullable=False),
    sa.Column("secret", sa.String(128), nullable=False),
    sa.Column("kinds", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("after_event", sa.Integer, nullable=False),
)

DELIVERIES = sa.Table(
    "delivery",
    METADATA,
    sa.Column("delivery_id", NAME, primary_key=True),
    sa.Column("webhook_id", NAME, nullable=False),
    sa.Column("event_number", sa.Integer, nullable=False),
    sa.Column("job_id", NAME),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.Float, nullable=False),
    sa.Column("answer", sa.String(64)),
    sa.UniqueConstraint("webhook_id", "event_number", name="delivery_once"),
    sa.Index("delivery_due", "state", "next_at"),
)

ALERTS = sa.Table(
    "alert",
    METADATA,
    sa.Column("alert_id", NAME, primary_key=True),
    sa.Column("rule", NAME, nullable=False),
    sa.Column("level", sa.String(16), nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("opened_at", sa.Float, nullable=False),
    sa.Column("acknowledged_at", sa.Float),
    sa.Column("resolved_at", sa.Float),
    sa.Index("alert_state", "state", "rule"),
)

CONFIG_VERSIONS = sa.Table(
    "config_version",
    METADATA,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
    sa.Column("key_id", NAME, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)


def database_url(settings: Settings) -> str:
    """Return the URL of the API's database."""
    if settings.service.database is None:
        return f"sqlite:///{settings.layout.serving / DATABASE_NAME}"
    url = settings.service.database
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{SCHEMA}"


def make_folder(settings: Settings) -> Path:
    """Make the folder of the API, closed to everyone but the owner, and return it."""
    folder = settings.layout.serving
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


class Store:
    """The opened database; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        make_folder(settings)
        self.url = database_url(settings)
        self.is_sqlite = self.url.startswith("sqlite")
        if self.is_sqlite:
            self.engine = sa.create_engine(self.url, connect_args={"timeout": BUSY_TIMEOUT_S})
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = sa.create_engine(self.url, pool_pre_ping=True)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Yield a connection whose reads see one state of the database."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction that is committed when the block ends without an error."""
        with self.engine.connect().execution_options(is_write=True) as connection, connection.begin():
            yield connection

    def rows(self, statement: sa.Select) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        with self.read() as connection:
            return [dict(row._mapping) for row in connection.execute(statement)]

    def row(self, statement: sa.Select) -> dict[str, Any] | None:
        """Return the first row of a query."""
        with self.read() as connection:
            found = connection.execute(statement).first()
        return None if found is None else dict(found._mapping)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_store(settings: Settings) -> Store:
    """Open the database in its present form: a missing one is made, an older one brought up to date."""
    folder = make_folder(settings)
    with filelock.FileLock(folder / ".migrate.lock", timeout=120, mode=0o600):
        if settings.service.database is not None:
            _make_schema(settings.service.database)
        store = Store(settings)
        _upgrade(store)
    if store.is_sqlite:
        (folder / DATABASE_NAME).chmod(0o600)
    return store


def add_event(connection: sa.Connection, kind: str, job_id: str | None, content: dict[str, Any]) -> None:
    """Note what happened, in the transaction that does it."""
    connection.execute(
        EVENTS.insert().values(kind=kind, job_id=job_id, content=content, created_at=time.time())
    )


def _upgrade(store: Store) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with store.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _make_schema(database: str) -> None:
    engine = sa.create_engine(database, poolclass=sa.pool.NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    finally:
        engine.dispose()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, of the kind that is wanted
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that begins as a reader and then writes can fail although it waited; a writer says so at once.
    is_write = connection.get_execution_options().get("is_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

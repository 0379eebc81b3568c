"""The database: migrations make exactly the declared tables, and queries use their indexes."""

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ct_assets.serving.store import JOBS, METADATA, VERSION_TABLE, open_store


def test_the_migrations_make_the_declared_tables(api):
    with api.serving.store.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


def test_opening_again_changes_nothing(api, api_settings):
    with api.serving.store.write() as connection:
        connection.execute(
            JOBS.insert().values(
                job_id="a", kind="inference", state="accepted", priority=0, parameters={}, body_digest="",
                key_id="k", attempts=0, accepted_at=1.0,
            )
        )  # fmt: skip
    again = open_store(api_settings)
    assert [row["job_id"] for row in again.rows(sa.select(JOBS))] == ["a"]
    again.close()


def test_the_queue_is_read_by_its_index(api):
    query = (
        "EXPLAIN QUERY PLAN SELECT job_id FROM job WHERE kind = 'inference' AND state = 'accepted' "
        "ORDER BY priority, accepted_at LIMIT 1"
    )
    with api.serving.store.read() as connection:
        plan = " ".join(str(row) for row in connection.execute(sa.text(query)))
    assert "USING INDEX job_queue" in plan or "USING COVERING INDEX job_queue" in plan
    assert "TEMP B-TREE" not in plan

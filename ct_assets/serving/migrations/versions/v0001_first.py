"""The first form of the API's database."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "api_key",
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("revoked_at", sa.Float()),
    )
    op.create_table(
        "job",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(128)),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("body_digest", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(128)),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64)),
        sa.Column("run_id", sa.String(64)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(64)),
        sa.Column("result", sa.JSON()),
        sa.Column("accepted_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("ended_at", sa.Float()),
        sa.UniqueConstraint("key_id", "idempotency_key", name="job_idempotency"),
    )
    op.create_index("job_ended", "job", ["ended_at"])
    op.create_index("job_queue", "job", ["kind", "state", "priority", "accepted_at"])
    op.create_table(
        "event",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64)),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("event_job", "event", ["job_id", "number"])
    op.create_table(
        "webhook",
        sa.Column("webhook_id", sa.String(64), primary_key=True),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("secret", sa.String(128), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("after_event", sa.Integer(), nullable=False),
    )
    op.create_table(
        "delivery",
        sa.Column("delivery_id", sa.String(64), primary_key=True),
        sa.Column("webhook_id", sa.String(64), nullable=False),
        sa.Column("event_number", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(64)),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.Column("answer", sa.String(64)),
        sa.UniqueConstraint("webhook_id", "event_number", name="delivery_once"),
    )
    op.create_index("delivery_due", "delivery", ["state", "next_at"])
    op.create_table(
        "alert",
        sa.Column("alert_id", sa.String(64), primary_key=True),
        sa.Column("rule", sa.String(64), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("value", sa.Float()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("opened_at", sa.Float(), nullable=False),
        sa.Column("acknowledged_at", sa.Float()),
        sa.Column("resolved_at", sa.Float()),
    )
    op.create_index("alert_state", "alert", ["state", "rule"])
    op.create_table(
        "config_version",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    """Remove the tables."""
    for name in ("config_version", "alert", "delivery", "webhook", "event", "job", "api_key"):
        op.drop_table(name)

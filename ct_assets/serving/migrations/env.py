"""How alembic runs the migrations: on the connection that `serving.store` hands in, with a version table of our own."""

from alembic import context

from ct_assets.serving.store import METADATA, VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=METADATA, version_table=VERSION_TABLE, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
connection.commit()

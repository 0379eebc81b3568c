"""Backup, restore and upgrade of a whole platform: the parts that Dagster's and MLflow's storage have in them.

Belongs here: what needs the instance. The rest is in `ct_assets.lifecycle`.
"""

from pathlib import Path

from ct_assets import progress
from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations.withdrawal import refuse_while_running, withdraw
from ct_assets.errors import UsageError
from ct_assets.identity.key import SecretKey
from ct_assets.lifecycle import backup, schema
from ct_assets.settings import Settings


def back_up(settings: Settings, target: Path) -> None:
    """Do what `ct-assets backup` does: one file, made while nothing runs."""
    if not settings.layout.root.is_dir():
        raise UsageError(f"{settings.layout.root}: holds no platform")
    schema.refuse_newer(settings.layout)
    refuse_while_running(settings)
    made = backup.back_up(settings.layout, target, settings.deid.key_file)
    progress.say(f"{target}: backup {made.name}, {made.files} files, {made.bytes / 1e6:.1f} MB (mode 0600)")
    progress.say("the secret key is not in it, the originals are: keep them apart, and keep it closed")
    if settings.service.database is not None:
        progress.say(
            "the records of runs and trainings lie in the database that service.database names: dump it now, with "
            "pg_dump, before anything runs"
        )


def restore(settings: Settings, source: Path, tombstones: Path | None, workers: int) -> None:
    """Do what `ct-assets restore` does; who withdrew after the backup was made is taken out again at once."""
    try:
        key = SecretKey.load(settings.deid.key_file)
    except UsageError:
        if tombstones is not None:
            raise
        key = None
    layout = settings.layout
    made = backup.restore(source, layout, key, tombstones)
    progress.say(
        f"{layout.root}: backup {made.name} restored, {made.files} files, each as the backup's list says"
    )
    if layout.withdrawals_due.exists():
        withdraw(settings, None, yes=True, workers=workers)
    if tombstones is None:
        progress.say(
            "if anybody has withdrawn since the backup was made, they are here again: restore with --tombstones, or "
            "withdraw them again before anything else"
        )


def upgrade(settings: Settings) -> None:
    """Do what `ct-assets upgrade` does: data root, Dagster's storage, MLflow's storage, in that order.

    Nothing is touched while runs are under way, nor where the data root has a newer form.
    """
    schema.refuse_newer(settings.layout)
    refuse_while_running(settings)
    for line in schema.upgrade(settings.layout):
        progress.say(line)
    with open_instance(settings) as instance:
        instance.upgrade()
    uri = Platform(settings).tracking_uri
    if not uri.startswith("http"):
        _upgrade_tracking(uri)
    progress.say(f"{settings.layout.root}: form {schema.SCHEMA}, as this version writes it")


def _upgrade_tracking(uri: str) -> None:
    import sqlalchemy as sa
    from mlflow.store.db import utils

    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return
    engine = sa.create_engine(uri)
    try:
        if sa.inspect(engine).has_table("alembic_version"):
            utils._upgrade_db(engine)
    finally:
        engine.dispose()

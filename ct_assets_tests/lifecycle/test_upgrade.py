"""`ct-assets upgrade` over databases that earlier versions of Dagster and MLflow wrote."""

import contextlib
import sqlite3

import pytest

from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations import backup as keep
from ct_assets.lifecycle import schema
from ct_assets_tests.defs import platforms

pytestmark = pytest.mark.slow

BEFORE_LIMITS = "6b7fb194ff9c"
"""Dagster's revision before `concurrency_limits.using_default_limit` (its migration 048)."""


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "labels.csv").write_text("PatientID,Overall Stage\n")
    platforms.write_settings(tmp_path, tmp_path / "labels.csv")
    return platforms.settings_of(tmp_path)


def columns(path, table) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


def revision(path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as database:
        [(found,)] = database.execute("SELECT version_num FROM alembic_version")
    return found


def test_dagsters_storage_of_an_earlier_version_is_brought_to_this_one(settings):
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("batch", ["b0001"])
    storage = settings.layout.dagster_home / "history/runs/index.db"
    today = revision(storage)
    with contextlib.closing(sqlite3.connect(storage)) as database, database:
        database.execute("ALTER TABLE concurrency_limits DROP COLUMN using_default_limit")
        database.execute("UPDATE alembic_version SET version_num = ?", [BEFORE_LIMITS])
    keep.upgrade(settings)
    assert revision(storage) == today
    assert "using_default_limit" in columns(storage, "concurrency_limits")
    with open_instance(settings) as instance:
        assert instance.get_dynamic_partitions("batch") == ["b0001"]
    assert schema.number_of(settings.layout) == schema.SCHEMA


def test_mlflows_database_of_an_earlier_version_is_brought_to_this_one_with_its_experiments(settings):
    import sqlalchemy as sa
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from mlflow.tracking import MlflowClient

    uri = Platform(settings).tracking_uri
    path = settings.layout.mlflow / "mlflow.db"
    path.parent.mkdir(parents=True)
    engine = sa.create_engine(uri)
    Base.metadata.create_all(engine)
    config = utils._get_alembic_config(uri)
    scripts = ScriptDirectory.from_config(config)
    earlier = scripts.get_revision("head").down_revision
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, earlier)
        connection.execute(
            sa.text(
                "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'kept', 'active')"
            )
        )
    engine.dispose()
    assert revision(path) == earlier
    keep.upgrade(settings)
    assert revision(path) == scripts.get_current_head()
    assert MlflowClient(uri).get_experiment_by_name("kept").experiment_id == "7"

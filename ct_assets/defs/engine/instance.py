"""The Dagster instance of a platform: its home under the data root, ready before anything uses it.

Belongs here: DAGSTER_HOME with its `dagster.yaml` and `workspace.yaml`, rendered from the project's
`dagster.yaml` and the settings, and the database behind it. What runs in the instance is decided elsewhere.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import filelock
import yaml

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.settings import Settings
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets.settings.service import ServiceSettings
from ct_assets.storage import session

INSTANCE_FILE = "dagster.yaml"
WORKSPACE_FILE = "workspace.yaml"
LOCATION = "ct_assets"
MLFLOW_SCHEMA = "mlflow"
CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_S = 300.0
RENDERED = "# Rendered from the settings by ct-assets; changes here are lost. See docs/operate.md.\n"
PARTITION_TAG, JOB_TAG = "dagster/partition", "dagster/job_name"


def prepare_home(settings: Settings) -> Path:
    """Make `.dagster/` under the data root with its two files and Dagster's tables, and return it.

    One process at a time: two that made the tables of a new platform together would fail each other
    ("table runs already exists"). Raises `UsageError` where the settings name a database that does not answer.
    """
    home = settings.layout.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    if settings.service.database is not None:
        prepare_database(settings.service.database)
    with filelock.FileLock(home / ".lock", timeout=LOCK_TIMEOUT_S, mode=0o600):
        _write(home / INSTANCE_FILE, instance_config(settings.service))
        _write(home / WORKSPACE_FILE, workspace_config(settings.service))
        with dg.DagsterInstance.from_config(str(home)):
            pass
    return home


def instance_config(service: ServiceSettings) -> dict[str, Any]:
    """Return Dagster's instance configuration: the project's `dagster.yaml` under these settings."""
    queue = service.queue
    config: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / INSTANCE_FILE).read_text(encoding="utf-8"))
    config["concurrency"]["runs"] = {
        "max_concurrent_runs": queue.max_runs,
        "tag_concurrency_limits": [
            # Two runs of one partition would do the same work twice.
            {"key": PARTITION_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1},
            *(
                {"key": JOB_TAG, "value": job, "limit": limit}
                for job, limit in sorted(queue.max_runs_by_job.items())
            ),
        ],
    }
    config["run_monitoring"] |= {
        "start_timeout_seconds": queue.start_timeout_seconds,
        "poll_interval_seconds": queue.check_seconds,
    }
    if queue.max_hours is not None:
        config["run_monitoring"]["max_runtime_seconds"] = round(queue.max_hours * 3600)
    config["run_retries"]["max_retries"] = queue.retries
    if service.database is not None:
        config["storage"] = {"postgres": {"postgres_url": service.database}}
    if service.ray is not None and service.ray.launch in ("runs", "both"):
        from ct_assets.defs.engine.ray import launcher_config

        config["run_launcher"] = launcher_config(service.ray)
    elif service.kubernetes is not None:
        from ct_assets.defs.engine import kubernetes

        config["run_launcher"] = kubernetes.launcher_config(service.kubernetes)
    return config


def workspace_config(service: ServiceSettings) -> dict[str, Any]:
    """Return the workspace of webservers and daemon beside a code server of its own."""
    server = service.code_server
    return {
        "load_from": [{"grpc_server": {"host": server.host, "port": server.port, "location_name": LOCATION}}]
    }


def tracking_url(database: str) -> str:
    """Return MLflow's URL in the same database: its tables stand in a schema of their own.

    Both tools keep their version in a table of one name, so one schema would not hold both.
    """
    separator = "&" if "?" in database else "?"
    return f"{database}{separator}options=-csearch_path%3D{MLFLOW_SCHEMA}"


def prepare_database(database: str) -> None:
    """Make MLflow's schema where there is none. Raises `UsageError` where the database does not answer."""
    try:
        import psycopg2
        from psycopg2 import errors
    except ImportError:
        raise UsageError(
            "service.database needs the extra `postgres`: pip install 'ct-assets[postgres]'"
        ) from None
    try:
        connection = psycopg2.connect(
            "postgresql://" + database.partition("://")[2], connect_timeout=CONNECT_TIMEOUT_S
        )
    except psycopg2.OperationalError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"service.database: {database} does not answer: {reason}") from None
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {MLFLOW_SCHEMA}")
    except errors.UniqueViolation:
        pass  # another process made it at the same moment
    finally:
        connection.close()


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the platform's instance; `DAGSTER_HOME` points to it inside the block.

    Of a data root in an object store, what the instance needs is fetched before, and everything that changed
    is published when the instance is closed.
    """
    with session.opened(settings):
        home = prepare_home(settings)
        before = os.environ.get("DAGSTER_HOME")
        os.environ["DAGSTER_HOME"] = str(home)
        try:
            with dg.DagsterInstance.get() as instance:
                yield instance
        finally:
            if before is None:
                del os.environ["DAGSTER_HOME"]
            else:
                os.environ["DAGSTER_HOME"] = before


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a rendered file where it differs: many processes open one instance."""
    wanted = (RENDERED + yaml.safe_dump(dict(content), sort_keys=False)).encode()
    if not path.exists() or path.read_bytes() != wanted:
        files.write_bytes(path, wanted)

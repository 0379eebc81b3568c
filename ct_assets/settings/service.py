"""Settings of a platform that runs as a service: its database, run queue, processes, Ray, what machines give.

Belongs here: what `defs.engine.instance` renders for Dagster and what `ct-assets service` starts. Everything has a
default under which nothing but this machine is needed. Alerts have a file of their own.
"""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from ct_assets.settings.base import Section

DATABASE_DRIVER = "postgresql+psycopg2"


def check_database(url: str) -> str:
    """Return a database URL that Dagster and MLflow both take and that holds no secret.

    The password is libpq's own business (`PGPASSWORD`, or a `.pgpass` file): in a URL it would end in
    process lists, configuration files and the record of each training.
    """
    parts = urlsplit(url)
    if parts.scheme != DATABASE_DRIVER:
        raise ValueError(
            f"begin it with {DATABASE_DRIVER}:// (a plain postgresql:// asks for another driver)"
        )
    if parts.password:
        raise ValueError("put no password into it; give it as PGPASSWORD or in ~/.pgpass")
    if not parts.path.strip("/"):
        raise ValueError(f"name a database: {DATABASE_DRIVER}://user@host:5432/ct_assets")
    return url


DatabaseUrl = Annotated[str, AfterValidator(check_database)]


class QueueSettings(Section):
    """How much goes on at once, and what happens to a run whose worker is lost (`service.queue:`)."""

    max_runs: int = Field(default=2, ge=1)
    """Runs at once; others wait in the queue. One partition never has two."""
    max_runs_by_job: dict[str, int] = {}
    """Further limits by job, for example `{cross_validation: 1}`."""
    start_timeout_seconds: int = Field(default=120, ge=10)
    """A run that has not begun by then has failed."""
    check_seconds: int = Field(default=30, ge=1)
    """How often the worker of each run is looked at."""
    max_hours: float | None = Field(default=None, gt=0)
    """A run that takes longer is ended; by default none is."""
    retries: int = Field(default=2, ge=0)
    """How often a run is tried again, from where it failed, when its worker was lost. A stage that failed
    by itself is not: it would fail again."""


class CodeServer(Section):
    """The process that has loaded the definitions and starts the runs (`service.code_server:`)."""

    host: str = "127.0.0.1"
    port: int = Field(default=4266, ge=1024, le=65535)


class RaySettings(Section):
    """A Ray cluster that runs or steps go to (`service.ray:`)."""

    address: str = "http://127.0.0.1:8265"
    """Ray's jobs address: the dashboard of the head node."""
    launch: Literal["runs", "steps", "both"] = "both"
    """`runs`: each run is one job of the cluster, for many batches or folds. `steps`: each step of the heavy
    jobs (folds, training, evaluation) is one, with the resources of its asset. A step costs some 7 seconds."""
    environment: tuple[str, ...] = ()
    """Names of further environment variables that jobs get from the launching process. Ray shows their values to
    everyone who sees its dashboard: no secrets; those belong into files or the environment of the nodes."""


class KubernetesSettings(Section):
    """A Kubernetes cluster that runs go to as jobs (`service.kubernetes:`); the manifests are in `deploy/k8s`."""

    image: str
    namespace: str = "ct-assets"
    service_account: str = "ct-assets"
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    instance_config_map: str = "ct-assets-instance"
    """Holds `dagster.yaml`; the launcher insists on one, and the run brings its own along."""
    settings_config_map: str = "ct-assets-settings"
    """Holds the settings file, as `settings.yaml`."""
    secret: str = "ct-assets-secrets"
    """Environment of every pod that works: `CT_ASSETS_DEID_KEY`, `PGPASSWORD`."""
    data_claim: str = "ct-assets-data"
    """The claim of a volume that several pods may write; it is the data root `/data`."""
    kubeconfig: str | None = None
    """For a daemon outside the cluster; inside, the pod's own account is used."""


class ServiceSettings(Section):
    """A platform that runs as a service (`service:`)."""

    database: DatabaseUrl | None = None
    """Postgres for Dagster and MLflow: `postgresql+psycopg2://user@host:5432/ct_assets`; Dagster takes the
    schema `public`, MLflow `mlflow`. `CT_ASSETS_DATABASE` overrides it. By default sqlite files."""
    queue: QueueSettings = QueueSettings()
    code_server: CodeServer = CodeServer()
    ray: RaySettings | None = None
    kubernetes: KubernetesSettings | None = None
    logs: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object a line for a log collector."""

    @model_validator(mode="after")
    def _one_place_for_runs(self) -> Self:
        if self.kubernetes is not None and self.ray is not None:
            raise ValueError("name ray or kubernetes, not both: runs go to one place")
        if self.kubernetes is not None and self.database is None:
            raise ValueError("kubernetes needs a database: its pods share no files of sqlite")
        return self


class Resources(Section):
    """What one step of an asset asks of a cluster (`execution.resources.<asset>:`)."""

    cpus: float = Field(default=1, gt=0)
    memory_gb: float = Field(default=2, gt=0)
    gpus: int = Field(default=0, ge=0)

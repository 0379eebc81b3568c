"""Runs for the HTTP API: launched through Dagster's webserver, looked up in the instance.

Belongs here: what `ct_assets.serving.platform.Runs` asks for. A launch goes the way that the UI's goes: through the run
coordinator with its queue, limits and retries.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError

from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.partitions import EXPERIMENT, fold_trainings, split_key
from ct_assets.serving.runs import RunsAwayError
from ct_assets.settings import Settings

REQUEST_TAG = "ct_assets/request"
TIMEOUT_S = 15
TRAINING_JOB = "cross_validation"


class DagsterRuns:
    """Launches and looks up runs."""

    def __init__(self, instance: dg.DagsterInstance, url: str) -> None:
        self.instance, self.url = instance, urlsplit(url)

    def launch(self, job: str, *, tag: str, partition: str | None, config: dict[str, object]) -> str:
        """Hand a run to the run coordinator. Raises `RunsAwayError` where the webserver does not take it."""
        tags, run_config = {REQUEST_TAG: tag}, _run_config(job, config)
        if partition is not None:
            self.instance.add_dynamic_partitions(EXPERIMENT, [split_key(partition)[0]])
            tags |= fold_trainings.get_tags_for_partition_key(partition)
        try:
            return str(self._client().submit_job_execution(job, run_config=run_config, tags=tags))
        except (DagsterGraphQLClientError, OSError) as error:
            raise RunsAwayError from error

    def find(self, tag: str) -> str | None:
        """Return the newest run that bears the tag."""
        found = self.instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: tag}), limit=1)
        return found[0].dagster_run.run_id if found else None

    def status(self, run_id: str) -> str | None:
        """Return Dagster's status; of a run that was tried again, that of the last try."""
        run = self.instance.get_run_by_id(run_id)
        if run is None:
            return None
        retries = self.instance.get_run_records(dg.RunsFilter(tags={"dagster/root_run_id": run_id}), limit=1)
        return (retries[0].dagster_run if retries else run).status.value

    def cancel(self, run_id: str) -> None:
        """Take a run out of the queue, or end it."""
        try:
            self._client().terminate_run(run_id)
        except (DagsterGraphQLClientError, OSError) as error:
            raise RunsAwayError from error

    def _client(self) -> DagsterGraphQLClient:
        return DagsterGraphQLClient(
            self.url.hostname or "127.0.0.1",
            port_number=self.url.port,
            use_https=self.url.scheme == "https",
            path_prefix=self.url.path.rstrip("/"),
            timeout=TIMEOUT_S,
        )


def _run_config(job: str, config: Mapping[str, object]) -> dict[str, Any]:
    if not config:
        return {}
    op = "fold_model" if job == TRAINING_JOB else "answer_batch"
    return {"ops": {op: {"config": dict(config)}}}


@contextmanager
def open_runs(settings: Settings) -> Iterator[DagsterRuns]:
    """Yield the runs of a platform."""
    with open_instance(settings) as instance:
        yield DagsterRuns(instance, settings.serving.dagster_url)

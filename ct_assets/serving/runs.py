"""What the API asks of runs of the graph; `defs.operations.serving_runs` answers with Dagster.

Belongs here: the protocol alone, so that the graph can name its errors without loading a web framework.
"""

from typing import Protocol


class Runs(Protocol):
    """Launches and looks up runs of the graph; `defs.operations.serving_runs` does it with Dagster."""

    def launch(self, job: str, *, tag: str, partition: str | None, config: dict[str, object]) -> str:
        """Hand a run to the run coordinator and return its id.

        `tag` marks it as the request's own. Raises `RunsAwayError` where nobody takes launches.
        """

    def find(self, tag: str) -> str | None:
        """Return the id of the run that bears the tag."""

    def status(self, run_id: str) -> str | None:
        """Return Dagster's status (`QUEUED`, `STARTED`, `SUCCESS`, …); None for a run that is not there."""

    def cancel(self, run_id: str) -> None:
        """Take a run out of the queue, or end it."""


class RunsAwayError(Exception):
    """The webserver that takes launches does not answer; the request stays and is launched later."""

"""What all routes work on: settings, database, keys, launches, metrics; and which bundle a model's name means.

Belongs here: the one value behind `request.app.state.serving`. Does not: any route.
"""

import threading
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from fastapi import Depends, Request

from ct_assets.serving.keys import Keys
from ct_assets.serving.observability import Metrics
from ct_assets.serving.store import Store, open_store
from ct_assets.settings import Settings


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


@dataclass
class Serving:
    """The platform as the API has opened it."""

    settings: Settings
    store: Store
    keys: Keys
    metrics: Metrics = field(default_factory=Metrics)
    runs: Runs | None = None
    """None where nobody can launch (tests, a server without Dagster's webserver)."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server shuts down: open streams end."""

    @classmethod
    def open(cls, settings: Settings, runs: Runs | None = None) -> "Serving":
        """Open the database of the API and what belongs to it."""
        store = open_store(settings)
        return cls(settings, store, Keys(store, settings.layout.serving), runs=runs)


def of_request(request: Request) -> Serving:
    """Return the platform behind a request."""
    found: Serving = request.app.state.serving
    return found


Platform = Annotated[Serving, Depends(of_request)]

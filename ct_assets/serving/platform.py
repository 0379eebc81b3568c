"""What all routes work on: settings, database, keys, launches, metrics; and which bundle a model's name means.

Belongs here: the one value behind `request.app.state.serving`. Does not: any route.
"""

import threading
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from ct_assets.serving.keys import Keys
from ct_assets.serving.observability import Metrics
from ct_assets.serving.runs import Runs
from ct_assets.serving.store import Store, open_store
from ct_assets.settings import Settings


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

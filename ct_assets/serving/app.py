"""The application: every module of this package that has a `router` is part of it.

Belongs here: assembling, and the table of routes with their roles. A page or an endpoint is a module beside this one
with `router: APIRouter`, and where it mounts files, `mounts(serving) -> list[Mount]` with `roles.Guarded`.
"""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import ModuleType

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute

import ct_assets
from ct_assets import serving as package
from ct_assets.serving import problems, roles
from ct_assets.serving.keys import Role
from ct_assets.serving.observability import Observed
from ct_assets.serving.platform import Serving

TITLE = "ct_assets"
SMALLEST_COMPRESSED = 2048
SKIPPED = ("app", "migrations")


def create_app(serving: Serving, *, logs: bool = True) -> FastAPI:
    """Return the application over an opened platform."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        serving.stopping.set()
        serving.store.close()

    app = FastAPI(
        title=TITLE,
        version=ct_assets.__version__,
        summary="Inference, trainings, experiments and operation of a ct_assets platform.",
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,  # served by `health`, behind a role like everything else
    )
    app.state.serving = serving
    problems.install(app)
    for module in modules():
        app.router.routes.extend(module.router.routes)  # as they are: an included router would hide them
        app.router.routes.extend(getattr(module, "mounts", lambda _serving: ())(serving))
    app.add_middleware(GZipMiddleware, minimum_size=SMALLEST_COMPRESSED, compresslevel=5)
    app.add_middleware(Observed, metrics=serving.metrics, logs=logs)
    return app


def modules() -> Iterator[ModuleType]:
    """Yield the modules of this package that bring routes, by name."""
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda one: one.name):
        if found.name not in SKIPPED:
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            if hasattr(module, "router"):
                yield module


def route_roles(app: FastAPI) -> list[tuple[BaseRoute, Role | None]]:
    """Return every route, websocket and mount with the role that it declares."""
    return [(route, roles.role_of(route)) for route in app.routes]

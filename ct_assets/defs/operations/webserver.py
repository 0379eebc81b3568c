"""Dagster's webserver with the platform's pages beside it: `python -m ct_assets.defs.operations.webserver`.

Belongs here: the routes that are added, `/reports/` and `/viewer/`, so that pages, pictures and cases that metadata
name open with a click. Everything else, options too, is `dagster-webserver`'s own. Does not: who may reach it; it
listens where `defs.operations.ui` and `defs.operations.service` tell it, and the proxy in front asks for the password.
"""

from typing import Any

from dagster_webserver import cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from ct_assets.defs.engine.stage import REPORTS_URL, VIEWER_URL
from ct_assets.layout import Layout
from ct_assets.reports import index
from ct_assets.serving import viewer
from ct_assets.settings import load_settings

REPORT_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""A page of a report is text and pictures: nothing on it may run or ask this server for anything."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format: it does not read what is served as bytes of an unknown kind
(https://prometheus.io/docs/instrumenting/exposition_formats/)."""


class Reports(StaticFiles):
    """The files under `reports/` of the data root, with an index of the pages: no link that leads out of it."""

    def __init__(self, layout: Layout) -> None:
        # The folder may not be there yet: it is made with the first report.
        super().__init__(directory=layout.reports, html=True, check_dir=False)
        self._layout = layout

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, or the index as it is now."""
        if path in (".", index.NAME) and scope["method"] in ("GET", "HEAD"):
            return HTMLResponse(await run_in_threadpool(index.render, self._layout), headers=REPORT_HEADERS)
        return await super().get_response(path, scope)

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Return a file, with headers that let it do nothing."""
        response = super().file_response(*args, **options)
        response.headers.update(REPORT_HEADERS)
        if str(args[0]).endswith(".prom"):
            response.headers["Content-Type"] = METRICS_TYPE
        return response


class Webserver(DagsterWebserver):
    """Dagster's webserver with the platform's pages."""

    def build_routes(self) -> list[BaseRoute]:
        """Put the pages before the one that answers everything else."""
        layout = load_settings().layout
        return [
            Mount(REPORTS_URL, Reports(layout), name="reports"),
            Mount(VIEWER_URL, viewer.application(layout), name="viewer"),
            *(Route(url, _with_slash, name=f"{url} without a slash") for url in (REPORTS_URL, VIEWER_URL)),
            *super().build_routes(),
        ]


async def _with_slash(request: Request) -> Response:
    """Lead to the folder: addresses on its pages are relative."""
    return RedirectResponse(f"{request.scope['path']}/", headers={"Cache-Control": "no-store"})


def main() -> None:
    """Run `dagster-webserver` with its own options."""
    setattr(cli, "create_app_from_workspace_process_context", _app)  # noqa: B010 (a module, not ours)
    cli.main()


def _app(context: Any, path_prefix: str = "", poll_rate: int | None = None, **options: Any) -> Any:
    return Webserver(context, path_prefix, poll_rate).create_asgi_app(**options)


if __name__ == "__main__":
    main()

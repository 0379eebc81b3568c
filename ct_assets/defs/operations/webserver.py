"""Dagster's webserver with the platform's report pages beside it: `python -m ct_assets.defs.operations.webserver`.

Belongs here: the one route that is added, `/reports/`, so that pages and pictures that metadata name open
with a click. Everything else, options too, is `dagster-webserver`'s own. Does not: who may reach it; it
listens where `defs.operations.ui` and `defs.operations.service` tell it, and the proxy in front asks for the password.
"""

from typing import Any

from dagster_webserver import cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from ct_assets.defs.engine.stage import REPORTS_URL
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
    """The files under `reports/` of the data root: no listing, no link that leads out of it."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Return a file, with headers that let it do nothing."""
        response = super().file_response(*args, **options)
        response.headers.update(REPORT_HEADERS)
        if str(args[0]).endswith(".prom"):
            response.headers["Content-Type"] = METRICS_TYPE
        return response


class Webserver(DagsterWebserver):
    """Dagster's webserver with one route more."""

    def build_routes(self) -> list[BaseRoute]:
        """Put the reports before the page that answers everything else."""
        # The folder may not be there yet: it is made with the first report.
        reports = Reports(directory=load_settings().layout.reports, html=True, check_dir=False)
        return [Mount(REPORTS_URL, reports, name="reports"), *super().build_routes()]


def main() -> None:
    """Run `dagster-webserver` with its own options."""
    setattr(cli, "create_app_from_workspace_process_context", _app)  # noqa: B010 (a module, not ours)
    cli.main()


def _app(context: Any, path_prefix: str = "", poll_rate: int | None = None, **options: Any) -> Any:
    return Webserver(context, path_prefix, poll_rate).create_asgi_app(**options)


if __name__ == "__main__":
    main()

"""Whether the server lives, is ready, and what its parts say; its metrics and its description (OpenAPI).

Belongs here: `/livez`, `/readyz`, `/health/detailed`, `/metrics`, `/openapi.json`.
"""

import shutil
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ct_assets.serving.keys import Role
from ct_assets.serving.observability import METRICS_TYPE
from ct_assets.serving.platform import Platform, Serving
from ct_assets.serving.roles import needs
from ct_assets.serving.store import JOBS

router = APIRouter(tags=["operation"])


@router.get("/livez", dependencies=[needs(Role.PUBLIC)], summary="Whether the process lives")
async def livez() -> dict[str, str]:
    """Answer at once; nothing else is asked."""
    return {"status": "alive"}


@router.get("/readyz", dependencies=[needs(Role.PUBLIC)], summary="Whether requests can be taken")
def readyz(platform: Platform) -> Response:
    """Look at database, spool and disk; 503 where one of them is not usable."""
    is_ready = all(part["is_ok"] for name, part in parts(platform).items() if name in NEEDED)
    content = {"status": "ready" if is_ready else "not ready"}
    return JSONResponse(content, 200 if is_ready else 503)


@router.get("/health/detailed", dependencies=[needs(Role.VIEWER)], summary="What each part says")
def detailed(platform: Platform) -> dict[str, Any]:
    """Return each part with whether it works, and its figures."""
    return {"parts": parts(platform), "queue": queue_counts(platform)}


@router.get("/metrics", dependencies=[needs(Role.VIEWER)], summary="Metrics for Prometheus")
def metrics(platform: Platform) -> Response:
    """Return the metrics in Prometheus' text format."""
    platform.metrics.jobs.clear()
    for kind, state, count in queue_counts(platform):
        platform.metrics.jobs.labels(kind, state).set(count)
    return Response(platform.metrics.text(), media_type=METRICS_TYPE)


@router.get("/openapi.json", dependencies=[needs(Role.VIEWER)], include_in_schema=False)
def openapi(request: Request) -> Response:
    """Return the description of all routes."""
    return JSONResponse(request.app.openapi())


NEEDED = ("database", "spool", "disk")
"""Parts without which nothing can be accepted; without the others, requests wait."""


def parts(platform: Serving) -> dict[str, dict[str, Any]]:
    """Return each part of the server with `is_ok` and its figures."""
    folder = platform.settings.layout.serving
    usage = shutil.disk_usage(folder)
    free_gb = usage.free / 1e9
    return {
        "database": {"is_ok": _answers(platform)},
        "spool": {"is_ok": (folder.stat().st_mode & 0o777) == 0o700},
        "disk": {"is_ok": free_gb >= platform.settings.serving.min_free_gb, "free_gb": round(free_gb, 2)},
    }


def queue_counts(platform: Serving) -> list[tuple[str, str, int]]:
    """Return how many requests there are by kind and state."""
    query = sa.select(JOBS.c.kind, JOBS.c.state, sa.func.count()).group_by(JOBS.c.kind, JOBS.c.state)
    with platform.store.read() as connection:
        return [(kind, state, count) for kind, state, count in connection.execute(query)]


def _answers(platform: Serving) -> bool:
    try:
        with platform.store.read() as connection:
            connection.execute(sa.text("SELECT 1"))
    except sa.exc.SQLAlchemyError:
        return False
    return True

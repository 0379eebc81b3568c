"""Batches: many studies in one request, worked on by a run of the graph instead of the warm predictor.

Belongs here: `/v1/batches`, launching the run, and bringing row and run together again after either was lost.
"""

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from ct_assets.serving import inference, jobs
from ct_assets.serving.keys import Role
from ct_assets.serving.observability import log
from ct_assets.serving.platform import Platform, Serving
from ct_assets.serving.predictor import Worker, predict_with_system
from ct_assets.serving.roles import needs
from ct_assets.serving.runs import RunsAwayError
from ct_assets.serving.store import JOBS, open_store
from ct_assets.settings import Settings

router = APIRouter(prefix="/v1/batches", tags=["batches"])
JOB_NAME = "serving_batch"
ENDED_BADLY = ("FAILURE", "CANCELED")


@router.post(
    "",
    status_code=202,
    dependencies=[needs(Role.OPERATOR)],
    summary="Send many studies",
    openapi_extra={"requestBody": inference.BODY},
)
async def submit(
    request: Request,
    platform: Platform,
    model: Annotated[str | None, Query(max_length=128)] = None,
    priority: inference.Priority = "low",
    idempotency_key: inference.IdempotencyKey = None,
) -> Response:
    """Accept files of many studies; a run of the graph predicts them all."""
    row, received = await inference.take(
        request, platform, model, priority, idempotency_key, study_uid=None, kind="batch"
    )
    accepted = sum(one.status == "accepted" for one in received)
    content = jobs.view(row) | {"files": {"accepted": accepted, "refused": len(received) - accepted}}
    return JSONResponse(content, 202, headers={"Location": f"/v1/batches/{row['job_id']}"})


@router.get("", dependencies=[needs(Role.VIEWER)], summary="Batches, the newest first")
def listing(
    platform: Platform, state: inference.State | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[dict[str, Any]]:
    """Return the newest batches."""
    return [jobs.view(row) for row in jobs.listing(platform.store, "batch", state, limit, None)]


@router.get("/{job_id}", dependencies=[needs(Role.VIEWER)], summary="One batch")
def one(platform: Platform, job_id: str) -> dict[str, Any]:
    """Return the state of a batch with the run that works on it."""
    return jobs.view(jobs.get(platform.store, job_id, "batch"))


@router.get("/{job_id}/results", dependencies=[needs(Role.VIEWER)], summary="Results by series")
def results(platform: Platform, job_id: str) -> list[dict[str, Any]]:
    """Return a line a series; its files are fetched as those of a single request."""
    jobs.get(platform.store, job_id, "batch")
    return inference.results(platform, job_id)


def reconcile(platform: Serving) -> None:
    """Launch what was accepted and has no run, and note what runs have come to.

    Each request's run bears its identifier as a tag: one that was launched just before a crash is found, not
    launched again.
    """
    if platform.runs is None:
        return
    waiting = sa.select(JOBS).where(JOBS.c.kind == "batch", JOBS.c.state.in_(jobs.OPEN))
    for row in platform.store.rows(waiting.order_by(JOBS.c.priority, JOBS.c.accepted_at)):
        if row["run_id"] is None:
            try:
                run_id = platform.runs.find(row["job_id"]) or platform.runs.launch(
                    JOB_NAME, tag=row["job_id"], partition=None, config={"request_id": row["job_id"]}
                )
            except RunsAwayError:
                log("launch waits", level="warning", job_id=row["job_id"])
                return
            jobs.change(platform.store, row["job_id"], only=("accepted",), state="accepted", run_id=run_id)
        elif platform.runs.status(row["run_id"]) in (*ENDED_BADLY, None):
            jobs.change(platform.store, row["job_id"], only=jobs.OPEN, state="failed", reason=jobs.LOST)


def work(settings: Settings, job_id: str) -> str:
    """Do a batch inside its run; return the state that it came to. One that is not open any more is left as it is."""
    store = open_store(settings)
    try:
        worker = Worker(settings, store, predict_with_system(settings))
        return worker.work_on(job_id)
    finally:
        store.close()

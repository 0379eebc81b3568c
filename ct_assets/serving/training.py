"""Trainings: `/v1/training`, started, paused, resumed and stopped through runs of the graph.

Belongs here: sessions and what is asked of them. The API trains nothing: it writes a row, launches a run, and reads where
the training stands. A session is one partition, one fold of one experiment; its runs bear its identifier as a tag.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from ct_assets import files
from ct_assets.layout import check_key
from ct_assets.learning.training import control
from ct_assets.serving import jobs, sessions
from ct_assets.serving.curves import Curves
from ct_assets.serving.inference import IdempotencyKey
from ct_assets.serving.keys import Role
from ct_assets.serving.observability import log
from ct_assets.serving.platform import Platform, Serving
from ct_assets.serving.problems import Problem
from ct_assets.serving.roles import needs
from ct_assets.serving.runs import RunsAwayError
from ct_assets.serving.store import JOBS
from ct_assets.settings.base import Section

router = APIRouter(prefix="/v1/training", tags=["training"])
JOB_NAME = "cross_validation"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Start(Section):
    """What is to be trained."""

    experiment: Name
    fold: Name = Field(examples=["0"])
    configuration: Name | None = Field(default=None, examples=["cpu"])
    """Name of a file of the folder of training configurations, without suffix; never a path."""


@router.post("", status_code=202, dependencies=[needs(Role.OPERATOR)], summary="Start a training")
def start(
    request: Request, platform: Platform, wanted: Start, idempotency_key: IdempotencyKey = None
) -> Response:
    """Put the training of one fold into the queue; 409 where a session of it is open."""
    known = configurations(platform)
    if wanted.configuration is not None and wanted.configuration not in known:
        raise Problem(
            422,
            "unknown_configuration",
            "Name one of the training configurations.",
            configurations=sorted(known),
        )
    parameters = wanted.model_dump()
    if idempotency_key is None:
        _refuse_second(platform, wanted)
    state = request.scope["state"]
    row, is_new = jobs.accept(
        platform.store,
        {
            "job_id": jobs.new_id(),
            "kind": "training",
            "priority": jobs.PRIORITIES["normal"],
            "parameters": parameters,
            "body_digest": files.digest_of(parameters),
            "idempotency_key": idempotency_key,
            "key_id": state["key_id"],
            "request_id": state["request_id"],
        },
        max_queued=platform.settings.serving.max_queued,
    )
    if is_new:
        _launch(platform, row)
    headers = {"Location": f"/v1/training/{row['job_id']}"}
    return JSONResponse(view(platform, jobs.get(platform.store, row["job_id"])), 202, headers=headers)


@router.get("", dependencies=[needs(Role.VIEWER)], summary="Sessions, the newest first")
def listing(platform: Platform, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> list[dict[str, Any]]:
    """Return the newest sessions."""
    return [view(platform, row) for row in jobs.listing(platform.store, "training", None, limit, None)]


@router.get("/{session}", dependencies=[needs(Role.VIEWER)], summary="One session")
@router.get("/{session}/status", dependencies=[needs(Role.VIEWER)], summary="Where a training stands")
def status(platform: Platform, session: str) -> dict[str, Any]:
    """Return state, what may be asked for, epoch, step, seconds to the end and last metrics."""
    return view(platform, jobs.get(platform.store, session, "training"))


@router.post("/{session}/{wish}", dependencies=[needs(Role.OPERATOR)], summary="Pause, resume or stop")
def steer(platform: Platform, session: str, wish: sessions.Wish) -> dict[str, Any]:
    """Ask a training to save all and make way, to go on, or to end early with what it has; 409 where it cannot."""
    row = jobs.get(platform.store, session, "training")
    state = state_of(platform, row)
    if wish not in sessions.ALLOWED[state]:
        raise Problem(
            409,
            "not_allowed_now",
            f"The training is {state}.",
            state=state,
            allowed=list(sessions.ALLOWED[state]),
        )
    if wish == "resume":
        _refuse_second(platform, Start(**row["parameters"]), but=session)
    _note(platform, row, wish)
    row = jobs.get(platform.store, session)
    if wish == "resume":
        _launch(platform, row)
    elif state == "queued":
        _withdraw_run(platform, row)
    elif state in ("running", "pausing"):
        control.request(folder_of(platform, row), wish)
    return view(platform, jobs.get(platform.store, session))


def view(platform: Serving, row: dict[str, Any]) -> dict[str, Any]:
    """Return what callers see of a session."""
    state = state_of(platform, row)
    found = Curves(folder_of(platform, row)).state if state not in ("queued",) else None
    shown = None if found is None else found.model_dump(exclude={"pid", "host"})
    own = {key: value for key, value in jobs.view(row).items() if key not in ("model", "priority", "result")}
    parameters = dict(row["parameters"])
    return own | {
        "state": state,
        "allowed": list(sessions.ALLOWED[state]),
        "experiment": parameters["experiment"],
        "fold": parameters["fold"],
        "configuration": parameters["configuration"],
        "training": shown,
    }


def state_of(platform: Serving, row: dict[str, Any]) -> sessions.SessionState:
    """Return the state of a session."""
    wish = (row["result"] or {}).get("wish")
    run = platform.runs.status(row["run_id"]) if platform.runs is not None and row["run_id"] else None
    return sessions.state_of(run, Curves(folder_of(platform, row)).state, wish)


def folder_of(platform: Serving, row: dict[str, Any]) -> Path:
    """Return the folder of a session's training."""
    return platform.settings.layout.fold_model(row["parameters"]["experiment"], row["parameters"]["fold"])


def configurations(platform: Serving) -> dict[str, Path]:
    """Return the training configurations that may be named."""
    return {path.stem: path for path in sorted(platform.settings.training.parent.glob("*.yaml"))}


def reconcile(platform: Serving) -> None:
    """Launch what was accepted and has no run, and close the rows of sessions that have ended."""
    if platform.runs is None:
        return
    query = sa.select(JOBS).where(JOBS.c.kind == "training", JOBS.c.state.in_(jobs.OPEN))
    for row in platform.store.rows(query):
        wish = (row["result"] or {}).get("wish")
        if row["run_id"] is None and wish in (None, "resume"):
            _launch(platform, row)
            continue
        state = state_of(platform, row)
        if state in sessions.ENDED:
            jobs.change(platform.store, row["job_id"], only=jobs.OPEN, state="done")
        elif state == "running":
            jobs.change(
                platform.store, row["job_id"], only=("accepted",), state="running", started_at=time.time()
            )


def _launch(platform: Serving, row: dict[str, Any]) -> None:
    """Launch a session's run, or find the one that was launched just before a crash."""
    parameters = row["parameters"]
    name = parameters["configuration"]
    config: dict[str, object] = {} if name is None else {"configuration": str(configurations(platform)[name])}
    run_number = (row["result"] or {}).get("runs", 0)
    tag = row["job_id"] if run_number == 0 else f"{row['job_id']}-{run_number}"
    if platform.runs is None:
        return
    key = f"{parameters['experiment']}|{parameters['fold']}"
    try:
        run_id = platform.runs.find(tag) or platform.runs.launch(
            JOB_NAME, tag=tag, partition=key, config=config
        )
    except RunsAwayError:
        log("launch waits", level="warning", job_id=row["job_id"])
        return
    jobs.change(platform.store, row["job_id"], only=jobs.OPEN, state=row["state"], run_id=run_id)


def _note(platform: Serving, row: dict[str, Any], wish: str) -> None:
    """Keep what was asked; a resumed session gets a new run."""
    before = row["result"] or {}
    runs = before.get("runs", 0) + (1 if wish == "resume" else 0)
    values: dict[str, Any] = {"result": {"wish": wish, "runs": runs}}
    if wish == "resume":
        values["run_id"] = None
    with platform.store.write() as connection:
        connection.execute(JOBS.update().where(JOBS.c.job_id == row["job_id"]).values(**values))


def _withdraw_run(platform: Serving, row: dict[str, Any]) -> None:
    if platform.runs is None or row["run_id"] is None:
        return
    try:
        platform.runs.cancel(row["run_id"])
    except RunsAwayError:
        raise Problem(
            503,
            "scheduler_away",
            "The webserver of the graph does not answer; try again.",
            headers={"Retry-After": "5"},
        ) from None


def _refuse_second(platform: Serving, wanted: Start, but: str | None = None) -> None:
    check_key(wanted.experiment, "experiment")
    for row in jobs.listing(platform.store, "training", None, 500, None):
        same = (row["parameters"]["experiment"], row["parameters"]["fold"]) == (
            wanted.experiment,
            wanted.fold,
        )
        if (
            same
            and row["job_id"] != but
            and state_of(platform, row) in ("queued", "running", "pausing", "paused")
        ):
            raise Problem(
                409,
                "session_open",
                "A session of this fold is open; resume or stop that one.",
                session=row["job_id"],
            )

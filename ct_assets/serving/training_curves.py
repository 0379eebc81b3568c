"""Curves and events of a training: epochs, metrics, graphs, and the two streams.

Belongs here: `/v1/training/{session}/…` that reads. Both streams give each event once, in order, with its number, and go
on after the number that a reader names (`Last-Event-ID`, `?after=`); they end when the server does.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.concurrency import run_in_threadpool

from ct_assets.serving import jobs
from ct_assets.serving.curves import Curves
from ct_assets.serving.keys import Role
from ct_assets.serving.platform import Platform, Serving
from ct_assets.serving.problems import Problem
from ct_assets.serving.roles import needs
from ct_assets.serving.training import folder_of

router = APIRouter(prefix="/v1/training/{session}", tags=["training"])
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_SIGNS = 15.0
AT_ONCE = 500
VIEWER = needs(Role.VIEWER)


def curves_of(platform: Serving, session: str) -> Curves:
    """Return the curves of a session."""
    return Curves(folder_of(platform, jobs.get(platform.store, session, "training")))


@router.get("/epochs", dependencies=[VIEWER], summary="A row an epoch")
def epochs(platform: Platform, session: str, after: Annotated[int, Query(ge=0)] = 0) -> list[dict[str, Any]]:
    """Return the epochs behind epoch `after`."""
    return [row for row in curves_of(platform, session).epochs() if row["epoch"] > after]


@router.get("/metrics", dependencies=[VIEWER], summary="Names of the metrics, and the latest of each")
@router.get("/metrics/latest", dependencies=[VIEWER], summary="The latest of each metric")
def latest(platform: Platform, session: str) -> dict[str, Any]:
    """Return the latest value of each metric, with the best."""
    curves = curves_of(platform, session)
    rows, state = curves.epochs(), curves.state
    return {
        "names": curves.names(),
        "latest": rows[-1] if rows else None,
        "best": None if state is None else state.best,
    }


@router.get("/metrics/history", dependencies=[VIEWER], summary="One metric over the epochs")
def history(platform: Platform, session: str, name: Annotated[str, Query(max_length=128)]) -> dict[str, Any]:
    """Return one metric over the epochs."""
    curves = curves_of(platform, session)
    if name not in curves.names():
        raise Problem(404, "no_such_metric", "The training has no such metric.", names=curves.names())
    return curves.series(name)


@router.get("/graphs/loss", dependencies=[VIEWER], summary="Training and validation loss")
def loss(platform: Platform, session: str) -> dict[str, Any]:
    """Return the losses as series of x and y."""
    return curves_of(platform, session).losses()


@router.get("/graphs/metrics", dependencies=[VIEWER], summary="Validation metrics")
@router.get("/graphs/metrics/{name}", dependencies=[VIEWER], summary="One metric")
def metrics(platform: Platform, session: str, name: str | None = None) -> dict[str, Any]:
    """Return metrics as series of x and y."""
    return curves_of(platform, session).metrics(name)


@router.get("/graphs/learning-rate", dependencies=[VIEWER], summary="Learning rate")
def learning_rate(platform: Platform, session: str) -> dict[str, Any]:
    """Return the learning rate as series of x and y."""
    return curves_of(platform, session).learning_rate()


@router.get("/graphs/gpu-usage", dependencies=[VIEWER], summary="Use of the GPU")
def gpu_usage(platform: Platform, session: str) -> dict[str, Any]:
    """Return the use of the GPU in percent; `is_available` is false without one."""
    return curves_of(platform, session).gpu_usage()


@router.get(
    "/events", dependencies=[VIEWER], summary="Events as they come (SSE)", response_class=StreamingResponse
)
def events(
    platform: Platform,
    session: str,
    last_event_id: Annotated[int, Header(ge=0)] = 0,
    after: Annotated[int, Query(ge=0)] = 0,
) -> StreamingResponse:
    """Stream the events as server-sent events; a browser goes on by itself where it was cut off."""
    curves = curves_of(platform, session)

    async def stream() -> AsyncIterator[bytes]:
        async for number, event in following(platform, curves, max(last_event_id, after)):
            if number is None:
                yield b": still here\n\n"
            else:
                data = orjson.dumps(event).decode()
                yield format_sse_event(data_str=data, event=str(event["kind"]), id=str(number))

    return StreamingResponse(
        stream(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.websocket("/stream", dependencies=[VIEWER])
async def stream(websocket: WebSocket, session: str, after: int = 0) -> None:
    """Send the events as JSON text `{number, event}`."""
    platform: Serving = websocket.app.state.serving
    try:
        curves = await run_in_threadpool(curves_of, platform, session)
    except Problem as problem:
        await websocket.close(4004, problem.code)
        return
    await websocket.accept()
    gone = asyncio.ensure_future(_until_gone(websocket))
    try:
        async for number, event in following(platform, curves, max(after, 0)):
            if gone.done():
                return
            if number is not None:
                await websocket.send_json({"number": number, "event": event})
        await websocket.close(1012)  # the server restarts: come again
    except (WebSocketDisconnect, RuntimeError):
        return  # the reader has gone
    finally:
        gone.cancel()


async def _until_gone(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def following(
    platform: Serving, curves: Curves, after: int
) -> AsyncIterator[tuple[int | None, dict[str, Any]]]:
    """Yield events behind `after` as they come, and a sign of life (None) now and then, until the server ends."""
    number, quiet = after, 0.0
    while not platform.stopping.is_set():
        found = await run_in_threadpool(curves.events, number)
        for number, event in found[:AT_ONCE]:
            yield number, event
            if platform.stopping.is_set():
                return
        quiet = 0.0 if found else quiet + SECONDS_BETWEEN_LOOKS
        if quiet >= SECONDS_BETWEEN_SIGNS:
            quiet = 0.0
            yield None, {}
        if not found:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

"""Single-study inference: `/v1/inference`.

Belongs here: receiving a request, its state, its results, withdrawing it. The queue is `serving.jobs`, the work
`serving.predictor`. A result is named by its number, since the series' own identifier belongs to a person.
"""

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from ct_assets import files
from ct_assets.serving import jobs, models, spool, uploads
from ct_assets.serving.keys import Role
from ct_assets.serving.platform import Platform, Serving
from ct_assets.serving.problems import Problem
from ct_assets.serving.roles import needs
from ct_assets.serving.spool import Spool

router = APIRouter(prefix="/v1/inference", tags=["inference"])
OPERATOR, VIEWER = Role.OPERATOR, Role.VIEWER

Priority = Literal["urgent", "normal", "low"]
State = Literal["accepted", "running", "done", "failed", "cancelled"]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=8, max_length=128, pattern=r"^[A-Za-z0-9_.:-]+$", examples=["study-0001-try-1"]),
]
ResultKind = Literal["json", "nifti", "seg", "sr", "overlay"]
RESULT_FILES: dict[str, tuple[tuple[str, ...], str]] = {
    "json": (("stage.json", "findings.json", "slices.json"), "application/json"),
    "nifti": (("mask.nii.gz",), "application/gzip"),
    "seg": (("mask.dcm",), "application/dicom"),
    "sr": (("report.dcm", "sr.dcm"), "application/dicom"),
    "overlay": (("overlay.png", "gradcam.png"), "image/png"),
}
BODY = {
    "required": True,
    "content": {
        media_type: {"schema": {"type": "string", "format": "binary"}}
        for media_type in ("application/zip", "application/dicom", "application/octet-stream")
    }
    | {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        }
    },
}
EXAMPLE = {
    "id": "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "kind": "inference",
    "state": "accepted",
    "model": "lung",
    "priority": "normal",
    "accepted_at": "2026-01-01T12:00:00.000+00:00",
    "started_at": None,
    "ended_at": None,
    "attempts": 0,
    "run_id": None,
    "reason": None,
    "result": None,
}


@router.post(
    "",
    status_code=202,
    dependencies=[needs(OPERATOR)],
    summary="Send a study",
    openapi_extra={"requestBody": BODY},
    responses={202: {"content": {"application/json": {"example": EXAMPLE}}}},
)
async def submit(
    request: Request,
    platform: Platform,
    model: Annotated[str | None, Query(max_length=128)] = None,
    priority: Priority = "normal",
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Accept DICOM instances or NIfTI images: one file, a zip archive, or several as multipart/form-data.

    The answer comes once the request is in the queue; `Location` names it.
    """
    row, received = await take(request, platform, model, priority, idempotency_key, study_uid=None)
    headers = {"Location": f"/v1/inference/{row['job_id']}"}
    return JSONResponse(
        jobs.view(row) | {"instances": [one.view() for one in received]}, 202, headers=headers
    )


async def take(
    request: Request,
    platform: Serving,
    model: str | None,
    priority: str,
    idempotency_key: str | None,
    *,
    study_uid: str | None,
    kind: jobs.Kind = "inference",
) -> tuple[dict[str, Any], list[uploads.Received]]:
    """Receive a body into the spool and put the request into the queue; return its row and what became of each file.

    Raises `Problem`; then, and when the sender goes away, nothing of the body is kept.
    """
    settings = platform.settings.serving
    chosen = models.choose(platform, model)
    models.refuse_withdrawn(platform.settings, chosen)
    _refuse_without_room(platform, int(request.headers.get("content-length") or 0))
    rooms, job_id = Spool(platform.settings.layout.serving), jobs.new_id()
    upload = uploads.Upload(rooms.make(job_id), settings)
    is_kept = False
    try:
        await upload.receive(request.headers.get("content-type", ""), request.stream())
        row, received, is_kept = await run_in_threadpool(
            _finish, request, platform, upload, job_id, chosen, priority, idempotency_key, study_uid, kind
        )
    except ClientDisconnect:
        raise Problem(400, "sender_gone", "The sender went away before the end.") from None
    finally:
        if not is_kept:
            await run_in_threadpool(rooms.remove, job_id)
    return row, received


def _finish(
    request: Request,
    platform: Serving,
    upload: uploads.Upload,
    job_id: str,
    model: str,
    priority: str,
    idempotency_key: str | None,
    study_uid: str | None,
    kind: jobs.Kind,
) -> tuple[dict[str, Any], list[uploads.Received], bool]:
    """Unpack, look, accept; the last value tells whether this request's own folder is used."""
    received = uploads.unpack(upload, study_uid)
    if not any(one.status == "accepted" for one in received):
        raise Problem(
            422,
            "nothing_usable",
            "No file of the request can be used; `instances` says why.",
            instances=[one.view() for one in received],
        )
    rooms = Spool(platform.settings.layout.serving)
    rooms.write_instances(job_id, [one.view() for one in received])
    state = request.scope["state"]
    row, is_new = jobs.accept(
        platform.store,
        {
            "job_id": job_id,
            "kind": kind,
            "priority": jobs.PRIORITIES[priority],
            "model": model,
            "parameters": {},
            "body_digest": uploads.content_digest(received, {"model": model, "kind": kind}),
            "idempotency_key": idempotency_key,
            "key_id": state["key_id"],
            "request_id": state["request_id"],
        },
        max_queued=platform.settings.serving.max_queued,
    )
    return row, received, is_new


def _refuse_without_room(platform: Serving, length: int) -> None:
    free = shutil.disk_usage(platform.settings.layout.serving).free
    if free - length < platform.settings.serving.min_free_gb * 1e9:
        raise Problem(507, "disk_full", "There is no room left for this request; try again once there is.")


@router.get("", dependencies=[needs(VIEWER)], summary="Requests, the newest first")
def listing(
    platform: Platform,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: float | None = None,
) -> list[dict[str, Any]]:
    """Return the newest requests; `before` (seconds since 1970) gives older ones."""
    return [jobs.view(row) for row in jobs.listing(platform.store, "inference", state, limit, before)]


@router.get("/{job_id}", dependencies=[needs(VIEWER)], summary="One request")
def one(platform: Platform, job_id: str) -> dict[str, Any]:
    """Return the state of a request."""
    return jobs.view(jobs.get(platform.store, job_id, "inference"))


@router.get("/{job_id}/instances", dependencies=[needs(VIEWER)], summary="What became of each file")
def instances(platform: Platform, job_id: str) -> list[dict[str, Any]]:
    """Return each received file with its status and reason code."""
    jobs.get(platform.store, job_id, "inference")
    return Spool(platform.settings.layout.serving).instances(job_id)


@router.delete("/{job_id}", status_code=204, dependencies=[needs(OPERATOR)], summary="Withdraw a request")
def delete(platform: Platform, job_id: str) -> Response:
    """Remove a request with its files and results; one that is running: 409."""
    jobs.get(platform.store, job_id, "inference")
    jobs.change(platform.store, job_id, only=("accepted",), state="cancelled")
    if jobs.get(platform.store, job_id)["state"] == "running":
        raise Problem(409, "is_running", "The request is running; remove it when it has ended.", allowed=[])
    spool.forget(platform, [job_id])
    return Response(status_code=204)


@router.get("/{job_id}/results", dependencies=[needs(VIEWER)], summary="Results by series")
def results(platform: Platform, job_id: str) -> list[dict[str, Any]]:
    """Return a line a series, with the kinds of result that there are."""
    return [
        {
            **{key: value for key, value in line.items() if key not in ("mask", "seg")},
            "number": number,
            "files": {
                kind: f"/v1/inference/{job_id}/results/{number}/{kind}"
                for kind in RESULT_FILES
                if result_file(platform, job_id, line, kind) is not None
            },
        }
        for number, line in enumerate(result_lines(platform, job_id))
    ]


@router.get(
    "/{job_id}/results/{number}/{kind}",
    dependencies=[needs(VIEWER)],
    summary="One result",
    response_class=FileResponse,
)
def result(request: Request, platform: Platform, job_id: str, number: int, kind: ResultKind) -> Response:
    """Return a result as JSON, NIfTI mask, DICOM SEG, DICOM SR or picture; with an ETag of its content."""
    lines = result_lines(platform, job_id)
    path = result_file(platform, job_id, lines[number], kind) if 0 <= number < len(lines) else None
    if path is None:
        raise Problem(404, "no_such_result", "This series has no such result; `results` lists what there is.")
    etag = f'"{files.sha256_file(path)}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=0, must-revalidate"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=RESULT_FILES[kind][1], headers=headers)


def result_lines(platform: Serving, job_id: str) -> list[dict[str, Any]]:
    """Return the prediction's lines of a request that is done. Raises `Problem` before that."""
    row = jobs.get(platform.store, job_id)
    record = Spool(platform.settings.layout.serving).output(job_id) / "prediction.jsonl"
    if row["state"] != "done" or not record.exists():
        raise Problem(
            409, "no_results", f"The request is {row['state']}: it has no results.", state=row["state"]
        )
    return files.read_jsonl(record)


def result_file(platform: Serving, job_id: str, line: dict[str, Any], kind: str) -> Path | None:
    """Return the file of one kind of result of a series, if there is one."""
    output = Spool(platform.settings.layout.serving).output(job_id)
    folder = output.joinpath(*str(line["series"]).split("/"))
    if not folder.resolve().is_relative_to(output.resolve()):
        return None
    return next((path for name in RESULT_FILES[kind][0] if (path := folder / name).is_file()), None)

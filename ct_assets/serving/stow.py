"""STOW-RS: studies in as DICOM nodes send them (PS3.18 10.5), each instance with its own status.

Belongs here: `/v1/dicomweb/studies` and its answer as DICOM JSON (PS3.18 Annex F).
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from ct_assets.serving.inference import IdempotencyKey, Priority, take
from ct_assets.serving.keys import Role
from ct_assets.serving.platform import Platform
from ct_assets.serving.problems import Problem
from ct_assets.serving.roles import needs
from ct_assets.serving.uploads import Received

router = APIRouter(prefix="/v1/dicomweb/studies", tags=["dicomweb"])
MEDIA_TYPE = "application/dicom+json"
CANNOT_UNDERSTAND, NOT_OF_THE_STUDY, PROCESSING_FAILURE = 0xC000, 0xC409, 0x0110
"""Failure reasons (0008,1197): PS3.4 table GG.4-1; 0x0110 of PS3.7 annex C for a second copy."""
FAILURES = {
    "upload_not_of_the_study": NOT_OF_THE_STUDY,
    "upload_duplicate": PROCESSING_FAILURE,
}
BODY = {
    "required": True,
    "content": {
        'multipart/related; type="application/dicom"': {"schema": {"type": "string", "format": "binary"}}
    },
}


@router.post("", dependencies=[needs(Role.OPERATOR)], summary="STOW-RS", openapi_extra={"requestBody": BODY})
async def store(
    request: Request,
    platform: Platform,
    model: Annotated[str | None, Query(max_length=128)] = None,
    priority: Priority = "normal",
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Accept instances of any study."""
    return await _store(request, platform, model, priority, idempotency_key, None)


@router.post(
    "/{study_uid}",
    dependencies=[needs(Role.OPERATOR)],
    summary="STOW-RS of one study",
    openapi_extra={"requestBody": BODY},
)
async def store_study(
    request: Request,
    platform: Platform,
    study_uid: str,
    model: Annotated[str | None, Query(max_length=128)] = None,
    priority: Priority = "normal",
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Accept instances of the study that the address names; others fail one by one."""
    return await _store(request, platform, model, priority, idempotency_key, study_uid)


async def _store(
    request: Request,
    platform: Platform,
    model: str | None,
    priority: str,
    idempotency_key: str | None,
    study_uid: str | None,
) -> Response:
    content_type = request.headers.get("content-type", "").lower()
    if not content_type.startswith("multipart/related") or "application/dicom" not in content_type:
        raise Problem(415, "not_stow", 'Send multipart/related; type="application/dicom".')
    try:
        row, received = await take(request, platform, model, priority, idempotency_key, study_uid=study_uid)
    except Problem as problem:
        if problem.code != "nothing_usable":
            raise
        views = problem.members["instances"]
        return JSONResponse(_answer([Received(**view) for view in views]), 409, media_type=MEDIA_TYPE)
    has_failed = any(one.status != "accepted" for one in received)
    return JSONResponse(
        _answer(received),
        202 if has_failed else 200,
        headers={"Location": f"/v1/inference/{row['job_id']}"},
        media_type=MEDIA_TYPE,
    )


def _answer(received: list[Received]) -> dict[str, Any]:
    """Return the Store Instances Response Module (PS3.18 table I.2.1-1)."""
    stored = [_reference(one) for one in received if one.status == "accepted"]
    failed = [one for one in received if one.status != "accepted"]
    named = [
        _reference(one)
        | {"00081197": {"vr": "US", "Value": [FAILURES.get(one.reason or "", CANNOT_UNDERSTAND)]}}
        for one in failed
        if one.sop_instance_uid
    ]
    other = [
        {"00081197": {"vr": "US", "Value": [CANNOT_UNDERSTAND]}} for one in failed if not one.sop_instance_uid
    ]
    sequences = {"00081199": stored, "00081198": named, "0008119A": other}
    return {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}


def _reference(one: Received) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [one.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [one.sop_instance_uid]},
    }

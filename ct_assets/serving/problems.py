"""Errors of the API as `application/problem+json` (RFC 9457).

Belongs here: the error that routes raise and the handlers that render every error alike. A problem never repeats a
value of the request: a body or a path may identify a person.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ct_assets import machine_faults
from ct_assets.errors import UsageError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:ct-assets:problem:"


class Problem(Exception):  # noqa: N818 - the name of RFC 9457
    """An answer other than success.

    `code` names the kind of problem for programs (`type` is made from it); `detail` says what to do.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.members = dict(headers or {}), members


def render(problem: Problem, request_id: str | None) -> JSONResponse:
    """Return the answer of a problem."""
    content = {
        "type": TYPE_PREFIX + problem.code,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
        **problem.members,
    }
    return JSONResponse(content, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Render every error of the application as a problem."""

    async def own(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return render(error, _request_id(request))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
        problem = Problem(error.status_code, code, _sentence(error.status_code), headers=error.headers)
        return render(problem, _request_id(request))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"where": [str(part) for part in one["loc"]], "message": str(one["type"])}
            for one in error.errors()
        ]
        problem = Problem(422, "invalid_request", "A field is missing or not allowed.", errors=errors)
        return render(problem, _request_id(request))

    async def usage(request: Request, error: Exception) -> JSONResponse:
        return render(Problem(409, "not_possible", str(error)), _request_id(request))

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        if machine_faults.told(error):
            full = machine_faults.is_disk_full(error)
            problem = (
                Problem(507, "disk_full", "There is no room left; try again once there is.")
                if full
                else Problem(
                    503,
                    "database_away",
                    "The platform's database does not answer; try again.",
                    headers={"Retry-After": "5"},
                )
            )
        else:
            problem = Problem(500, "unexpected", "The server failed; the request id finds its log line.")
        return render(problem, _request_id(request))

    app.add_exception_handler(Problem, own)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(UsageError, usage)
    app.add_exception_handler(Exception, unexpected)


def _request_id(request: Request) -> str | None:
    found = request.scope.get("state", {}).get("request_id")
    return None if found is None else str(found)


def _sentence(status: int) -> str:
    return {404: "There is nothing at this address.", 405: "This address takes other methods."}.get(
        status, HTTPStatus(status).description or HTTPStatus(status).phrase
    )

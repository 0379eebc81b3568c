"""The login page for a browser without a proxy before it: a key is typed once and kept in a cookie.

Belongs here: `/login` and `/logout`. The cookie cannot be read by scripts and is not sent along with requests that other
sites begin. Behind the proxy people log in there, and this page is not needed.
"""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ct_assets.serving.keys import Role
from ct_assets.serving.platform import Platform
from ct_assets.serving.roles import COOKIE, needs

router = APIRouter(include_in_schema=False)
SECONDS_LOGGED_IN = 12 * 3600
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'",
}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ct_assets: log in</title>
<style>body{font:16px system-ui;margin:10vh auto;max-width:26em}input{width:100%%;padding:.5em;margin:.5em 0}</style>
<h1>Log in</h1><p>%s</p><form method="post" action="login"><label>API key
<input name="key" type="password" autocomplete="off" required autofocus></label><button>Log in</button></form></html>
"""


@router.get("/login", dependencies=[needs(Role.PUBLIC)])
async def page() -> HTMLResponse:
    """Show the form."""
    return HTMLResponse(
        _PAGE % "Type a key that <code>ct-assets serve keys new</code> has made.", headers=HEADERS
    )


@router.post("/login", dependencies=[needs(Role.PUBLIC)])
def login(request: Request, platform: Platform, key: Annotated[str, Form(max_length=200)]) -> Response:
    """Keep a valid key in the cookie."""
    if platform.keys.caller(key) is None:
        return HTMLResponse(_PAGE % "This key is not valid.", 401, headers=HEADERS)
    answer = RedirectResponse("./", 303)
    is_tls = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    answer.set_cookie(COOKIE, key, max_age=SECONDS_LOGGED_IN, httponly=True, samesite="strict", secure=is_tls)
    return answer


@router.post("/logout", dependencies=[needs(Role.PUBLIC)])
async def logout() -> Response:
    """Forget the key."""
    answer = RedirectResponse("login", 303)
    answer.delete_cookie(COOKIE)
    return answer

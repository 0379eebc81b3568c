"""Which role a route needs, and the check that runs before it.

Belongs here: `needs`, to be declared on every route, and who a connection's caller is. A key comes as
`Authorization: Bearer …` (programs, and the proxy for the people it has let in) or in the cookie of the login page.
"""

from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Mount

from ct_assets.serving.keys import Caller, Role
from ct_assets.serving.problems import Problem

COOKIE = "ct_assets_key"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class NeedsRole:
    """The check of one role; FastAPI calls it before the route."""

    def __init__(self, role: Role) -> None:
        self.role = role

    async def __call__(self, connection: HTTPConnection) -> Caller:
        """Return the caller. Raises `Problem` 401 without a valid key, 403 with one of too low a role."""
        return check(connection, self.role)


_CHECKS = {role: NeedsRole(role) for role in Role}


def needs(role: Role) -> Any:
    """Return the dependency of a route that needs `role`: `dependencies=[needs(Role.VIEWER)]`."""
    return Depends(_CHECKS[role])


def check(connection: HTTPConnection, role: Role) -> Caller:
    """Return the caller of a connection. Raises `Problem` where the role is not reached."""
    if role is Role.PUBLIC:
        return Caller("", Role.PUBLIC)
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else connection.cookies.get(COOKIE, "")
    caller = connection.app.state.serving.keys.caller(given)
    if caller is None:
        raise Problem(
            401,
            "no_valid_key",
            "Send a valid key as `Authorization: Bearer KEY`; `ct-assets serve keys new` makes one.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if caller.role < role:
        raise Problem(403, "role_too_low", f"This needs the role {role.name.lower()}.")
    _refuse_foreign_origin(connection)
    connection.scope.setdefault("state", {})["key_id"] = caller.key_id
    return caller


def _refuse_foreign_origin(connection: HTTPConnection) -> None:
    """Refuse what a foreign page sends with a remembered login; programs send no Origin (decision 0120)."""
    if connection.scope["type"] == "http" and connection.scope["method"] in _SAFE:
        return
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != connection.headers.get("host"):
        raise Problem(403, "foreign_origin", "A page of another site sent this.")


def role_of(route: BaseRoute) -> Role | None:
    """Return the role that a route declares; None where it declares none."""
    if isinstance(route, Mount):
        return getattr(route.app, "role", None)
    dependant = getattr(route, "dependant", None)
    checks = [one.call for one in getattr(dependant, "dependencies", ()) if isinstance(one.call, NeedsRole)]
    return max((one.role for one in checks), default=None)


class Guarded:
    """An ASGI application (files, say) that may be mounted: it answers callers of a role only."""

    def __init__(self, app: Any, role: Role) -> None:
        self.app, self.role = app, role

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Check the role, then pass on."""
        check(HTTPConnection(scope), self.role)
        await self.app(scope, receive, send)

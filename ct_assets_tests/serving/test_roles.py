"""Who may do what: a key of each role on every route."""

import re

import pytest
from starlette.routing import Route, WebSocketRoute

from ct_assets.serving.app import route_roles
from ct_assets.serving.keys import Role

OPEN_TO_ALL = {"/livez", "/readyz", "/login", "/logout"}


def routes(api):
    return route_roles(api.client.app)


def test_every_route_websocket_and_mount_declares_a_role(api):
    assert len(routes(api)) >= 8
    assert not [route.path for route, role in routes(api) if role is None]


def test_only_these_routes_are_open_to_callers_without_a_key(api):
    assert {route.path for route, role in routes(api) if role is Role.PUBLIC} == OPEN_TO_ALL


def test_whatever_changes_something_needs_an_operator(api):
    reading = {"GET", "HEAD"}
    assert not [
        route.path
        for route, role in routes(api)
        if isinstance(route, Route) and set(route.methods) - reading and Role.PUBLIC < role < Role.OPERATOR
    ]


def test_every_route_answers_401_without_a_key_and_403_with_too_low_a_role(api):
    below = {Role.OPERATOR: "viewer", Role.ADMIN: "operator"}
    for route, role in routes(api):
        if role is Role.PUBLIC or isinstance(route, WebSocketRoute):
            continue
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        method = next(iter(sorted(getattr(route, "methods", {"GET"}))))
        answer = api.client.request(method, path)
        assert answer.status_code == 401, (method, route.path)
        if role in below:
            answer = api.client.request(method, path, headers=api.headers(below[role]))
            assert answer.status_code == 403, (method, route.path)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer nonsense", f"Bearer ctk_{'0' * 12}_{'0' * 64}", "Basic dXNlcjpwYXNz"]
)
def test_what_is_no_key_is_refused(api, header):
    answer = api.client.get("/health/detailed", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "no_valid_key")


def test_a_foreign_page_cannot_use_a_remembered_login(api):
    api.client.post("/login", data={"key": api.keys["admin"]}, follow_redirects=False)
    assert api.client.get("/health/detailed").status_code == 200
    own, foreign = (
        api.client.post("/v1/training", json={}, headers={"Origin": origin}).json()["code"]
        for origin in ("http://testserver", "https://elsewhere.example")
    )
    assert (own, foreign) == ("invalid_request", "foreign_origin")

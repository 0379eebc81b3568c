"""What every answer has: a request id, problem+json for errors, one log line without a value of the request."""

import json

import pytest
from fastapi.testclient import TestClient

from ct_assets.serving.app import create_app


@pytest.fixture
def viewer(api):
    return api.headers("viewer")


def test_a_request_id_is_kept_or_made(api):
    assert (
        api.client.get("/livez", headers={"X-Request-ID": "caller-0001"}).headers["x-request-id"]
        == "caller-0001"
    )
    made = api.client.get("/livez", headers={"X-Request-ID": "no good: DOE^JANE"}).headers["x-request-id"]
    assert len(made) == 32


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/livez", 405)])
def test_errors_are_problems(api, method, path, status):
    answer = api.client.request(method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["request_id"]) == (status, answer.headers["x-request-id"])
    assert problem["type"].startswith("urn:ct-assets:problem:")


def test_an_unexpected_error_tells_nothing_of_its_text(api, monkeypatch):
    def broken(*_):
        raise RuntimeError("DOE^JANE")

    monkeypatch.setattr("ct_assets.serving.health.parts", broken)
    answer = api.client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
    assert "DOE" not in answer.text


def test_the_log_line_holds_the_pattern_of_the_route_and_no_value(api, capfd):
    client = TestClient(create_app(api.serving))
    client.get("/nothing/DOE^JANE?patient=1234567", headers={"X-Request-ID": "caller-0002"})
    line = json.loads(capfd.readouterr().err.strip().splitlines()[-1])
    assert (line["request_id"], line["status"], line["route"]) == ("caller-0002", 404, "(none)")
    assert not [value for value in line.values() if "DOE" in str(value) or "1234567" in str(value)]


def test_metrics_count_requests_by_route(api, viewer):
    api.client.get("/livez")
    text = api.client.get("/metrics", headers=viewer).text
    assert 'ct_assets_http_requests_total{method="GET",route="/livez",status="200"} 1.0' in text


def test_ready_turns_503_when_the_disk_is_full(api, monkeypatch):
    assert api.client.get("/readyz").status_code == 200
    monkeypatch.setattr(
        "ct_assets.serving.health.parts", lambda _: {"database": {"is_ok": True}, "disk": {"is_ok": False}}
    )
    assert api.client.get("/readyz").status_code == 503


def test_strict_transport_security_only_behind_tls(api):
    plain = api.client.get("/livez").headers
    behind_tls = api.client.get("/livez", headers={"X-Forwarded-Proto": "https"}).headers
    assert "strict-transport-security" not in plain
    assert behind_tls["strict-transport-security"] == "max-age=31536000"

"""What the API tells about itself: a request id, one log line a request, Prometheus metrics.

Belongs here: the middleware and the metrics. A line holds method, route (its pattern, not the address), status and
times: no address, query, body, header or value of them, so nothing of a patient.
"""

import re
import sys
import time
import uuid
from datetime import UTC, datetime

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{8,64}")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
METRICS_TYPE = CONTENT_TYPE_LATEST
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
HSTS = (b"strict-transport-security", b"max-age=31536000")


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ct_assets_http_requests_total",
            "Answered requests by method, route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "ct_assets_http_request_seconds",
            "Seconds to the end of the answer, by route.",
            ("route",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.jobs = Gauge(
            "ct_assets_jobs",
            "Requests in the queue by kind and state.",
            ("kind", "state"),
            registry=self.registry,
        )
        self.is_working = Gauge(
            "ct_assets_predictor_up", "Whether the predictor process lives.", registry=self.registry
        )

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return bytes(generate_latest(self.registry))


class Observed:
    """Middleware: request id, log line, metrics and the headers that every answer bears."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, logs: bool = True) -> None:
        self.app, self.metrics, self.logs = app, metrics, logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(HEADER, b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        extra = [(HEADER, request_id.encode()), *SECURITY_HEADERS]
        if headers.get(b"x-forwarded-proto") == b"https":
            extra.append(HSTS)
        status, begun = 500, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in extra if one[0] not in own)]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            self._note(scope, request_id, status, time.perf_counter() - begun)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        method = scope.get("method", "WEBSOCKET")
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if self.logs:
            log(
                "request",
                request_id=request_id,
                method=method,
                route=route,
                status=status,
                seconds=round(seconds, 4),
                key_id=scope["state"].get("key_id"),
            )


def log(message: str, *, level: str = "info", **fields: object) -> None:
    """Write one JSON line; fields are opaque keys, codes and numbers."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"at": at, "level": level, "message": message, **fields}
    sys.stderr.write(orjson.dumps(line).decode() + "\n")

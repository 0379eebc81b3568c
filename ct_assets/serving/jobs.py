"""The queue: requests that were accepted, each run once or reported.

Belongs here: the states of a request and every change of them, each one transaction with its event. Work is done by
the predictor process (`serving.predictor`) or by a run of the graph (`serving.batches`, `serving.training`).

accepted -> running -> done | failed; accepted -> cancelled. A request whose worker was lost is accepted again until
`serving.attempts` is reached, then it fails as `run_worker_lost`.
"""

import time
import uuid
from typing import Any, Literal

import sqlalchemy as sa

from ct_assets.serving.problems import Problem
from ct_assets.serving.store import JOBS, Store, add_event

Kind = Literal["inference", "batch", "training"]
OPEN = ("accepted", "running")
PRIORITIES = {"urgent": 0, "normal": 5, "low": 9}
LOST = "run_worker_lost"


def new_id() -> str:
    """Return a fresh identifier of a request."""
    return uuid.uuid4().hex


def accept(store: Store, row: dict[str, Any], *, max_queued: int) -> tuple[dict[str, Any], bool]:
    """Put a request into the queue; return its row, and whether it is new.

    With an idempotency key that was used before, the earlier request is returned. Raises `Problem` 422 where that one
    had another body, 429 where the queue is full.
    """
    known = _known(store, row)
    if known is not None:
        return known, False
    full = {"attempts": 0, "state": "accepted", "accepted_at": time.time(), **row}
    try:
        with store.write() as connection:
            waiting = sa.select(sa.func.count()).where(JOBS.c.kind == row["kind"], JOBS.c.state == "accepted")
            if connection.execute(waiting).scalar_one() >= max_queued:
                raise Problem(
                    429,
                    "queue_full",
                    "Too many requests wait; try again later.",
                    headers={"Retry-After": "30"},
                )
            connection.execute(JOBS.insert().values(**full))
            add_event(connection, f"{row['kind']}.accepted", row["job_id"], {})
    except sa.exc.IntegrityError:
        known = _known(store, row)  # the same key came in a request that was a moment earlier
        if known is None:
            raise
        return known, False
    return get(store, row["job_id"]), True


def _known(store: Store, row: dict[str, Any]) -> dict[str, Any] | None:
    if row.get("idempotency_key") is None:
        return None
    query = sa.select(JOBS).where(
        JOBS.c.key_id == row["key_id"], JOBS.c.idempotency_key == row["idempotency_key"]
    )
    known = store.row(query)
    if known is not None and known["body_digest"] != row["body_digest"]:
        raise Problem(
            422,
            "idempotency_key_reused",
            "This Idempotency-Key came with another body before: use a new one.",
        )
    return known


def get(store: Store, job_id: str, kind: Kind | None = None) -> dict[str, Any]:
    """Return a request's row. Raises `Problem` 404 where there is none."""
    row = store.row(sa.select(JOBS).where(JOBS.c.job_id == job_id))
    if row is None or (kind is not None and row["kind"] != kind):
        raise Problem(404, "no_such_request", "There is no such request, or its time is over.")
    return row


def listing(
    store: Store, kind: Kind, state: str | None, limit: int, before: float | None
) -> list[dict[str, Any]]:
    """Return the newest requests of a kind."""
    query = sa.select(JOBS).where(JOBS.c.kind == kind)
    if state is not None:
        query = query.where(JOBS.c.state == state)
    if before is not None:
        query = query.where(JOBS.c.accepted_at < before)
    return store.rows(query.order_by(JOBS.c.accepted_at.desc()).limit(limit))


def claim(store: Store, kind: Kind) -> dict[str, Any] | None:
    """Take the next request: the most urgent, then the oldest. Two workers never get the same one."""
    query = (
        sa.select(JOBS)
        .where(JOBS.c.kind == kind, JOBS.c.state == "accepted")
        .order_by(JOBS.c.priority, JOBS.c.accepted_at)
        .limit(1)
    )
    if store.row(query) is None:
        return None  # the usual case: looking must not lock the database
    with store.write() as connection:
        found = connection.execute(query.with_for_update(skip_locked=True)).first()
        if found is None:
            return None
        changes = {"state": "running", "started_at": time.time(), "attempts": found.attempts + 1}
        connection.execute(JOBS.update().where(JOBS.c.job_id == found.job_id).values(**changes))
        add_event(connection, f"{kind}.started", found.job_id, {})
        return {**found._mapping, **changes}


def change(store: Store, job_id: str, *, only: tuple[str, ...], state: str, **values: Any) -> bool:
    """Give a request another state, if it is in one of `only`; return whether it was."""
    if state not in OPEN:
        values.setdefault("ended_at", time.time())
    with store.write() as connection:
        done = connection.execute(
            JOBS.update()
            .where(JOBS.c.job_id == job_id, JOBS.c.state.in_(only))
            .values(state=state, **values)
            .returning(JOBS.c.kind)
        ).first()
        if done is not None:
            content = {key: values[key] for key in ("reason", "result") if values.get(key) is not None}
            add_event(connection, f"{done.kind}.{state}", job_id, content)
    return done is not None


def recover(store: Store, kind: Kind, attempts: int) -> int:
    """Put what a lost worker was doing back into the queue, or report it; return how many there were."""
    lost = store.rows(sa.select(JOBS).where(JOBS.c.kind == kind, JOBS.c.state == "running"))
    for row in lost:
        if row["attempts"] < attempts:
            change(store, row["job_id"], only=("running",), state="accepted")
        else:
            change(store, row["job_id"], only=("running",), state="failed", reason=LOST)
    return len(lost)


def view(row: dict[str, Any]) -> dict[str, Any]:
    """Return what callers see of a request."""
    from datetime import UTC, datetime

    from ct_assets.reasons import reason

    def shown(seconds: float | None) -> str | None:
        return (
            None
            if seconds is None
            else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
        )

    why = None if row["reason"] is None else reason(row["reason"])
    return {
        "id": row["job_id"],
        "kind": row["kind"],
        "state": row["state"],
        "model": row["model"],
        "priority": next(
            (name for name, number in PRIORITIES.items() if number == row["priority"]), "normal"
        ),
        "accepted_at": shown(row["accepted_at"]),
        "started_at": shown(row["started_at"]),
        "ended_at": shown(row["ended_at"]),
        "attempts": row["attempts"],
        "run_id": row["run_id"],
        "reason": None if why is None else {"code": why.code, "meaning": why.meaning, "next_step": why.mend},
        "result": row["result"],
    }

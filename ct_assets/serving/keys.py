"""API keys of programs: made, shown once, checked, rotated, revoked.

Belongs here: the key's form and its row. A key is `ctk_<identifier>_<256 random bits in hex>`; kept is the HMAC-SHA-256
of the random part under a secret of this platform (`serving/pepper`, 0600). A slow hash is for passwords that people
choose: 256 random bits cannot be guessed, and every request pays for the hash.
"""

import hashlib
import hmac
import re
import secrets
import threading
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.serving.store import API_KEYS, Store

PEPPER_NAME = "pepper"
PREFIX = "ctk"
SECONDS_BETWEEN_LOOKS = 2.0
"""A key that another process revokes is refused after so long at most."""
ROTATION_OVERLAP_S = 24 * 3600.0
_KEY = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_([0-9a-f]{{64}})")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Role(IntEnum):
    """What a caller may do; each role may do what the ones before it may."""

    PUBLIC = 0
    """No key: whether the process lives."""
    VIEWER = 1
    """Read states, results, pages."""
    OPERATOR = 2
    """Send studies, start and stop work, acknowledge alerts."""
    ADMIN = 3
    """Keys, webhooks, configurations, checkpoints."""


def role_named(name: str) -> Role:
    """Return the role of a name. Raises `UsageError` for another one."""
    known = {role.name.lower(): role for role in Role if role is not Role.PUBLIC}
    if name not in known:
        raise UsageError(f"--role {name}: the roles are {', '.join(known)}")
    return known[name]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request."""

    key_id: str
    role: Role


class Keys:
    """The keys of a platform; rows are remembered for a moment, so that a request costs no look-up."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._pepper = _pepper(folder)
        self._rows: dict[str, dict[str, Any]] = {}
        self._read_at = -SECONDS_BETWEEN_LOOKS
        self._lock = threading.Lock()

    def make(self, name: str, role: Role, days: float, *, now: float | None = None) -> tuple[str, str]:
        """Make a key; return its identifier and the key itself, which is shown this once."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"--name {name!r}: 1 to 64 letters, digits, '_', '.' and '-'")
        moment = time.time() if now is None else now
        key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
        with self._store.write() as connection:
            connection.execute(
                API_KEYS.insert().values(
                    key_id=key_id,
                    digest=self._digest(secret),
                    name=name,
                    role=role.name.lower(),
                    created_at=moment,
                    expires_at=moment + days * 86400,
                )
            )
        self.forget()
        return key_id, f"{PREFIX}_{key_id}_{secret}"

    def rotate(self, key_id: str, days: float, overlap_s: float = ROTATION_OVERLAP_S) -> tuple[str, str]:
        """Make a key of the same name and role; the old one ends after the overlap."""
        row = self._store.row(sa.select(API_KEYS).where(API_KEYS.c.key_id == key_id))
        if row is None or row["revoked_at"] is not None:
            raise UsageError(f"{key_id}: no such key, or it is revoked")
        made = self.make(row["name"], role_named(row["role"]), days)
        ends = min(row["expires_at"], time.time() + overlap_s)
        with self._store.write() as connection:
            connection.execute(API_KEYS.update().where(API_KEYS.c.key_id == key_id).values(expires_at=ends))
        self.forget()
        return made

    def revoke(self, key_id: str) -> None:
        """End a key now. Raises `UsageError` where there is none of that identifier."""
        with self._store.write() as connection:
            done = connection.execute(
                API_KEYS.update()
                .where(API_KEYS.c.key_id == key_id, API_KEYS.c.revoked_at.is_(None))
                .values(revoked_at=time.time())
            )
        self.forget()
        if not done.rowcount:
            raise UsageError(f"{key_id}: no such key, or it is revoked already")

    def listing(self) -> list[dict[str, Any]]:
        """Return all keys without their digests."""
        columns = [column for column in API_KEYS.c if column.name != "digest"]
        return self._store.rows(sa.select(*columns).order_by(API_KEYS.c.created_at))

    def caller(self, key: str) -> Caller | None:
        """Return whose key this is; None for one that is not (or no longer) valid."""
        form = _KEY.fullmatch(key)
        if form is None:
            return None
        row = self._row(form[1])
        # An unknown identifier costs the same comparison as a known one.
        expected = row["digest"] if row is not None else "0" * 64
        is_right = hmac.compare_digest(self._digest(form[2]), expected)
        if row is None or not is_right:
            return None
        if row["revoked_at"] is not None or row["expires_at"] <= time.time():
            return None
        return Caller(row["key_id"], Role[row["role"].upper()])

    def forget(self) -> None:
        """Read the rows again with the next request."""
        self._read_at = -SECONDS_BETWEEN_LOOKS

    def _row(self, key_id: str) -> dict[str, Any] | None:
        now = time.monotonic()
        if now - self._read_at >= SECONDS_BETWEEN_LOOKS:
            with self._lock:
                self._rows = {row["key_id"]: row for row in self._store.rows(sa.select(API_KEYS))}
                self._read_at = now
        return self._rows.get(key_id)

    def _digest(self, secret: str) -> str:
        return hmac.new(self._pepper, secret.encode(), hashlib.sha256).hexdigest()


def _pepper(folder: Path) -> bytes:
    path = folder / PEPPER_NAME
    if not path.exists():
        partial = path.with_name(f".partial-{secrets.token_hex(4)}")
        files.write_bytes(partial, secrets.token_bytes(32), mode=0o600)
        try:
            path.hardlink_to(partial)  # of two processes that begin together, one makes it
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    return path.read_bytes()

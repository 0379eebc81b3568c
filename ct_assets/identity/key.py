"""The project's one secret, and everything that is derived from it.

Belongs here: where the secret comes from, how it is made, and the separation of its uses. Every use has a
domain of its own (`HMAC-SHA256(secret, domain)` is that domain's key), so that nothing learnt about UIDs
says anything about shifts or pseudonyms. Does not: what pseudonyms, UIDs and shifts look like.
"""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ct_assets import files
from ct_assets.errors import UsageError

ENVIRONMENT_VARIABLE = "CT_ASSETS_DEID_KEY"
KEY_BYTES = 32
KEY_FILE_MODE = 0o600

ADVICE = (
    "Keep it apart from the data and back it up: without it no later delivery gets the same pseudonyms, and "
    "whoever has it and the originals can undo them. Encrypt the disks that hold it, the originals and "
    "audits/uid."
)

_MAKE_ONE = "make one with `ct-assets key new FILE` and name it, or set the variable to 64 hex digits"


def is_key_here(key_file: Path | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this machine has a key; a machine that only trains has none."""
    return bool(environ.get(ENVIRONMENT_VARIABLE, "").strip()) or (key_file is not None and key_file.exists())


@dataclass(frozen=True)
class SecretKey:
    """The secret behind pseudonyms, UIDs, shifts and audit digests; its text never shows in a `repr`."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError("a key has 32 bytes")

    @classmethod
    def load(cls, key_file: Path | None = None, environ: Mapping[str, str] = os.environ) -> "SecretKey":
        """Take the key from `CT_ASSETS_DEID_KEY`, else from `key_file`.

        Raises `UsageError` when there is none, when it is not 64 hex digits, or when the file is open to
        others. The message never contains the key.
        """
        if text := environ.get(ENVIRONMENT_VARIABLE, "").strip():
            return cls.from_hex(text, f"environment variable {ENVIRONMENT_VARIABLE}")
        if key_file is None:
            raise UsageError(
                f"no key: {ENVIRONMENT_VARIABLE} is not set and no key file is named; {_MAKE_ONE}"
            )
        return cls.from_file(key_file)

    @classmethod
    def from_file(cls, path: Path) -> "SecretKey":
        """Read a key file. Raises `UsageError` as `load` does."""
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            text = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise UsageError(f"{path}: no such key file; {_MAKE_ONE}") from None
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"{path}: the key file cannot be read as 64 hex digits; {_MAKE_ONE}") from None
        if mode & 0o077:
            raise UsageError(
                f"{path}: the key file is open to others (mode {mode:04o}); run: chmod 600 {path}"
            )
        return cls.from_hex(text, str(path))

    @classmethod
    def from_hex(cls, text: str, source: str = "the key") -> "SecretKey":
        """Read 64 hex digits; `source` is what an error message calls the place."""
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            raise UsageError(
                f"{source}: a key is 64 hex digits, found other characters; {_MAKE_ONE}"
            ) from None
        if len(secret) != KEY_BYTES:
            raise UsageError(f"{source}: a key is 64 hex digits, found {len(text)}; {_MAKE_ONE}")
        if len(set(secret)) == 1:
            raise UsageError(f"{source}: the key is one byte repeated, which is no secret; {_MAKE_ONE}")
        return cls(secret)

    def digest(self, domain: str, *parts: str | bytes) -> bytes:
        """Return the keyed digest (32 bytes) of `parts` in `domain`; parts are length-prefixed."""
        mac = self._keyed(domain).copy()
        for part in parts:
            encoded = part.encode() if isinstance(part, str) else part
            mac.update(len(encoded).to_bytes(8, "big"))
            mac.update(encoded)
        return mac.digest()

    def number(self, domain: str, *parts: str | bytes) -> int:
        """Return `digest` as an unsigned integer of 256 bits."""
        return int.from_bytes(self.digest(domain, *parts), "big")

    @property
    def fingerprint(self) -> str:
        """What a platform records to notice another key later: one way, and of no other use."""
        return self.digest("key record").hex()[:32]

    def _keyed(self, domain: str) -> hmac.HMAC:
        mac = self._macs.get(domain)
        if mac is None:
            sub_key = hmac.digest(self.secret, domain.encode(), "sha256")
            mac = self._macs[domain] = hmac.new(sub_key, digestmod=hashlib.sha256)
        return mac

    @cached_property
    def _macs(self) -> dict[str, hmac.HMAC]:
        return {}

    def __reduce__(self) -> tuple[type["SecretKey"], tuple[bytes]]:
        return type(self), (self.secret,)


def make_key_file(path: Path) -> None:
    """Write a new random key to `path`, readable by its owner alone. An existing file is never replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_FILE_MODE)
    except FileExistsError:
        raise UsageError(
            f"{path}: exists already; a new key would give every patient a new pseudonym. "
            "Name another file, or remove this one if no output was ever made with it."
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(secrets.token_hex(KEY_BYTES) + "\n")


def check_record(record: Path, key: SecretKey) -> None:
    """Refuse a key other than the one that made what lies beside `record`, if there is a record.

    Raises `UsageError`: under another key pseudonyms, UIDs and shifts no longer agree with what was released.
    """
    if record.exists() and files.read_json(record).get("fingerprint") != key.fingerprint:
        raise UsageError(
            f"{record}: what lies here was made with another key. Use that key, or write to another folder: "
            "under a new key every pseudonym, UID and date shift is another."
        )


def hold_to_record(record: Path, key: SecretKey) -> None:
    """Check the key against `record`, and record it where there is none yet (in a restricted folder)."""
    check_record(record, key)
    if not record.exists():
        files.write_json(record, {"fingerprint": key.fingerprint}, mode=KEY_FILE_MODE)

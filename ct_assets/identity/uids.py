"""New UIDs for old ones.

Belongs here: the keyed mapping and the UIDs that are nobody's (the Standard's own). Does not: the graph of
what referred to what (`uid_graph`).
"""

import re

from pydicom._uid_dict import UID_dictionary

from ct_assets.identity.key import SecretKey

STANDARD_ROOT = "1.2.840.10008."
"""The Standard's root. Only what PS3.6 Annex A registers below it names no person; some senders make UIDs of
their own there."""
_NEWER_THAN_PYDICOM = frozenset(
    f"{STANDARD_ROOT}5.1.4.1.1.{tail}" for tail in ("66.7", "66.8", "9.100.1", "9.100.2")
)
_CONTEXT_GROUP = re.compile(r"1\.2\.840\.10008\.6\.1\.[1-9]\d{0,3}")
"""Context groups, PS3.6 Table A-3: numbered from 1 on, fewer than ten thousand."""

UUID_ROOT = "2.25."
PROOF_BITS = 32
"""Low bits of each new UID that prove, with the key, that it is one of ours; 90 bits tell UIDs apart (ten
million of them collide with a chance below 1 in 10^13)."""


def new_uid(key: SecretKey, old: str) -> str:
    """Return the UID that replaces `old`: `2.25.` and a UUID in decimal (PS3.5 B.2).

    The UUID's free bits are keyed digests of the old UID and of themselves; version (4) and variant bits are
    set, so the result is a valid UUID. At most 44 characters, no leading zero. Standard UIDs and empty values
    are returned as they are; padding (space, NUL) does not make another UID.
    """
    bare = bare_uid(old)
    if not bare or is_standard(bare):
        return bare
    bits = key.number("uid", bare) >> 128
    bits = bits & ~(0xF << 76) | (0x4 << 76)
    bits = bits & ~(0x3 << 62) | (0x2 << 62)
    head = bits >> PROOF_BITS
    return f"{UUID_ROOT}{head << PROOF_BITS | _proof(key, head)}"


def is_own(key: SecretKey, uid: str) -> bool:
    """Whether `new_uid` made this UID with this key: the keyed proof that an object is our own output.

    A foreign UID passes with a chance of 1 in 2^32, and only if it is of the form `2.25.` at all.
    """
    bare = bare_uid(uid)
    digits = bare.removeprefix(UUID_ROOT)
    if digits == bare or not digits.isdecimal() or len(digits) > 39:
        return False
    bits = int(digits)
    return bits >> 128 == 0 and bits & ((1 << PROOF_BITS) - 1) == _proof(key, bits >> PROOF_BITS)


def _proof(key: SecretKey, head: int) -> int:
    return key.number("uid proof", head.to_bytes(12, "big")) >> (256 - PROOF_BITS)


def bare_uid(uid: str) -> str:
    """Return the UID without padding."""
    return uid.strip(" \0\t\r\n")


def is_standard(uid: str) -> bool:
    """Whether the Standard itself registers this UID (PS3.6 Annex A)."""
    return uid.startswith(STANDARD_ROOT) and (
        uid in UID_dictionary or uid in _NEWER_THAN_PYDICOM or _CONTEXT_GROUP.fullmatch(uid) is not None
    )

"""New UIDs for old ones.

Belongs here: the keyed mapping and the UIDs that are nobody's (the Standard's own). Does not: the graph of
what referred to what (`uid_graph`).
"""

from ct_assets.deid.key import SecretKey

STANDARD_ROOT = "1.2.840.10008."
"""UIDs the Standard registers (SOP classes, transfer syntaxes, well-known instances and frames of
reference, PS3.6 Annex A) name no person and are never replaced."""

UUID_ROOT = "2.25."


def new_uid(key: SecretKey, old: str) -> str:
    """Return the UID that replaces `old`: `2.25.` and a UUID in decimal (PS3.5 B.2).

    The UUID's 122 free bits are HMAC-SHA256 of the old UID; version (4) and variant bits are set, so the
    result is a valid UUID. At most 44 characters, no leading zero. Standard UIDs and empty values are
    returned as they are; padding (space, NUL) does not make another UID.
    """
    bare = bare_uid(old)
    if not bare or is_standard(bare):
        return bare
    bits = key.number("uid", bare) >> 128
    bits = bits & ~(0xF << 76) | (0x4 << 76)
    bits = bits & ~(0x3 << 62) | (0x2 << 62)
    return f"{UUID_ROOT}{bits}"


def bare_uid(uid: str) -> str:
    """Return the UID without padding."""
    return uid.strip(" \0\t\r\n")


def is_standard(uid: str) -> bool:
    """Whether the Standard itself registers this UID."""
    return uid.startswith(STANDARD_ROOT)

"""The command of a C-STORE as it came, before any library makes values of it.

Belongs here: reading the few elements of a command set (PS3.7 9.3.1.1) and saying which request cannot be taken.
Does not: the answer (`transport`), the data set (`objects`).
"""

import struct
from dataclasses import dataclass

LONGEST_UID = 64
"""Characters of a UID (PS3.5 9.1)."""
LONGEST_COMMAND_BYTES = 1 << 20
C_STORE_REQUEST = 0x0001
NO_DATA_SET = 0x0101

_SOP_CLASS, _FIELD, _MESSAGE_ID, _DATA_SET_TYPE, _SOP_INSTANCE = 0x0002, 0x0100, 0x0110, 0x0800, 0x1000


class NoCommandError(Exception):
    """Bytes that are no command set, or lack what any command has."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is needed to answer a request; UIDs as they came, without padding."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class: bytes
    sop_instance: bytes

    @classmethod
    def of(cls, encoded: bytes) -> "Command":
        """Read a command set: group 0000, Implicit VR Little Endian (PS3.7 6.3.1). Raises `NoCommandError`."""
        values: dict[int, bytes] = {}
        position = 0
        try:
            while position < len(encoded):
                group, element, length = struct.unpack_from("<HHL", encoded, position)
                position += 8 + length
                if group != 0 or position > len(encoded):
                    raise NoCommandError
                values[element] = encoded[position - length : position]
            field, message_id, data_set_type = (
                struct.unpack("<H", values.get(element, default))[0]
                for element, default in ((_FIELD, b""), (_MESSAGE_ID, b"\0\0"), (_DATA_SET_TYPE, b""))
            )
        except struct.error:
            raise NoCommandError from None
        sop_class, sop_instance = (
            values.get(element, b"").rstrip(b"\0 ") for element in (_SOP_CLASS, _SOP_INSTANCE)
        )
        return cls(field, message_id, data_set_type != NO_DATA_SET, sop_class, sop_instance)


def refusal(command: Command, context_class: str | None, storage_classes: frozenset[str]) -> str | None:
    """Return the reason code of a C-STORE request that cannot be taken; None where its data set may come.

    `context_class` is the abstract syntax of the request's presentation context, None where none was accepted.
    """
    if context_class is None or context_class not in storage_classes:
        return "object_context_not_accepted"
    if command.sop_class.decode("latin-1") not in storage_classes:
        return "object_class_not_supported"
    uid = command.sop_instance
    if not uid or len(uid) > LONGEST_UID or not uid.isascii() or not uid.decode("ascii").isprintable():
        return "object_uid_invalid"
    return None

"""Paths made from values that come from outside: header values, cells of a table, identifiers, names of input files.

Belongs here: the one function that joins such a value to a folder. Does not: the platform's own layout
(`ct_assets.layout`), what makes a UID (`dicom.uids`).
"""

import re
from pathlib import Path

from ct_assets.errors import UsageError

LONGEST_NAME_BYTES = 200
"""File systems take 255; suffixes and the prefixes of partial files need room."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")


class UnsafeNameError(UsageError):
    """A value that may not become a file name. The message does not repeat it: it may identify a person."""


def is_safe_name(name: str) -> bool:
    """Tell whether `name` may be one file or folder: no separator, nothing hidden, no way up, not too long."""
    return (
        bool(name)
        and not name.startswith(".")
        and not _UNSAFE.search(name)
        and name == name.strip()
        and len(name.encode(errors="replace")) <= LONGEST_NAME_BYTES
    )


def below(root: Path, *names: str) -> Path:
    """Return `root/name/…` for values of any origin; the result lies below `root`, each name one level deeper.

    Raises `UnsafeNameError` for a value that is no single name: empty, `..`, absolute, with a separator or a
    control character, hidden, or too long.
    """
    for name in names:
        if not is_safe_name(name):
            raise UnsafeNameError(
                f"{root}: a value of {len(name)} characters cannot be a file name below this folder (a separator, "
                "'..', a control character, a leading dot or too long); rename it at its source"
            )
    return root.joinpath(*names)

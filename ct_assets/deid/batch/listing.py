"""What lies below the folder of a batch: files to read, and what is there beside files.

Belongs here: the walk over the folder and how its paths are written. Does not: reading a file (`gather`).
"""

import os
import stat
from pathlib import Path

from ct_assets.layout import MARKER_NAME


def list_files(input_dir: Path) -> list[str]:
    """Return everything below a folder that must have a disposition, as `files.parquet` writes it."""
    found, refused = walk(input_dir)
    return sorted(written(path) for path in (*found, *(path for path, _ in refused)))


def written(path: str) -> str:
    """Return a path as tables hold it: bytes of a name that are no UTF-8 as `\\udcNN` escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


def walk(input_dir: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the files below a folder in order, and what is there beside files, with its reason code."""
    found: list[str] = []
    refused: list[tuple[str, str]] = []
    folders = [input_dir]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            refused.append((relative_to(folder, input_dir), "unreadable_file"))
            continue
        for entry in entries:
            path = Path(entry.path)
            relative = relative_to(path, input_dir)
            if entry.is_symlink():
                refused.append((relative, "symbolic_link"))
            elif entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                refused.append((relative, "not_a_file"))
            elif relative != MARKER_NAME:
                found.append(relative)
    return sorted(found), sorted(refused)


def relative_to(path: Path, root: Path) -> str:
    """Return the path below `root`; bytes of a name that are no UTF-8 stand as `\\xNN`."""
    return path.relative_to(root).as_posix()

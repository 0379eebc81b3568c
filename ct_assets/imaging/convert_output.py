"""The output folder of `ct-assets convert`: which folders in it are the command's own, replaced and removed.

Belongs here: paths below the output folder, and what may be deleted there. Does not: the content of the files
(`imaging.convert_tree`, `imaging.convert_record`).

Only folders directly below the output folder are replaced or removed, whose name is a series identifier and that
hold nothing but files of this command; anything else stays, whatever a header or a record says.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ct_assets import files, paths
from ct_assets.dicom.series import is_series_id

RECORD = "conversion.jsonl"
_OWN_FILES = re.compile(r"image\.nii\.gz|image\.json|segments\.json|label_[^/]+\.nii\.gz|\.partial-[^/]+")


class OutputOccupiedError(Exception):
    """The folder of a series holds files of somebody else."""


def series_folder(output_dir: Path, series_id: str) -> Path:
    """Return the folder of a series, directly below `output_dir`."""
    return paths.below(output_dir, series_id)


def replace(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill the folder of a series; an earlier one is replaced. Raises `OutputOccupiedError`."""
    if folder.is_symlink() or (folder.exists() and not _is_own(folder)):
        raise OutputOccupiedError
    files.replace_directory(folder, fill)


def discard(output_dir: Path, series_id: str) -> None:
    """Remove what an earlier or failed conversion of a series left."""
    folder = series_folder(output_dir, series_id)
    if _is_own(folder):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(output_dir / f".partial-{folder.name}", ignore_errors=True)


def remove_left_overs(output_dir: Path, lines: list[dict[str, Any]]) -> None:
    """Remove the folders of series that an earlier record names and this one no longer has."""
    record = output_dir / RECORD
    if not record.exists():
        return
    now = {line["path"].partition("/")[0] for line in lines if line["path"]}
    for line in files.read_jsonl(record):
        earlier = str(line.get("path") or "").partition("/")[0]
        if earlier not in now and is_series_id(earlier) and _is_own(output_dir / earlier):
            shutil.rmtree(output_dir / earlier)


def _is_own(folder: Path) -> bool:
    """Tell whether a folder is there and holds nothing but files that this command writes."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return all(
        _OWN_FILES.fullmatch(entry.name) and entry.is_file() and not entry.is_symlink()
        for entry in folder.iterdir()
    )

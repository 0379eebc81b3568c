"""Transforms between exams that were made elsewhere: `rigid_f<fixed exam>_m<moving exam>.mat`, `.tfm` or `.txt`.

Belongs here: their names and what ITK reads of them. ITK's and ANTs' files carry a point of the fixed image to the
moving one, LPS millimetres.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ct_assets.errors import UsageError
from ct_assets.imaging.volume import Floats

NAME = re.compile(r"rigid_f(?P<fixed>.+)_m(?P<moving>.+)\.(mat|tfm|txt)")


@dataclass(frozen=True)
class Given:
    """The transforms of a folder."""

    matrices: dict[tuple[str, str], Floats]
    """By fixed and moving exam: point of the fixed exam to point of the moving one."""
    duplicates: tuple[str, ...]
    """Names of files whose pair, in either direction, an earlier name has: they are not used."""


def read(folder: Path) -> Given:
    """Read all transforms of a folder, by name. Raises `UsageError` naming a file that holds no linear transform."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    matrices: dict[tuple[str, str], Floats] = {}
    duplicates = []
    for path in sorted(folder.iterdir()):
        named = NAME.fullmatch(path.name)
        if named is None:
            continue
        pair = named["fixed"], named["moving"]
        if pair in matrices or pair[::-1] in matrices:
            duplicates.append(path.name)
        else:
            matrices[pair] = _matrix(path)
    return Given(matrices, tuple(duplicates))


def _matrix(path: Path) -> Floats:
    import SimpleITK

    refusal = UsageError(f"{path}: holds no linear transform of three dimensions that ITK can read")
    try:
        transform = SimpleITK.ReadTransform(str(path))
    except RuntimeError:
        raise refusal from None
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise refusal
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack(
        [np.array(transform.TransformPoint(tuple(axis))) - origin for axis in np.eye(3)], axis=1
    )
    matrix[:3, 3] = origin
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-6:
        raise UsageError(f"{path}: the transform cannot be inverted")
    return matrix

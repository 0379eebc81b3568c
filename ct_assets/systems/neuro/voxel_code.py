"""The source files that decide the voxels of a cached image: part of every key of the cache.

Belongs here: following imports from the modules that load and prepare an image, inside functions too, through the
packages that compute (`dicom`, `imaging`, the token cache itself). Does not: the key (`neuro.entries`).
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import ct_assets

PACKAGE = Path(ct_assets.__file__).parent
ROOTS = tuple(
    f"systems/neuro/{name}.py" for name in ("load", "dicom_source", "preprocess", "prepare", "tokens")
)
COMPUTING = ("dicom", "imaging", "systems")
"""Packages whose code computes; messages, settings and tables decide no voxel (settings have a digest of their own)."""


def digest(roots: tuple[str, ...] = ROOTS) -> str:
    """Return the digest of the text of every file that `roots` import, themselves included."""
    code = hashlib.sha256()
    for path in reachable(roots):
        code.update(path.encode() + b"\0" + (PACKAGE / path).read_bytes() + b"\0")
    return code.hexdigest()


def reachable(roots: tuple[str, ...] = ROOTS) -> list[str]:
    """Return `roots` and every file of the computing packages they import, relative to the package, sorted."""
    waiting, reached = list(roots), set(roots)
    while waiting:
        imports = set(_imports(ast.parse((PACKAGE / waiting.pop()).read_text()))) - reached
        reached |= imports
        waiting += imports
    return sorted(reached)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the files of the computing packages that a module imports."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            package, *parts = name.split(".")
            if package == "ct_assets" and parts and parts[0] in COMPUTING:
                file = "/".join(parts) + ".py"
                if (PACKAGE / file).is_file():
                    yield file

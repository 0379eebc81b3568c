"""The store and its memory: what no table names any more.

Belongs here: freeing entries of the stores and what is remembered of files that are gone. A later run makes
again whatever it needs. Does not: volumes that a fold, a final set or a smaller set still names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from ct_assets.layout import Layout
from ct_assets.learning.volumes import fold_volumes


@dataclass(frozen=True)
class Freed:
    """What was freed, or would be."""

    files: int = 0
    bytes: int = 0

    def plus(self, other: "Freed") -> "Freed":
        """Return both together."""
        return Freed(self.files + other.files, self.bytes + other.bytes)


def free(layout: Layout, *, remove: bool) -> Freed:
    """Free the entries that no table names, in the platform's store and in those of smaller sets."""
    freed = Freed()
    for store, folders in _stores(layout):
        if store.is_dir():
            freed = freed.plus(Freed(*fold_volumes.free_unnamed(store, folders, remove=remove)))
            freed = freed.plus(_free_torn(store, remove=remove))
            freed = freed.plus(_free_memory(store, layout, remove=remove))
    return freed


def _stores(layout: Layout) -> Iterator[tuple[Path, list[Path]]]:
    folders = [*sorted(layout.folds.glob("*")), layout.final_train, layout.final_test]
    yield layout.store, folders
    for derived in sorted((layout.root / "derived").glob("*")):
        yield derived / "store", sorted((derived / "folds").glob("*"))


def _free_torn(store: Path, *, remove: bool) -> Freed:
    """Free arrays without a description: what a killed process left."""
    torn = [path for path in store.glob("volumes/*/*.b2nd") if not path.with_suffix(".json").exists()]
    torn += store.rglob(".partial-*")
    return _free_files(torn, remove=remove)


def _free_memory(store: Path, layout: Layout, *, remove: bool) -> Freed:
    """Free what is remembered of NIfTI files that are no longer as they were."""
    here = set()
    for path in layout.nifti.rglob("*.nii.gz"):
        status = path.stat()
        here.add((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    stale, digests = [], set()
    for path in (store / "seen").glob("*.json"):
        held = orjson.loads(path.read_bytes())
        if tuple(held["status"]) in here:
            digests.add(held["digest"])
        else:
            stale.append(path)
    for path in (store / "fingerprints").glob("*.json"):
        if orjson.loads(path.read_bytes())["image_digest"] not in digests:
            stale.append(path)
    return _free_files(stale, remove=remove)


def _free_files(paths: list[Path], *, remove: bool) -> Freed:
    size = sum(path.stat().st_size for path in paths)
    for path in paths if remove else ():
        path.unlink(missing_ok=True)
    return Freed(len(paths), size)

"""A withdrawal's reach into the API: requests that hold anything of a person go whole, with results and webhook bodies.

Belongs here: finding such requests. The database holds no identifier, so a request is found by its files; those of
requests whose time was over are gone already.
"""

from pathlib import Path

from ct_assets.lifecycle.finder import Finder
from ct_assets.lifecycle.search import stands_in
from ct_assets.serving import spool
from ct_assets.serving.platform import Serving
from ct_assets.settings import Settings


def forget(settings: Settings, finder: Finder) -> int:
    """Remove every request that holds something of the person; return how many."""
    folder = settings.layout.serving
    if not folder.is_dir():
        return 0
    rooms = spool.Spool(folder)
    found = [room.name for room in sorted(rooms.root.iterdir()) if _holds(room, finder)]
    if found:
        serving = Serving.open(settings)
        try:
            spool.forget(serving, found)
        finally:
            serving.store.close()
    return len(found)


def _holds(room: Path, finder: Finder) -> bool:
    for path in sorted(room.rglob("*")):
        if finder.has(path.relative_to(room).as_posix().encode("utf-8", "surrogateescape")):
            return True
        if path.is_file() and stands_in(path.name, path.read_bytes(), finder):
            return True
    return False

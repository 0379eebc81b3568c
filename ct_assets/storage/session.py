"""Where commands and steps meet the store: fetch before, publish after. Without a store, nothing happens.

Belongs here: the two hooks, `opened` around a command and `step` around a step, and what each fetches.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ct_assets import progress
from ct_assets.errors import UsageError
from ct_assets.identity.key import is_key_here
from ct_assets.settings import Settings
from ct_assets.storage import needs
from ct_assets.storage.copy import EVERYTHING, WorkingCopy
from ct_assets.storage.store import Store


def working_copy(settings: Settings, patience_seconds: float | None = None) -> WorkingCopy | None:
    """Return the working copy of these settings' data root; None where the data root is a local folder."""
    if settings.storage.url is None:
        return None
    storage = settings.storage
    if patience_seconds is not None:
        storage = storage.model_copy(update={"patience_seconds": patience_seconds})
    return WorkingCopy(settings.layout, Store(storage), left_out=settings.deid.key_file)


def fetch(settings: Settings, *needed: str) -> None:
    """Bring what matches `needed` into line with the store."""
    copy = working_copy(settings)
    if copy is not None:
        copy.pull(needed)


@contextmanager
def opened(
    settings: Settings, needed: tuple[str, ...] = needs.ALWAYS + needs.DATABASES, *, publish: bool = True
) -> Iterator[None]:
    """Around a command: fetch what it needs first, publish everything that changed at its end.

    Also after a failure, so that what was made until then is in the store. A store that stays away then does
    not hide the failure.
    """
    copy = working_copy(settings)
    if copy is None:
        yield
        return
    copy.pull((*needed, *needs.BY_THE_KEY) if is_key_here(settings.deid.key_file) else needed)
    try:
        yield
    except BaseException:
        if publish:
            try:
                copy.publish()
            except UsageError as error:
                progress.say(str(error))
        raise
    if publish:
        copy.publish()


@contextmanager
def step(settings: Settings, group: str, key: str | None) -> Iterator[None]:
    """Around a step of the graph: fetch what its group reads, publish what it made.

    Databases are left to the end of the command: something has them open.
    """
    copy = working_copy(settings)
    if copy is None:
        yield
        return
    copy.pull(needs.of_group(group, key))
    yield
    copy.publish(skipped=needs.DATABASES)


def look_for_deliveries(settings: Settings) -> str | None:
    """Fetch the markers of deliveries that other machines took in; return why that cannot be done just now."""
    copy = working_copy(settings, patience_seconds=0)
    if copy is None:
        return None
    try:
        copy.pull(needs.DELIVERIES)
    except UsageError as error:
        return str(error)
    return None


def everything(settings: Settings) -> str:
    """Fetch all of the data root and publish what changed here; tell what was done."""
    copy = _of_store(settings)
    fetched = copy.pull(EVERYTHING)
    published = copy.publish()
    newest = copy.store.newest()
    files, size = (
        sum(area.files for area in newest.areas.values()),
        sum(a.bytes for a in newest.areas.values()),
    )
    did = "nothing to publish" if published is None else f"published as generation {published.number}"
    return f"{copy.store.url}: {files} files, {size / 1e6:.1f} MB; {fetched} fetched, {did}"


def free(settings: Settings) -> str:
    """Remove from this machine what is safe in the store; databases stay."""
    files, size = _of_store(settings).free(kept=needs.DATABASES)
    return f"{settings.data_root}: {files} files, {size / 1e6:.1f} MB freed; they are in the store"


def sweep(settings: Settings, *, older_than_hours: float) -> str:
    """Remove from the store what the newest generation does not name; without a store there is nothing."""
    copy = working_copy(settings)
    if copy is None:
        return "the data root is a local folder: nothing to sweep"
    objects, size = copy.sweep(older_than_hours)
    return f"{copy.store.url}: {objects} objects, {size / 1e6:.1f} MB removed"


def _of_store(settings: Settings) -> WorkingCopy:
    copy = working_copy(settings)
    if copy is None:
        raise UsageError(f"{settings.data_root}: the data root is a local folder, not one in a store")
    return copy

"""The platform that a command works on: the option that names its settings, and opening it.

Belongs here: what every command over a platform begins with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ct_assets.settings import Settings


@contextmanager
def opened_platform(config: Path | None, *needed: str, publish: bool = True) -> "Iterator[Settings]":
    """Yield the settings of a platform of today's form; of one in a store, what is `needed` is fetched before."""
    from ct_assets.lifecycle.schema import refuse_other
    from ct_assets.settings import load_settings
    from ct_assets.storage import session

    settings = load_settings(config)
    with session.opened(settings, ("platform.json", *needed), publish=publish):
        refuse_other(settings.layout)
        yield settings

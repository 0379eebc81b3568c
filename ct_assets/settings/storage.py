"""Settings of a data root in an object store (`storage:`); the store itself is named by `data_root`."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from ct_assets.settings.base import Section

SCHEMES = ("az", "abfs", "abfss", "s3")
"""What a data root in a store may begin with."""


class StorageSettings(Section):
    """The store behind the data root, and the working copy on this machine.

    Credentials are no settings: the libraries take them from the environment or the machine's identity
    (`AZURE_STORAGE_…`, `AWS_…`), and nothing of them is ever stored.
    """

    url: str | None = None
    """`az://container/folder` or `s3://bucket/folder`; as a rule written as `data_root`."""
    work_root: Path = Path("../data/work")
    """The working copy: an ordinary data root on this machine, brought into line with the store."""
    restricted: bool = True
    """False on a machine that must not see identities: inbox, originals, quarantine and crosswalk are then
    neither listed nor fetched nor published there, and it needs no access to `restricted/` in the store."""
    patience_seconds: float = Field(default=120, ge=0)
    """A store that does not answer is asked again, ever more slowly, for so long."""
    connections: int = Field(default=8, ge=1, le=64)
    """Objects that are moved at the same time."""

    @field_validator("url")
    @classmethod
    def _url_names_a_folder(cls, url: str | None) -> str | None:
        return None if url is None else check_url(url)


def is_url(text: object) -> bool:
    """Tell whether a data root is one in a store."""
    return isinstance(text, str) and "://" in text


def check_url(url: str) -> str:
    """Return the URL of a store without a slash at its end, or refuse it with a `ValueError`."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a data root in a store begins with {', '.join(f'{name}://' for name in SCHEMES)}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("a store is named without credentials; they belong into the environment")
    if not parts.netloc or not parts.path.strip("/"):
        raise ValueError("a store is named by container (bucket) and a folder in it: az://container/folder")
    return url.rstrip("/")

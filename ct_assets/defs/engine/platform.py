"""The one resource of the graph: the settings, the paths and the key of this platform.

Belongs here: what every asset needs to find its inputs. Does not: any work on data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_assets import parallel
from ct_assets.defs.engine.instance import tracking_url
from ct_assets.errors import UsageError
from ct_assets.layout import Layout
from ct_assets.settings import Settings

if TYPE_CHECKING:
    from ct_assets.identity.key import SecretKey
    from ct_assets.identity.withdrawn import Withdrawn
    from ct_assets.settings.deid import DeidProfile


@dataclass(frozen=True)
class Platform:
    """Settings, paths and key, handed to every asset as the resource `platform`."""

    settings: Settings

    @property
    def layout(self) -> Layout:
        """The paths under the data root."""
        return self.settings.layout

    @property
    def workers(self) -> int:
        """Worker processes of a stage."""
        return self.settings.execution.workers or parallel.default_workers()

    @cached_property
    def key(self) -> "SecretKey":
        """The secret key, held against the platform's record of it: two keys in one platform never mix."""
        from ct_assets.identity.key import SecretKey, hold_to_record
        from ct_assets.lifecycle.schema import hold

        key = SecretKey.load(self.settings.deid.key_file)
        self.admit()
        hold(self.layout)
        self.layout.make_restricted()
        hold_to_record(self.layout.key_record, key)
        return key

    def admit(self) -> None:
        """Let work begin. Raises `UsageError` for a data root of another form and for an unfinished withdrawal."""
        from ct_assets.lifecycle.schema import refuse_other
        from ct_assets.lifecycle.unfinished import refuse_unfinished

        refuse_other(self.layout)
        refuse_unfinished(self.layout)

    @property
    def withdrawn(self) -> "Withdrawn":
        """Who has withdrawn from this platform; read anew each time, since it may grow."""
        from ct_assets.identity.withdrawn import load

        return load(self.layout.tombstones, self.key)

    @cached_property
    def profile(self) -> "DeidProfile":
        """The de-identification profile in force."""
        from ct_assets.settings.deid import load_profile

        return load_profile(self.settings.deid.profile)

    def setting(self, name: str) -> Any:
        """Return a section of the settings, or one setting of it by a dotted name; `profile` is the profile in force."""
        first, *parts = name.split(".")
        value: Any = self.profile if first == "profile" else getattr(self.settings, first)
        for part in parts:
            if isinstance(value, Mapping):
                if part not in value:
                    raise UsageError(
                        f"{first}: the settings have no {part}; there are: {', '.join(sorted(value))}"
                    )
                value = value[part]
            else:
                value = getattr(value, part)
        return value

    @property
    def neuro_dir(self) -> Path:
        """The data set of head CT and MR."""
        return self.settings.neuro.data_dir or self.layout.neuro

    @property
    def brain_dir(self) -> Path:
        """The folder of head CT slices with their label table."""
        return self.settings.brain.data_dir or self.layout.brain / "raw"

    @property
    def tracking_uri(self) -> str:
        """The MLflow tracking server: the one named, else the platform's database, else an sqlite file."""
        if self.settings.tracking.uri is not None:
            return self.settings.tracking.uri
        if self.settings.service.database is not None:
            return tracking_url(self.settings.service.database)
        return f"sqlite:///{self.layout.mlflow / 'mlflow.db'}"

"""Settings of keeping: how long originals and quarantine stay."""

from pydantic import Field

from ct_assets.settings.base import Section


class KeepingSettings(Section):
    """How long restricted data stay (`keeping:`); `ct-assets gc` applies it."""

    raw_days: int | None = Field(default=None, ge=1)
    """Days after registration after which originals go, replaced deliveries among them; unset: they stay.
    What was released from them is held against the audit first."""
    quarantine_days: int | None = Field(default=None, ge=1)
    """Days after registration after which held objects go, whether or not anybody decided; unset: they stay."""

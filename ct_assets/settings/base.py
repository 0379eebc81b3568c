"""The base of every typed section of the settings: frozen, and closed to unknown keys."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the settings; a key that it does not know is refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

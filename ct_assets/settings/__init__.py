"""Typed settings: one section a file, read by `load`; unknown keys and wrong values are refused by name."""

from ct_assets.settings.base import Section
from ct_assets.settings.load import load_settings, read_section
from ct_assets.settings.platform import Settings

__all__ = ["Section", "Settings", "load_settings", "read_section"]

"""Settings of the conversion to volumes: which corrections are allowed, how masks become labels."""

from ct_assets.settings.base import Section


class ConversionSettings(Section):
    """From series and mask objects to NIfTI (`conversion:`)."""

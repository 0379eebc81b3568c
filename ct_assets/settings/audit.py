"""Settings of the audits: what counts as one series and how a patient's principal series is chosen."""

from ct_assets.settings.base import Section


class AuditSettings(Section):
    """Series grouping, geometry tolerances and the choice of the principal series (`audit:`)."""

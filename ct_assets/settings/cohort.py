"""Settings of the cohort: the clinic's labels and the conditions of eligibility."""

from pathlib import Path

from ct_assets.settings.base import Section


class LabelSettings(Section):
    """The clinic's table (`labels:`)."""

    csv: Path | None = None
    """The clinic's CSV, keyed by the raw patient ID."""


class EligibilitySettings(Section):
    """Who may enter the cohort (`eligibility:`)."""

    query: Path = Path("eligibility.sql")
    """The SQL that judges each patient."""

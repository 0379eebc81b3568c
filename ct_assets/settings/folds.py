"""Settings of splits, plans, drift and smaller sets."""

from ct_assets.settings.base import Section


class SplitSettings(Section):
    """The split ledger (`splits:`)."""

    folds: int = 5


class PlanSettings(Section):
    """How a fold's plan follows from its training patients (`plan:`)."""


class DriftSettings(Section):
    """Drift between splits and confounding of the stage (`drift:`)."""


class DerivedSettings(Section):
    """A smaller set (`derived.<name>:`)."""

"""Reason codes of labels, eligibility, cohort: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = ()

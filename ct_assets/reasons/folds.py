"""Reason codes of splits, plans, volumes: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = ()

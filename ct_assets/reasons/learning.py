"""Reason codes of training and evaluation: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = ()

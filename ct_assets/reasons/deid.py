"""Reason codes of de-identification: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = ()

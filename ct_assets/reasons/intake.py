"""Reason codes of arrival of batches: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = ()

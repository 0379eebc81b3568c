"""Reason codes of series, their geometry and conversion: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = ()

"""Reason codes of mask objects (SEG, RTSTRUCT): (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = ()

"""Schemas of labels, eligibility, manifest, split ledger; a line a column, units in names."""

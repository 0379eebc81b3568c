"""Schemas of the NIfTI cache; a line a column, units in names."""

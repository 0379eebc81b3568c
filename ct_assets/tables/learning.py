"""Schemas of predictions and their metrics; a line a column, units in names."""

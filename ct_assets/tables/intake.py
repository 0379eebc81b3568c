"""Schemas of batches and their files; a line a column, units in names."""

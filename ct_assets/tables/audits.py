"""Schemas of the header index and the CT preprocessing audit; a line a column, units in names."""

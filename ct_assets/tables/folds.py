"""Schemas of fingerprints, fold volumes, drift; a line a column, units in names."""

"""Schemas of de-identification: dispositions and the crosswalk; a line a column, units in names."""

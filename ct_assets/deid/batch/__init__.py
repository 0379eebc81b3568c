"""A batch: its two passes, dispositions, review, report."""

"""Keeping and forgetting: withdrawal, freeing, retention, backup, and the schema of a data root."""

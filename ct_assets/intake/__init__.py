"""Drops, markers and digests: how a batch arrives and is registered."""

"""Proof: the leak scan and the verification of released files."""

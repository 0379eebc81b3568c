"""The command line: groups of commands, each a few lines over the functions that the assets call."""

from ct_assets.cli.root import app, main

__all__ = ["app", "main"]

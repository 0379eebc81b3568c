"""The errors that end a command with a clear line instead of a traceback.

Belongs here: the kinds of ending that the commands promise. What happens to single files, series or
patients is no error but a row with a code of `ct_assets.reasons`.
"""


class UsageError(Exception):
    """Wrong usage, configuration or input folder: one line that names file, value and mend (exit code 2)."""


class SafetyError(Exception):
    """A safety check failed, nothing was released (exit code 3)."""

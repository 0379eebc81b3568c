"""Options that commands share.

Belongs here: `--config`, which is in force for the whole process: what loads settings by itself (the partitions of the
graph, processes of steps) sees those that the command was given.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

VARIABLE = "CT_ASSETS_CONFIG"


def _in_force(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(path.absolute())
        context.call_on_close(lambda: _restore(before))
    return path


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = before


Config = Annotated[
    Path | None,
    typer.Option("--config", callback=_in_force, help="Settings file; default: configs/local.yaml."),
]

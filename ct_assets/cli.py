"""The commands: each a few lines over the same functions that the assets call.

Belongs here: options, exit codes, one clear line for an error. Heavy libraries are imported inside the
commands, so that `--help` is quick.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ct_assets.errors import SafetyError, UsageError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)

Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes; default: the cores.")
]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file; default: configs/local.yaml.")]


def main() -> None:
    """Run the command line; end with the exit codes that COMMANDS promise and never with a traceback.

    0 done, 1 unexpected failure, 2 bad usage, configuration or input folder, 3 a safety check failed.
    """
    try:
        app()
    except UsageError as error:
        _end(2, error)
    except SafetyError as error:
        _end(3, error)
    except KeyboardInterrupt:
        _end(130, "stopped")
    except Exception as error:
        if os.environ.get("CT_ASSETS_DEBUG"):
            raise
        # An exception's text may carry a value of a header or a path; its type and place never do.
        place = _innermost(error)
        _end(1, f"unexpected {type(error).__name__} at {place}; set CT_ASSETS_DEBUG=1 for the traceback")


def _innermost(error: BaseException) -> str:
    trace = error.__traceback__
    place = "?"
    while trace is not None:
        code = trace.tb_frame.f_code
        if "ct_assets" in code.co_filename:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _end(code: int, message: object) -> None:
    print(f"ct-assets: {message}", file=sys.stderr)
    sys.exit(code)

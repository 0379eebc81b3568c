"""`ct-assets quarantine`: look at objects that were held back, and decide.

Belongs here: options and lines. What a decision does is in `ct_assets.deid.batch.review`.
"""

from pathlib import Path
from typing import Annotated

import typer

from ct_assets.cli.opened import opened_platform
from ct_assets.cli.options import Config

app = typer.Typer(no_args_is_help=True, help="Look at objects that were held back, and decide.")

HeldName = Annotated[str, typer.Argument(metavar="NAME", help="The object, as `list` names it.")]
HeldIn = Annotated[
    Path | None, typer.Option("--output", help="Output folder of `ct-assets deid`; default: the platform.")
]
Who = Annotated[str | None, typer.Option(help="Who decides; default: the name you are logged in with.")]
Why = Annotated[str, typer.Option(help="Why, in a few words without any identifier: it goes into the audit.")]


@app.command("list")
def quarantine_list(output: HeldIn = None, config: Config = None) -> None:
    """List what is held back, with its reasons and what was decided."""
    from ct_assets.deid.batch import review

    with opened_platform(config, "quarantine/*", "audits/*") as settings:
        print("\n".join(review.listing(settings, output)))


@app.command("show")
def quarantine_show(name: HeldName, output: HeldIn = None, config: Config = None) -> None:
    """Tell why an object is held, and put its pictures where only you can look at them."""
    from ct_assets.deid.batch import review

    with opened_platform(config, "quarantine/*", "audits/*") as settings:
        print("\n".join(review.show(review.find(review.places(settings, output), name))))


@app.command("release")
def quarantine_release(
    name: HeldName, why: Why, who: Who = None, output: HeldIn = None, config: Config = None
) -> None:
    """Release an object that you have looked at; it goes through engine and leak scan with the next run."""
    from ct_assets.deid.batch import review

    with opened_platform(config, "quarantine/*", "audits/*") as settings:
        print(review.decide_by_name(settings, output, name, "release", who=who, why=why))


@app.command("reject")
def quarantine_reject(
    name: HeldName, why: Why, who: Who = None, output: HeldIn = None, config: Config = None
) -> None:
    """Reject an object that you have looked at; with the next run it leaves the quarantine."""
    from ct_assets.deid.batch import review

    with opened_platform(config, "quarantine/*", "audits/*") as settings:
        print(review.decide_by_name(settings, output, name, "reject", who=who, why=why))

"""The commands of keeping and forgetting: withdraw, gc, backup, restore, upgrade, storage.

Belongs here: their options, a few lines each, as in `ct_assets.cli`, which takes them in.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ct_assets.cli.options import Config
from ct_assets.errors import UsageError

app = typer.Typer()

Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes; default: the cores.")
]


@app.command()
def withdraw(
    patient: Annotated[
        str | None,
        typer.Argument(
            help="PatientID or pseudonym; better left out: it is then asked for, or read from stdin."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this only what is there is told.")
    ] = False,
    in_advance: Annotated[
        bool, typer.Option("--in-advance", help="Also refuse a PatientID of whom nothing is here yet.")
    ] = False,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Finish a withdrawal that was broken off.")
    ] = False,
    config: Config = None,
    workers: Workers = None,
) -> None:
    """Take a person who withdrew consent out of everything, exactly; a tombstone without identity remains."""
    from ct_assets.defs.operations.withdrawal import withdraw as withdraw_from_platform
    from ct_assets.parallel import default_workers
    from ct_assets.settings import load_settings
    from ct_assets.storage import session

    settings = load_settings(config)
    named = None if go_on else patient or _asked("PatientID or pseudonym of the person who withdrew: ")
    with session.opened(settings, ("*",), publish=yes or go_on):
        withdraw_from_platform(
            settings, named, yes=yes, workers=workers or default_workers(), in_advance=in_advance
        )
    if settings.storage.url is not None and (yes or go_on):
        print(session.sweep(settings, older_than_hours=0))


@app.command()
def gc(
    yes: Annotated[
        bool, typer.Option("--yes", help="Free it; without this only what may go is told.")
    ] = False,
    config: Config = None,
    workers: Workers = None,
) -> None:
    """Free what nothing needs: volumes no table names, left-overs, and originals whose set time is over."""
    from ct_assets.lifecycle.gc import collect
    from ct_assets.lifecycle.schema import hold
    from ct_assets.lifecycle.unfinished import refuse_unfinished
    from ct_assets.parallel import default_workers
    from ct_assets.settings import load_settings
    from ct_assets.storage import session

    settings = load_settings(config)
    with session.opened(settings, ("*",), publish=yes):
        hold(settings.layout)
        refuse_unfinished(settings.layout)
        if yes:
            from ct_assets.defs.operations.withdrawal import refuse_while_running

            refuse_while_running(settings)
        found = collect(settings, remove=yes, workers=workers or default_workers())
    print("\n".join(one.line for one in found) or "nothing to free")
    if found:
        total = sum(one.bytes for one in found) / 1e6
        print(f"{total:.1f} MB freed" if yes else f"{total:.1f} MB in all; repeat with --yes to free them")


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The file to write, outside the data root.")],
    config: Config = None,
) -> None:
    """Write the whole platform into one file, databases as of one moment, every digest in it."""
    from ct_assets.defs.operations.backup import back_up
    from ct_assets.settings import load_settings
    from ct_assets.storage import session

    settings = load_settings(config)
    with session.opened(settings, ("*",)):
        back_up(settings, target)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A file that `ct-assets backup` wrote.")],
    tombstones: Annotated[
        Path | None,
        typer.Option(
            help="tombstones.jsonl of the platform that was left: these people are taken out again."
        ),
    ] = None,
    config: Config = None,
    workers: Workers = None,
) -> None:
    """Put a backup in the place of an empty data root, every file held against its digest."""
    from ct_assets.defs.operations.backup import restore as restore_platform
    from ct_assets.parallel import default_workers
    from ct_assets.settings import load_settings

    restore_platform(load_settings(config), source, tombstones, workers or default_workers())


@app.command()
def upgrade(config: Config = None) -> None:
    """Bring a platform that an earlier version wrote to the form of this one; make a backup first."""
    from ct_assets.defs.operations.backup import upgrade as upgrade_platform
    from ct_assets.settings import load_settings
    from ct_assets.storage import session

    settings = load_settings(config)
    with session.opened(settings, ("*",)):
        upgrade_platform(settings)


storage = typer.Typer(no_args_is_help=True, help="A data root in an object store, and this machine's copy.")
app.add_typer(storage, name="storage")


@storage.command("sync")
def storage_sync(config: Config = None) -> None:
    """Fetch all of the data root to this machine, and publish what changed here."""
    from ct_assets.settings import load_settings
    from ct_assets.storage import session

    print(session.everything(load_settings(config)))


@storage.command("free")
def storage_free(config: Config = None) -> None:
    """Remove from this machine what is safe in the store; it is fetched again when it is needed."""
    from ct_assets.settings import load_settings
    from ct_assets.storage import session

    print(session.free(load_settings(config)))


@storage.command("sweep")
def storage_sweep(
    older_than_hours: Annotated[
        float, typer.Option(min=0, help="Younger objects may belong to a machine that is just publishing.")
    ] = 24,
    config: Config = None,
) -> None:
    """Remove from the store what the newest generation no longer names."""
    from ct_assets.settings import load_settings
    from ct_assets.storage import session

    print(session.sweep(load_settings(config), older_than_hours=older_than_hours))


def _asked(question: str) -> str:
    """Ask at the terminal without showing the answer, or read one line of stdin: neither enters a history."""
    import getpass

    answer = getpass.getpass(question) if sys.stdin.isatty() else sys.stdin.readline()
    if not answer.strip():
        raise UsageError("nobody was named")
    return answer.strip()

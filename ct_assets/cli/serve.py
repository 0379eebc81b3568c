"""`ct-assets serve`: the HTTP API and its pages, and the keys of its callers."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct_assets.cli.options import Config

if TYPE_CHECKING:
    from ct_assets.serving.keys import Keys

app = typer.Typer(invoke_without_command=True, help="Serve the HTTP API and its pages (loopback by default).")
keys = typer.Typer(no_args_is_help=True, help="Keys of programs that call the API.")
app.add_typer(keys, name="keys")

Days = Annotated[float, typer.Option(min=0.001, max=3650, help="Days until the key expires.")]


@app.callback()
def serve(
    context: typer.Context,
    config: Config = None,
    port: Annotated[
        int | None, typer.Option(min=1024, max=65535, help="Port; default: serving.port, 3310.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    without_tls: Annotated[
        bool, typer.Option("--without-tls", help="Yes, an address that others reach, and no proxy with TLS.")
    ] = False,
) -> None:
    """Serve the HTTP API and its pages until stopped; loopback by default."""
    if context.invoked_subcommand is not None:
        return
    from ct_assets.defs.operations.service import is_loopback, refuse_taken
    from ct_assets.defs.operations.serving_runs import open_runs
    from ct_assets.errors import UsageError
    from ct_assets.lifecycle.schema import refuse_other
    from ct_assets.serving.server import serve as run_server
    from ct_assets.settings import load_settings

    settings = load_settings(config)
    if not is_loopback(host) and not without_tls:
        raise UsageError(
            f"--host {host} can be reached from elsewhere, and keys would travel unencrypted: stay on 127.0.0.1 and put "
            "the proxy of deploy/nginx in front; or say --without-tls as well"
        )
    refuse_other(settings.layout)
    listening = port or settings.serving.port
    refuse_taken(host, listening)
    with open_runs(settings) as runs:
        run_server(settings, config, host=host, port=listening, runs=runs)
    sys.stderr.flush()
    os._exit(0)  # everything is closed; to take hundreds of modules apart costs seconds on a busy machine


@keys.command("new")
def keys_new(
    role: Annotated[str, typer.Option(help="viewer, operator or admin.")],
    name: Annotated[str, typer.Option(help="What uses it: a word of your own.")] = "unnamed",
    days: Days = 90,
    config: Config = None,
) -> None:
    """Make a key and show it this once."""
    from ct_assets.serving.keys import role_named

    with _opened(config) as ring:
        key_id, key = ring.make(name, role_named(role), days)
    print(f"{key}\n{key_id}: role {role}, {days:g} days; it is not shown again")


@keys.command("list")
def keys_list(config: Config = None) -> None:
    """List the keys with role and expiry; never a key itself."""
    with _opened(config) as ring:
        for row in ring.listing():
            until = datetime.fromtimestamp(row["expires_at"], UTC).isoformat(timespec="minutes")
            state = "revoked" if row["revoked_at"] is not None else f"until {until}"
            print(f"{row['key_id']}  {row['role']:8}  {state}  {row['name']}")


@keys.command("rotate")
def keys_rotate(key_id: str, days: Days = 90, config: Config = None) -> None:
    """Make a key in the place of another, which ends a day later."""
    with _opened(config) as ring:
        new_id, key = ring.rotate(key_id, days)
    print(f"{key}\n{new_id}: takes the place of {key_id}, which ends within a day; it is not shown again")


@keys.command("revoke")
def keys_revoke(key_id: str, config: Config = None) -> None:
    """End a key now."""
    with _opened(config) as ring:
        ring.revoke(key_id)
    print(f"{key_id}: revoked")


@contextmanager
def _opened(config: Path | None) -> "Iterator[Keys]":
    from ct_assets.lifecycle.schema import hold
    from ct_assets.serving.keys import Keys
    from ct_assets.serving.store import open_store
    from ct_assets.settings import load_settings

    settings = load_settings(config)
    hold(settings.layout)
    store = open_store(settings)
    try:
        yield Keys(store, settings.layout.serving)
    finally:
        store.close()

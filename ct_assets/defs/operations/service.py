"""`ct-assets service ROLE`: one process of a platform that runs as a service, in the foreground.

Belongs here: the roles, their command lines and environment, and which addresses they may listen on. What
keeps them alive is the machine's business (systemd, Kubernetes; see `deploy/`); `defs.operations.ui` is for one person
at one machine.
"""

import ipaddress
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from ct_assets import progress
from ct_assets.defs.engine.instance import LOCATION, WORKSPACE_FILE, prepare_home
from ct_assets.errors import UsageError
from ct_assets.progress import JSON_LINES
from ct_assets.settings import Settings
from ct_assets.settings.load import PROJECT_ROOT, default_config

Role = Literal["code", "daemon", "operate", "view"]
ROLES: tuple[Role, ...] = get_args(Role)
PREFIXES = {"operate": "/operate", "view": ""}
"""Where each webserver stands below the proxy's address."""
PORTS = {"operate": 3301, "view": 3302}
LOOPBACK = "127.0.0.1"
STATEMENT_TIMEOUT_MS = 60_000
CODE_SERVER_PATIENCE_S = 300.0
SECONDS_BETWEEN_KNOCKS = 0.5


def refuse_public(host: str, *, without_login: bool) -> None:
    """Refuse an address that others can reach, unless it is said a second time.

    Dagster's webserver asks nobody for a password, takes mutations from any page that a browser has open,
    and starts code; its code server runs what it is sent.
    """
    if is_loopback(host) or without_login:
        return
    raise UsageError(
        f"--host {host} can be reached from elsewhere, and nobody would be asked for a password: stay on "
        f"{LOOPBACK} and put the proxy of deploy/nginx in front; or say --without-login as well"
    )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def command(settings: Settings, role: Role, home: Path, *, host: str, port: int | None) -> list[str]:
    """Return the command line of one role; `port` None takes the role's own."""
    log_format = ["--log-format", "json"] if settings.service.logs == "json" else []
    workspace = ["--workspace", str(home / WORKSPACE_FILE)]
    if role == "code":
        server = settings.service.code_server
        return [
            *("dagster", "code-server", "start", "--module-name", "ct_assets.definitions"),
            *("--location-name", LOCATION, "--host", host, "--port", str(port or server.port)),
            *("--working-directory", str(PROJECT_ROOT), "--use-python-environment-entry-point"),
            *log_format,
        ]
    if role == "daemon":
        return ["dagster._daemon", "run", *workspace, *log_format]
    prefix = ["--path-prefix", PREFIXES[role]] if PREFIXES[role] else []
    read_only = ["--read-only"] if role == "view" else []
    return [
        *("ct_assets.defs.operations.webserver", "--host", host, "--port", str(port or PORTS[role])),
        *("--db-statement-timeout", str(STATEMENT_TIMEOUT_MS)),
        *workspace,
        *prefix,
        *read_only,
        *log_format,
    ]


def environment(
    settings: Settings, config: Path | None, home: Path, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of the platform's processes; their children inherit it."""
    made = {**environ, "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"}
    made["CT_ASSETS_CONFIG"] = str((config or default_config(environ)).resolve())
    if "CT_ASSETS_DATA" in environ:  # they work from another folder: paths are made absolute
        made["CT_ASSETS_DATA"] = str(settings.data_root)
    if "CT_ASSETS_LABELS" in environ and settings.labels.csv is not None:
        made["CT_ASSETS_LABELS"] = str(settings.labels.csv)
    if settings.service.database is not None:
        made["CT_ASSETS_DATABASE"] = settings.service.database
    if settings.service.logs == "json":
        made[JSON_LINES] = "json"
    return made


def run_role(
    settings: Settings,
    config: Path | None,
    role: Role,
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    without_login: bool = False,
) -> None:
    """Become the process of `role`; returns never. Raises `UsageError` for what would not work."""
    refuse_public(host, without_login=without_login)
    if role in ("code", "daemon"):
        from ct_assets.defs.engine.platform import Platform

        _ = Platform(settings).key  # a missing or foreign key is told here, not in the first run
    home = prepare_home(settings)
    arguments = command(settings, role, home, host=host, port=port)
    if "--port" in arguments:
        refuse_taken(host, int(arguments[arguments.index("--port") + 1]))
    if role != "code":
        server = settings.service.code_server
        wait_for_code_server(server.host, server.port)
    progress.say(f"{role}: {' '.join(arguments)}")
    sys.stderr.flush()
    os.chdir(PROJECT_ROOT)
    os.execve(
        sys.executable, [sys.executable, "-m", *arguments], environment(settings, config, home, os.environ)
    )


def wait_for_code_server(host: str, port: int, patience_s: float = CODE_SERVER_PATIENCE_S) -> None:
    """Return once the code server listens: who begins without it keeps a failed load until it is restarted.

    Raises `UsageError` after `patience_s`; whatever keeps the process alive then begins it anew.
    """
    deadline, told = time.monotonic() + patience_s, False
    while not _answers(host, port):
        if time.monotonic() > deadline:
            raise UsageError(
                f"no code server answers at {host}:{port} (service.code_server): start `ct-assets service code`"
            )
        if not told:
            progress.say(f"waiting for the code server at {host}:{port}")
            told = True
        time.sleep(SECONDS_BETWEEN_KNOCKS)


def refuse_taken(host: str, port: int) -> None:
    """Refuse a port that somebody answers on: two code servers would share it, and each get half the calls."""
    if _answers(LOOPBACK if host == "0.0.0.0" else host, port):
        raise UsageError(f"port {port} of {host} is taken: another process answers there")


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True

"""`ct-assets ui`: the Dagster webserver and daemon of one platform, on loopback by default, until stopped.

Belongs here: the two processes and their environment. The instance is prepared in `defs.engine.instance`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ct_assets import progress
from ct_assets.defs.engine.instance import prepare_home
from ct_assets.defs.operations.service import LOOPBACK, environment, refuse_public
from ct_assets.errors import UsageError
from ct_assets.settings import Settings
from ct_assets.settings.load import PROJECT_ROOT

SECONDS_TO_END = 20


def serve(
    settings: Settings, config: Path | None, port: int, host: str = LOOPBACK, *, without_login: bool = False
) -> None:
    """Run webserver and daemon until interrupted or until one of them ends; end both together.

    Raises `UsageError` when one of them ends by itself (a port in use, say), and for an address that others
    can reach unless it is said twice.
    """
    from ct_assets.defs.engine.platform import Platform

    refuse_public(host, without_login=without_login)
    platform = Platform(settings)
    _ = platform.key  # a missing or foreign key is told here, not in the first run
    home = prepare_home(settings)
    environ = environment(settings, config, home, os.environ)
    workspace = str(PROJECT_ROOT / "workspace.yaml")
    log_format = ["--log-format", "json"] if settings.service.logs == "json" else []
    commands = {
        "webserver": [
            "ct_assets.defs.operations.webserver",
            "--host",
            host,
            "--port",
            str(port),
            "--workspace",
            workspace,
            *log_format,
        ],
        "daemon": ["dagster._daemon", "run", "--workspace", workspace, *log_format],
    }
    processes = {name: _start(command, environ) for name, command in commands.items()}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    progress.say(f"Dagster on http://{host}:{port}   data root {settings.data_root}   stop with Ctrl-C")
    progress.say(f"MLflow:  mlflow ui --host {LOOPBACK} --backend-store-uri {platform.tracking_uri}")
    try:
        while True:
            for name, process in processes.items():
                if process.poll() is not None:
                    raise UsageError(
                        f"the {name} ended with code {process.returncode}; its lines above say why"
                    )
            time.sleep(0.5)
    except KeyboardInterrupt:
        progress.say("stopping")
    finally:
        _end(list(processes.values()))


def _start(module_and_arguments: list[str], environ: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", *module_and_arguments], env=environ, cwd=PROJECT_ROOT)


def _end(processes: "list[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + SECONDS_TO_END
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""`ct-assets ui`: the Dagster webserver and daemon of one platform, on loopback, until stopped.

Belongs here: the two processes and their environment. The instance is prepared in `defs.instance`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ct_assets import progress
from ct_assets.defs.instance import prepare_home
from ct_assets.errors import UsageError
from ct_assets.settings import Settings
from ct_assets.settings.load import PROJECT_ROOT

LOOPBACK = "127.0.0.1"
SECONDS_TO_END = 20


def serve(settings: Settings, config: Path | None, port: int) -> None:
    """Run webserver and daemon until interrupted or until one of them ends; end both together.

    Raises `UsageError` when one of them ends by itself (a port in use, say).
    """
    from ct_assets.defs.platform import Platform

    platform = Platform(settings)
    _ = platform.key  # a missing or foreign key is told here, not in the first run
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(prepare_home(settings.layout)),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    if config is not None:
        environment["CT_ASSETS_CONFIG"] = str(config.resolve())
    workspace = str(PROJECT_ROOT / "workspace.yaml")
    commands = {
        "webserver": ["dagster_webserver", "--host", LOOPBACK, "--port", str(port), "--workspace", workspace],
        "daemon": ["dagster._daemon", "run", "--workspace", workspace],
    }
    processes = {name: _start(command, environment) for name, command in commands.items()}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    progress.say(f"Dagster on http://{LOOPBACK}:{port}   data root {settings.data_root}   stop with Ctrl-C")
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


def _start(module_and_arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", *module_and_arguments], env=environment, cwd=PROJECT_ROOT)


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

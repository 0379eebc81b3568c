"""A checkout of the project to run documentation in, with the demo's platform made once for a whole session.

Belongs here: the folder, the environment of its commands, and the demo. The pages' blocks are in `blocks`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock

from ct_assets.settings.load import PROJECT_ROOT

PARTS = ("ct_assets", "configs", "deploy", "docs", "scripts", "README.md", "Makefile", "pyproject.toml", "dagster.yaml",
         "workspace.yaml", "requirements.lock")  # fmt: skip
READY_DEMO = "CT_ASSETS_TEST_DEMO"
"""Environment variable: the platform of a demo that is there already, to be copied instead of making one."""
DEMO_TIMEOUT_S = 3000


@dataclass(frozen=True)
class Sandbox:
    """A checkout whose commands leave everything below it."""

    folder: Path

    @property
    def demo(self) -> Path:
        """The data root of the demo's platform."""
        return self.folder / "data/demo"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a new user's shell: nothing of the project is set, its commands are on the path."""
        clean = {name: value for name, value in os.environ.items() if not _is_ours(name)}
        return clean | {
            "PATH": f"{self.folder / '.venv/bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),  # the checkout's own package, whichever is installed
            "HOME": str(self.folder.parent),
            "COLUMNS": "120",
            "GIT_CEILING_DIRECTORIES": str(self.folder.parent),
        }

    def run(self, command: list[str], timeout_s: float, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout; its lines come back together."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )


def checkout(folder: Path) -> Sandbox:
    """Copy what a clone holds into `folder`, with the environment that runs the tests as its `.venv`."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = PROJECT_ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / part)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    return Sandbox(folder)


def with_demo(session_folder: Path) -> Sandbox:
    """Return the session's checkout in which `ct-assets demo` has run; the first who asks runs it."""
    folder = session_folder / "sandbox"
    with filelock.FileLock(session_folder / "sandbox.lock", timeout=DEMO_TIMEOUT_S):
        if folder.exists():
            return Sandbox(folder)
        made = checkout(folder)
        if ready := os.environ.get(READY_DEMO):
            shutil.copytree(ready, made.demo)
        else:
            done = made.run([".venv/bin/ct-assets", "demo"], DEMO_TIMEOUT_S)
            if done.returncode != 0:
                shutil.rmtree(folder)
                raise AssertionError(f"the demo failed:\n{done.stdout[-4000:]}")
    return Sandbox(folder)


def session_folder(base: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return a folder that all workers of one test session share."""
    return base.parent if "PYTEST_XDIST_WORKER" in environ else base


def _is_ours(name: str) -> bool:
    return name.startswith(("CT_ASSETS_", "DAGSTER_", "MLFLOW_", "PYTEST_")) and name != "CT_ASSETS_DEBUG"

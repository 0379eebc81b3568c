"""The Dagster instance of a platform: its home under the data root, ready before anything uses it.

Belongs here: DAGSTER_HOME and its `dagster.yaml`. What runs in the instance is decided elsewhere.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from ct_assets import files
from ct_assets.layout import Layout
from ct_assets.settings.load import PROJECT_ROOT

INSTANCE_FILE = "dagster.yaml"


def prepare_home(layout: Layout) -> Path:
    """Make `.dagster/` under the data root with this project's `dagster.yaml`, and return it."""
    home = layout.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    wanted = (PROJECT_ROOT / INSTANCE_FILE).read_bytes()
    there = home / INSTANCE_FILE
    if not there.exists() or there.read_bytes() != wanted:
        files.write_bytes(there, wanted)
    return home


@contextmanager
def open_instance(layout: Layout) -> Iterator[dg.DagsterInstance]:
    """Open the platform's instance; `DAGSTER_HOME` points to it inside the block."""
    home = prepare_home(layout)
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before

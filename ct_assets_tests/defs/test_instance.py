"""The instance of a platform that nobody has opened yet."""

import os
import subprocess
import sys
import time

from ct_assets_tests.defs import platforms

OPEN = """
import sys, time
from pathlib import Path
from ct_assets.settings import load_settings
from ct_assets.defs.engine.instance import open_instance

settings = load_settings(Path(sys.argv[1]), environ={})
time.sleep(max(0, float(sys.argv[2]) - time.time()))
with open_instance(settings) as instance:
    print(instance.get_runs_count())
"""


def test_many_processes_may_open_it_at_one_moment(tmp_path):
    """A webserver, a daemon and a command do: without a lock each would make Dagster's tables."""
    config = platforms.write_settings(tmp_path, tmp_path / "labels.csv")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CT_ASSETS_")}
    moment = str(time.time() + 5)  # all have imported Dagster by then
    opened = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(config), moment],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for _ in range(4)
    ]  # fmt: skip
    assert [process.communicate(timeout=120) for process in opened] == [("0\n", "")] * 4

"""What holds for every command: here, that it can be ended however it was started."""

import signal
import subprocess
import sys

import pytest

COMMAND = """
import time
import dagster as dg
from ct_assets.cli import app, main

@app.command()
def work() -> None:
    dg.materialize([made])
    print("between two runs", flush=True)
    time.sleep(120)

@dg.asset
def made() -> None: ...

main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_a_script_put_in_the_background_ends_when_it_is_told_to(number):
    """A shell starts such a command with SIGINT ignored; Dagster hands that on to SIGTERM after its first run."""
    ignoring = f"trap '' INT; exec {sys.executable} -c '{COMMAND}' work"
    with subprocess.Popen(["sh", "-c", ignoring], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"between two runs\n"
        process.send_signal(number)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert b"ct-assets: stopped" in said.splitlines()

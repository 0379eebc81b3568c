"""What holds for every command: here, that it can be ended however it was started."""

import signal
import subprocess
import sys

import pytest

from ct_assets import __version__

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


def ct_assets(arguments, **options):
    script = "from ct_assets.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, **options
    )


def test_the_version_is_said_in_one_line():
    ended = ct_assets(["--version"])
    assert (ended.returncode, ended.stdout) == (0, f"ct-assets {__version__}\n")


def test_h_is_help():
    assert ct_assets(["convert", "-h"]).stdout == ct_assets(["convert", "--help"]).stdout


def test_an_output_folder_below_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "in").mkdir()
    ended = ct_assets(["longitudinal", "toy", str(tmp_path / "file" / "out")], check=False)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in ended.stderr


def test_a_reader_who_has_had_enough_is_no_failure():
    """`ct-assets … | head`: the pipe closes while the command writes."""
    script = (
        "from ct_assets.cli import app, main\n"
        "@app.command()\n"
        "def many() -> None:\n    for number in range(200_000): print(number)\n"
        "main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, "many"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (0, b"")

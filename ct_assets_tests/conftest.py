"""Fixtures that every room's tests share."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples at every run, so that a red run is a fault of the change at hand; HYPOTHESIS_PROFILE=explore
# looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# In the background of a shell script SIGINT is ignored; after a run Dagster gives SIGTERM the same handler, and the
# commands that tests start would inherit that they ignore both.
for number, handler in {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}.items():
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# Nobody's key, data root or server: a user's environment is not the tests'.
USERS_VARIABLES = ("CT_ASSETS_", "MLFLOW_", "DAGSTER_")
for variable in [name for name in os.environ if name.startswith(USERS_VARIABLES)]:
    del os.environ[variable]

TRIED = "tried"
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The shared development data; tests that ask for it are marked `real` and skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared development data is not here")
    return SHARED_DATA


@pytest.fixture
def secret_hex() -> str:
    """A fixed secret key, 64 hex digits."""
    return "00112233445566778899aabbccddeeff" * 2


@pytest.fixture
def tried(record_property):
    """Call with a fault, what came of it, and a figure: a row of the table at the end of the session."""

    def note(fault: str, outcome: str, figure: str = "") -> None:
        record_property(TRIED, [fault, outcome, figure])

    return note


def pytest_terminal_summary(terminalreporter):
    """Print the rows of the tests that passed; they come with the reports, from other processes too."""
    passed = terminalreporter.stats.get("passed", [])
    rows = [row for report in passed for name, row in report.user_properties if name == TRIED]
    if rows:
        terminalreporter.section("tried")
    for row in rows:
        terminalreporter.write_line(f"| {' | '.join(row)} |")

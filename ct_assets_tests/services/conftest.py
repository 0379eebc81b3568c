"""What the service tests share: they are marked, and what was tried is told as a table at the end."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
TRIED = "tried"


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.services)


@pytest.fixture
def tried(record_property):
    """Call with what was done, what came of it, and a figure: a row of the table at the end of the session."""

    def note(fault: str, outcome: str, figure: str = "") -> None:
        record_property(TRIED, [fault, outcome, figure])

    return note


def pytest_terminal_summary(terminalreporter):
    """Print the rows of the tests that passed; they come with the reports, from other processes too."""
    rows = [
        row
        for report in terminalreporter.stats.get("passed", [])
        for name, row in report.user_properties
        if name == TRIED
    ]
    if not rows:
        return
    terminalreporter.section("tried")
    for row in rows:
        terminalreporter.write_line(f"| {' | '.join(row)} |")

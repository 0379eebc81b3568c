"""What the service tests share: they are marked, and what was tried is told as a table at the end."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
TRIED: list[tuple[str, str, str]] = []


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.services)


@pytest.fixture
def tried():
    """Call with what was done, what came of it, and a figure: the table at the end of the session."""

    def note(fault: str, outcome: str, figure: str = "") -> None:
        TRIED.append((fault, outcome, figure))

    return note


def pytest_terminal_summary(terminalreporter):
    if not TRIED:
        return
    terminalreporter.section("tried")
    for fault, outcome, figure in TRIED:
        terminalreporter.write_line(f"| {fault} | {outcome} | {figure} |")

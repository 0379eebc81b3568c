"""The page of any system's report: the figures of its JSON as a table.

Belongs here: laying out. A system that wants more draws a page of its own from the same JSON.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ct_assets import files
from ct_assets.reports.experiment import JSON_NAME, PAGE_NAME, template

ELSEWHERE = {"kind", "system", "title", "experiment", "patients", "examples", "verdicts", "is_forced"}


def write(content: Mapping[str, Any], folder: Path) -> Path:
    """Write the page and its JSON twin into `folder`; return the page's path."""
    files.write_json(folder / JSON_NAME, dict(content))
    shown = {key: value for key, value in content.items() if key not in ELSEWHERE}
    page = template("system.html").render(
        report=content,
        verdicts=content.get("verdicts", ()),
        is_forced=content.get("is_forced", False),
        rows=list(_rows(shown)),
    )
    files.write_text(folder / PAGE_NAME, page)
    return folder / PAGE_NAME


def _rows(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Return nested figures as rows of dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else str(value)

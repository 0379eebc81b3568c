"""`reports/index.html`: every page of the platform, with what it is about and when it was written.

Belongs here: finding the pages and describing each in a line. Does not: their content. The webserver renders it at each
request; commands write it when they end.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

from ct_assets import files
from ct_assets.layout import Layout
from ct_assets.reports.page import template
from ct_assets.reports.summary import result_sentence

NAME = "index.html"
TITLE_BYTES = 4096
"""A page's title stands at its beginning."""
REPORT_NAME = "report.json"
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """A line of the index."""

    address: str
    """Relative to `reports/`."""
    title: str
    about: str
    """The batch, fold or experiment."""
    summary: str
    written_at: str


@dataclass(frozen=True)
class Section:
    """Pages of one kind."""

    title: str
    purpose: str
    entries: list[Entry]

    @property
    def has_results(self) -> bool:
        """Whether any page says a result in a sentence."""
        return any(entry.summary for entry in self.entries)


SECTIONS = (
    ("", "*.html", "Platform", "What is in the platform, and what needs review."),
    ("tests", "*/index.html", "Test reports", "The one evaluation of a final model on the test split."),
    ("experiments", "*/index.html", "Experiments", "Cross-validation: no model saw the patients that it predicts."),
    ("comparisons", "*.html", "Comparisons", "Two experiments on the same patients."),
    ("drift", "*/index.html", "Drift and confounding", "Whether folds, sites and classes differ in their images."),
    ("cases", "index.html", "Cases", "Every case of the cohort in three planes, refused ones first."),
    ("deid", "*.html", "De-identification", "What was released of each batch, what was not, and why."),
)  # fmt: skip
"""Folder, pattern, title and purpose of what is known; other pages stand at the end."""


def sections(layout: Layout) -> list[Section]:
    """Return the pages that exist, by kind."""
    root = layout.reports
    listed: set[Path] = set()
    result = []
    for folder, pattern, title, purpose in SECTIONS:
        pages = [path for path in sorted((root / folder).glob(pattern)) if path != root / NAME]
        listed |= set(pages)
        result.append(Section(title, purpose, [_entry(root, path) for path in pages]))
    listed |= set((root / "cases").glob("case_*.html"))
    others = [path for path in sorted(root.rglob("*.html")) if path not in listed and path != root / NAME]
    result.append(Section("Other pages", "", [_entry(root, path) for path in others]))
    return [section for section in result if section.entries]


def render(layout: Layout) -> str:
    """Return the page."""
    return template("index.html").render(sections=sections(layout))


def write(layout: Layout) -> Path:
    """Write the page and return its path."""
    path = layout.reports / NAME
    files.write_text(path, render(layout))
    return path


def _entry(root: Path, path: Path) -> Entry:
    with path.open("rb") as page:
        head = page.read(TITLE_BYTES).decode(errors="replace")
    found = _TITLE.search(head)
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    about = path.parent.name if path.name == NAME else path.stem
    return Entry(
        path.relative_to(root).as_posix(),
        unescape(found.group(1)).strip() if found else path.stem,
        about,
        _summary(path),
        written.strftime("%Y-%m-%d %H:%M UTC"),
    )


def _summary(path: Path) -> str:
    """Return the result of an experiment's page; of other pages nothing."""
    report = path.with_name(REPORT_NAME)
    if not report.is_file():
        return ""
    content = files.read_json(report)
    return result_sentence(content) if {"kind", "patients", "segmentation"} <= content.keys() else ""

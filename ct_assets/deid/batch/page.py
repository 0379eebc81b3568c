"""The page of a batch for people: what a privacy officer reads.

Belongs here: rendering one self-contained HTML file from counts and released values. It is written before the
leak scan and searched by it. Does not: deciding anything, or showing a picture of what is held back.
"""

from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import polars as pl

from ct_assets import __version__, reasons
from ct_assets.deid.batch import uid_graph
from ct_assets.deid.elements import method, table
from ct_assets.deid.proof import leak_scan
from ct_assets.settings.deid import DeidProfile

SMALL_CELL = 5
"""Cells of fewer patients are marked: the usual threshold of disclosure control."""
MAX_TEXTS, MAX_CELLS = 3000, 500

Cell = tuple[str, str, str, str]
"""Age, sex, site (an opaque mark), study year: as released."""


@dataclass
class PageFacts:
    """What the second pass collects for the page."""

    cells: dict[str, Cell] = field(default_factory=dict)
    """By pseudonym; of several studies the first by year."""
    texts: set[tuple[str, str]] = field(default_factory=set)
    faces: int = 0

    def merge(self, other: "PageFacts") -> None:
        """Take in what another task collected; the order does not matter."""
        for patient, cell in other.cells.items():
            self.cells[patient] = min(self.cells.get(patient, cell), cell, key=lambda one: (one[3], one))
        self.texts |= other.texts
        self.faces += other.faces


def write(
    path: Path, facts: PageFacts, summary: object, uid_map: pl.DataFrame, profile: DeidProfile, batch: str
) -> None:
    """Write the page of one batch; `summary` is its `DeidSummary`, `batch` its opaque name."""
    path.write_text(render(facts, summary, uid_map, profile, batch), encoding="utf-8")


def render(facts: PageFacts, summary: object, uid_map: pl.DataFrame, profile: DeidProfile, batch: str) -> str:
    """Return the page of one batch; without facts, what it says whatever the patients are called."""
    from jinja2 import Environment

    content = table.load().content
    counted = sorted(Counter(facts.cells.values()).items(), key=lambda item: (item[1], item[0]))
    texts = sorted(facts.texts)
    dangling = uid_graph.dangling(uid_map).group_by("uid_type").len().sort("uid_type")
    template = (resources.files("ct_assets.deid") / "data" / "page.html").read_text("utf-8")
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            batch=batch,
            version=__version__,
            summary=summary,
            old_uids=uid_map.height,
            shortest_name=leak_scan.MIN_LETTERS,
            shortest_number=leak_scan.MIN_DIGITS,
            edition=content["edition"],
            options_edition=content["options_edition"],
            table_digest=table.load().digest,
            codes=[(code, method.CODE_MEANINGS[code]) for code in method.codes(profile)],
            site_rules=len(profile.site_rules),
            faces=facts.faces,
            reasons=_reasons(getattr(summary, "reasons", {})),
            cells=[(*cell, count) for cell, count in counted[:MAX_CELLS]],
            more_cells=max(len(counted) - MAX_CELLS, 0),
            small=SMALL_CELL,
            small_patients=sum(count for _, count in counted if count < SMALL_CELL),
            dangling=dangling.rows(),
            texts=texts[:MAX_TEXTS],
            more_texts=max(len(texts) - MAX_TEXTS, 0),
        )
    )


def _reasons(by_code: dict[str, int]) -> list[tuple[int, str, str, str]]:
    return [
        (count, code, reasons.reason(code).meaning, reasons.reason(code).mend)
        for code, count in by_code.items()
    ]

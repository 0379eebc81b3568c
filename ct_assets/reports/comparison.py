"""The page of two experiments compared: `reports/comparisons/<first>--<second>.html`, with its JSON beside it.

Belongs here: laying out what `learning.evaluation.compare` returns. It holds no patient's row.
"""

from pathlib import Path
from typing import Any

from ct_assets import files
from ct_assets.layout import Layout
from ct_assets.reports.page import template

METRIC_TITLES = {
    "dice": "Dice",
    "nsd": "NSD",
    "lesion_f1": "lesion F1",
    "hd95_mm": "HD95, mm",
    "lesions_false": "false lesions a case",
    "is_missed": "share of cases missed",
}
AXIS_WIDTH = 260


def write(content: dict[str, Any], layout: Layout) -> Path:
    """Write the page and its JSON; return the page's path."""
    name = f"{content['first']}--{content['second']}"
    folder = layout.reports / "comparisons"
    files.write_json(folder / f"{name}.json", content)
    rows = [
        {"title": METRIC_TITLES[metric], "bar": _bar(row), **row}
        for metric, row in content["metrics"].items()
    ]
    page = template("comparison.html").render(report=content, rows=rows, up="../", width=AXIS_WIDTH)
    files.write_text(folder / f"{name}.html", page)
    return folder / f"{name}.html"


def _bar(row: dict[str, Any]) -> dict[str, float] | None:
    """Return where interval and difference lie on an axis of the metric's own, 0 in its middle."""
    if row["low"] is None or row["high"] is None:
        return None
    reach = 1.1 * max(abs(row["low"]), abs(row["high"]), 1e-9)

    def place(value: float) -> float:
        return round(AXIS_WIDTH / 2 * (1 + value / reach), 1)

    return {
        "low": place(row["low"]),
        "high": place(row["high"]),
        "value": place(row["difference"]),
        "reach": reach,
    }

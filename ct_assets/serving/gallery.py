"""The gallery: all cases of the cohort with their tables' facts, and the filters over them.

Belongs here: joining the tables and selecting rows by an address's query. Does not: the page's form
(`reports/templates/gallery.html`), opening a case (`serving.viewable`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ct_assets.layout import Layout

SITE_UNKNOWN = "unknown"
SORTS = {"case": "case_id", "Dice": "dice", "volume": "tumour_volume_ml"}
PAGE_CASES = 60


@dataclass(frozen=True)
class Gallery:
    """The cases that a query selects, and what it can choose from."""

    rows: list[dict[str, Any]]
    """A row a case: the columns of `table`."""
    total: int
    matching: int
    page: int
    pages: int
    chosen: dict[str, str]
    options: dict[str, list[str]]
    problems: list[str]
    """What of the query could not be understood."""


def table(layout: Layout, experiment: str | None) -> pl.DataFrame:
    """Return a row a case, refused ones too: facts of the NIfTI cache, the manifest, and one experiment's Dice."""
    if not layout.nifti_digests.exists():
        return pl.DataFrame(schema={"case_id": pl.String})
    rows = pl.read_parquet(layout.nifti_digests).select(
        "case_id", "status", "reasons", "warnings", "tumour_volume_ml",
        spacing_k_mm=pl.col("spacing_mm").list.get(2, null_on_oob=True),
        spacing_i_mm=pl.col("spacing_mm").list.get(0, null_on_oob=True),
    )  # fmt: skip
    about = pl.DataFrame(
        schema={"case_id": pl.String, "stage": pl.String, "site": pl.String, "part": pl.String}
    )
    if layout.cohort_manifest.exists():
        about = pl.read_parquet(layout.cohort_manifest).select(
            "case_id",
            "stage",
            pl.col("site").fill_null(SITE_UNKNOWN),
            part=pl.when(pl.col("split") == "test")
            .then(pl.lit("test"))
            .otherwise(pl.format("fold {}", pl.col("fold"))),
        )
    return (
        rows.join(about, on="case_id", how="left").join(_dice(layout, experiment), on="case_id", how="left")
    ).sort("case_id")


def experiments(layout: Layout) -> list[str]:
    """Return the experiments that have scores."""
    return sorted(path.parent.name for path in (layout.root / "models").glob("*/segmentation_scores.parquet"))


def _dice(layout: Layout, experiment: str | None) -> pl.DataFrame:
    none = pl.DataFrame(schema={"case_id": pl.String, "dice": pl.Float64})
    if experiment is None:
        return none
    scores = pl.read_parquet(layout.experiment(experiment) / "segmentation_scores.parquet")
    return scores.filter(pl.col("model") == "model").select("case_id", "dice")


def select(layout: Layout, query: Mapping[str, str]) -> Gallery:
    """Return the cases that a query selects; a value that is none of the choices selects nothing and is named."""
    scored = experiments(layout)
    asked = query.get("experiment") or (scored[0] if scored else "")
    problems = [] if asked in {*scored, ""} else ["no experiment of this name has scores"]
    rows = table(layout, asked if asked in scored else None)
    if rows.is_empty():
        return Gallery([], 0, 0, 1, 1, {}, {"experiment": scored}, problems)
    codes = {name: _values(rows, name) for name in ("reasons", "warnings")}
    options = {
        "reason": codes["reasons"],
        "warning": ["any", *codes["warnings"]] if codes["warnings"] else [],
        "site": _values(rows, "site"),
        "stage": _values(rows, "stage"),
        "part": _values(rows, "part"),
        "experiment": scored,
        "sort": list(SORTS),
    }
    chosen = {
        name: query.get(name, "") for name in (*options, "thicker", "thinner", "dice_below", "dice_from")
    }
    chosen["experiment"] = asked
    kept = rows
    if chosen["reason"]:
        kept = kept.filter(pl.col("reasons").list.contains(chosen["reason"]))
    if chosen["warning"] == "any":
        kept = kept.filter(pl.col("warnings").list.len() > 0)
    elif chosen["warning"]:
        kept = kept.filter(pl.col("warnings").list.contains(chosen["warning"]))
    for name in ("site", "stage", "part"):
        if chosen[name]:
            kept = kept.filter(pl.col(name) == chosen[name])
    for name, column, is_lower in (
        ("thicker", "spacing_k_mm", True),
        ("thinner", "spacing_k_mm", False),
        ("dice_from", "dice", True),
        ("dice_below", "dice", False),
    ):
        if not chosen[name]:
            continue
        try:
            limit = float(chosen[name])
        except ValueError:
            problems.append(f"{name.replace('_', ' ')} needs a number")
            continue
        kept = kept.filter(pl.col(column) >= limit if is_lower else pl.col(column) < limit)
    kept = kept.sort(SORTS.get(chosen["sort"], "case_id"), "case_id", nulls_last=True)
    pages = max(1, -(-kept.height // PAGE_CASES))
    number = query.get("page", "1")
    page = min(int(number), pages) if number.isdecimal() and len(number) <= len(str(pages)) else 1
    page = max(page, 1)
    shown = kept.slice((page - 1) * PAGE_CASES, PAGE_CASES).to_dicts()
    return Gallery(shown, rows.height, kept.height, page, pages, chosen, options, problems)


def _values(rows: pl.DataFrame, column: str) -> list[str]:
    values = rows[column]
    if values.dtype == pl.List(pl.String):
        values = values.explode()
    return sorted(set(values.drop_nulls()))

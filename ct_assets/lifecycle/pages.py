"""Pages that show people's data: drawn again without one person, or replaced by what can still be said.

Belongs here: the pages that no later run makes again by itself. Pages of cases and drift are only removed:
`ct-assets run` draws them again.
"""

from html import escape
from pathlib import Path

import polars as pl

from ct_assets import files
from ct_assets.layout import Layout
from ct_assets.lifecycle.finder import Finder

KINDS = {"experiments": "cv_report.json", "tests": "test_report.json"}
"""Folder of pages, and the file of the experiment that holds their figures."""


def experiments_with(layout: Layout, finder: Finder) -> list[tuple[str, str]]:
    """Return kind and experiment of every page whose figures hold rows of the person."""
    found = []
    for kind, name in KINDS.items():
        for folder in sorted((layout.reports / kind).glob("*")):
            source = layout.experiment(folder.name) / name
            if source.exists() and finder.has_key(source.read_bytes()):
                found.append((kind, folder.name))
    return found


def draw_again(layout: Layout, kind: str, experiment: str) -> bool:
    """Draw an experiment's page again from what its tables hold now; remove it where that is not possible.

    The figures stay those that were measured; rows, points and pictures of the person are gone.
    """
    from ct_assets.reports import experiment as page

    folder, source = layout.reports / kind / experiment, layout.experiment(experiment)
    try:
        content = files.read_json(source / KINDS[kind])
        left = {row["patient_id"] for row in content["case_scores"]}
        content["withdrawn_patients"] = max(int(content["patients"]) - len(left), 0)
        predictions = _predictions(source, kind)
        scores = pl.DataFrame(content["case_scores"], infer_schema_length=None).with_columns(
            model=pl.lit("model")
        )
        table = source / "segmentation_scores.parquet"
        if kind == "experiments" and table.exists():
            scores = pl.read_parquet(table)
        manifest = pl.read_parquet(layout.cohort_manifest)
        page.write(content, predictions, scores, layout, manifest, folder=folder)
        for path in (source / KINDS[kind], layout.reports / KINDS[kind]):
            if path.exists() and files.read_json(path).get("experiment") == experiment:
                files.write_json(path, content)
    except Exception:
        (folder / page.PAGE_NAME).unlink(missing_ok=True)
    return True


def _predictions(source: Path, kind: str) -> pl.DataFrame:
    if kind == "tests":
        return pl.read_parquet(source / "test_predictions.parquet")
    return pl.concat([pl.read_parquet(path) for path in sorted(source.glob("*/predictions.parquet"))])


def plain_page(batch: str, counted: dict[str, int], patients: int) -> str:
    """Return what can be said of a batch after somebody of it withdrew."""
    rows = "".join(f"<tr><th>{escape(kind)}<td>{count}" for kind, count in counted.items())
    return (
        f"<!doctype html><meta charset=utf-8><title>Batch {escape(batch)}</title>"
        f"<h1>Batch {escape(batch)}</h1><p>Somebody of this batch has withdrawn consent. The page that was here "
        "listed cells and texts of all its patients; it is made anew when the batch is de-identified again.</p>"
        f"<table><tr><th>patients<td>{patients}{rows}</table>"
    )

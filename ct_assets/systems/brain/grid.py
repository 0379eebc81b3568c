"""The grid: named candidates, each cross-validated on the same folds; the best mean wins and is judged anew.

The mean by which a winner was chosen is too good to report (it is the best of several; Varma 2006,
doi:10.1186/1471-2105-7-91), so the winner is cross-validated once more on other folds, and those figures and
that threshold are the ones that count.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from ct_assets import progress
from ct_assets.errors import UsageError
from ct_assets.settings.brain import BrainConfig, RunOptions
from ct_assets.systems.brain import cv, images, train
from ct_assets.systems.brain.cv import CvResult

NESTED_NOTE = (
    "The candidate was chosen by these folds, so its mean here is too good; the figures of the run come from a "
    "fresh cross-validation of the winner on other folds."
)


def sweep(
    training: pl.DataFrame,
    candidates: Mapping[str, BrainConfig],
    options: RunOptions,
    root: Path,
    prepared_dir: Path,
    folder: Path,
    *,
    workers: int,
    tracked: train.Tracked | None = None,
    threads: int | None = None,
) -> pl.DataFrame:
    """Cross-validate every candidate and return `grid_results.csv`, the best first."""
    rows = []
    for number, (name, config) in enumerate(candidates.items(), start=1):
        progress.say(f"candidate {number} of {len(candidates)}: {name}")
        started = time.monotonic()
        prepared = images.prepare(training, root, config, options.out_size, prepared_dir, workers=workers)
        told = None if tracked is None else train.Tracked(**{**vars(tracked), "run": f"candidate {name}"})
        result = cv.run_cv(training, config, options, prepared, folder / name, tracked=told, threads=threads)
        rows.append(row_of(name, config, result, seconds=time.monotonic() - started))
    return ranked(rows)


def row_of(name: str, config: BrainConfig, result: CvResult, *, seconds: float | None) -> dict[str, Any]:
    """Return one candidate's row."""
    return {
        "name": name,
        "mean_metric": result.mean_metric,
        "std_metric": result.std_metric,
        "seconds": None if seconds is None else round(seconds, 1),
        "config": orjson.dumps(
            config.model_dump(mode="json", exclude={"pretrained"}), option=orjson.OPT_SORT_KEYS
        ).decode(),
    }


def ranked(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return candidates, the best mean first; of equals the steadier, then by name."""
    schema = {
        "name": pl.String, "mean_metric": pl.Float64, "std_metric": pl.Float64, "seconds": pl.Float64,
        "config": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row").sort(
        "mean_metric", "std_metric", "name", descending=[True, False, False], nulls_last=True
    )


def winner(results: pl.DataFrame) -> str:
    """Return the name of the best candidate. Raises `UsageError` where none has a figure."""
    if results.is_empty() or results["mean_metric"][0] is None:
        raise UsageError("no candidate has a figure: nothing can be chosen")
    return str(results["name"][0])

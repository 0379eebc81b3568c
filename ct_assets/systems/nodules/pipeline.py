"""Nodule detection on a folder of images and read messages, stage by stage, below the platform's `nodules/`.

Belongs here: where each stage reads and writes. Does not: what it computes. The Dagster assets and the demo call these
functions and nothing else.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files, parallel, progress, tables
from ct_assets.errors import UsageError
from ct_assets.imaging.store import Store
from ct_assets.learning.training import checkpoints
from ct_assets.settings import Settings
from ct_assets.settings.nodules import NoduleConfig
from ct_assets.systems.nodules import bundle, evaluate, folds, lidc_folder, marks, page, scans
from ct_assets.systems.nodules import cross_validation as cv
from ct_assets.systems.nodules.cross_validation import Outcome, Scans
from ct_assets.systems.nodules.decisions import Decisions
from ct_assets.tables.nodules import NoduleTruths, NoduleVolumes

MARKS, DECISIONS = "marks.parquet", "decisions.json"
FINAL = "final"


@dataclass(frozen=True)
class Place:
    """The folders of nodule detection."""

    settings: Settings

    @property
    def home(self) -> Path:
        """`nodules/` below the data root."""
        return self.settings.data_root / "nodules"

    @property
    def images(self) -> Path:
        """The DICOM series."""
        return self.settings.nodules.images or self.home / "raw/images"

    @property
    def messages(self) -> Path:
        """The read messages."""
        return self.settings.nodules.annotations or self.home / "raw/annotations"

    @property
    def annotations(self) -> Path:
        """The tables of `nodules lidc`."""
        return self.home / "annotations"

    @property
    def store(self) -> Path:
        """Volumes."""
        return self.home / "store"

    def model(self, experiment: str, fold: str) -> Path:
        """Return the folder of a training."""
        return self.home / "models" / experiment / fold

    def bundle(self, experiment: str) -> Path:
        """Return the folder of the final model."""
        return self.home / "final" / experiment

    def report(self, experiment: str) -> Path:
        """Return the folder of the report."""
        return self.settings.data_root / "reports/nodules" / experiment


def read_annotations(place: Place, *, workers: int) -> dict[str, int]:
    """Write the tables of marks and nodules; return how many files had which disposition."""
    read = lidc_folder.run(place.messages, place.annotations, place.images, workers=workers)
    counts: dict[str, int] = {}
    for file in read:
        counts[file.disposition] = counts.get(file.disposition, 0) + 1
    return counts


def prepare_volumes(place: Place, *, workers: int) -> pl.DataFrame:
    """Put every series into the store; write and return `NoduleVolumes`."""
    volumes, truths = scans.prepare(
        place.images,
        scans.Annotations.read(place.annotations),
        Store(place.store),
        place.settings.nodules.config.spacing_mm,
        settings=place.settings,
        workers=workers,
    )
    tables.write_table(place.home / "volumes.parquet", volumes, NoduleVolumes)
    tables.write_table(place.home / "truths.parquet", truths, NoduleTruths)
    return volumes


def open_scans(place: Place) -> Scans:
    """Return the scans that are ready, with their findings and the folds of their patients.

    Raises `UsageError` where there are too few patients for the folds.
    """
    volumes = tables.read_table(place.home / "volumes.parquet", NoduleVolumes)
    truths = tables.read_table(place.home / "truths.parquet", NoduleTruths)
    ready = scans.cases(volumes, truths, place.store)
    has_nodules: dict[str, bool] = {}
    for case in ready:
        has_nodules[case.patient] = has_nodules.get(case.patient, False) or len(case.centres_lps) > 0
    try:
        fold_of = folds.assign(has_nodules, place.settings.nodules.folds, place.settings.nodules.config.seed)
    except ValueError as error:
        raise UsageError(f"{place.images}: {error}; add annotated scans or lower nodules.folds") from None
    return Scans(ready, scans.truths_of(truths, [case.scan for case in ready]), fold_of)


def write_baseline(place: Place, *, workers: int) -> None:
    """Mark all scans with the classical detector."""
    found = cv.baseline(open_scans(place), place.settings.nodules.baseline_spacing_mm, workers=workers)
    _write_marks(place.home / "classical.parquet", found)


def run_fold(place: Place, experiment: str, fold: int | None, config: NoduleConfig) -> Outcome:
    """Train a fold (or the final model) and write its decisions and out-of-fold marks beside the weights."""
    folder = place.model(experiment, FINAL if fold is None else str(fold))
    outcome = cv.run(open_scans(place), fold, config, folder)
    files.write_json(folder / DECISIONS, outcome.decisions.model_dump(mode="json"))
    _write_marks(folder / MARKS, outcome.marks)
    return outcome


def _write_marks(path: Path, found: list[marks.Mark]) -> None:
    with files.atomic_path(path) as partial_path:
        cv.table(found).write_parquet(partial_path, compression="zstd")


def run_folds(place: Place, experiment: str, config: NoduleConfig, *, workers: int) -> None:
    """Train all folds and the final model, several at a time; results do not depend on how many."""
    items = [*range(place.settings.nodules.folds), None]
    run = partial(_run_quietly, place, experiment, config)
    with progress.track("folds and final model", len(items)) as advance:
        for _ in parallel.map_ordered(run, items, workers=workers, preload=(__name__,)):
            advance(1)


def _run_quietly(place: Place, experiment: str, config: NoduleConfig, fold: int | None) -> None:
    run_fold(place, experiment, fold, config)


def write_report(place: Place, experiment: str) -> dict[str, Any]:
    """Write the cross-validation's report as text, JSON, page and CSV files for `nodules froc`; return it."""
    opened, folder = open_scans(place), place.report(experiment)
    own = [
        mark
        for fold in range(place.settings.nodules.folds)
        for mark in cv.marks_of(pl.read_parquet(place.model(experiment, str(fold)) / MARKS))
    ]
    classical = cv.marks_of(pl.read_parquet(place.home / "classical.parquet"))
    samples = place.settings.nodules.bootstrap_samples
    report = cv.report(opened, own, classical, samples=samples, seed=place.settings.nodules.config.seed)
    files.write_json(folder / "cv_report.json", report)
    text = [page.verdict(report), "", *(f"{name}\n{evaluate.text(report[name])}\n" for name in page.NAMES)]
    files.write_text(folder / "cv_report.txt", "\n".join(text))
    marks.export(opened.evaluated(opened.cases, own), folder / "csv")
    page.write(folder / "cv_report.html", f"Nodules: cross-validation of {experiment}", report, opened, own)
    return report


def write_bundle(place: Place, experiment: str, config: NoduleConfig) -> bundle.NoduleBundle:
    """Write the bundle of the final model; its decisions are those of its own inner validation."""
    folder = place.model(experiment, FINAL)
    opened = open_scans(place)
    return bundle.build(
        place.bundle(experiment),
        experiment=experiment,
        config=config,
        weights=folder / checkpoints.WEIGHTS_NAME,
        data_digest=files.digest_of(
            [[case.scan, case.centres_lps.tolist(), opened.fold_of[case.patient]] for case in opened.cases]
        ),
        decisions=Decisions.model_validate(files.read_json(folder / DECISIONS)),
        report=files.read_json(place.report(experiment) / "cv_report.json")["network"],
    )

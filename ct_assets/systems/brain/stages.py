"""The stages of brain CT classification on a platform: each reads what the one before wrote, and writes its own.

Belongs here: where things lie under the data root, and one function a stage, which an asset calls. The work
is the same functions that `brain.pipeline` calls one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files, progress, tables
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation.test_access_log import LEDGER_DIR, Readings
from ct_assets.learning.models import registry
from ct_assets.learning.models.bundle_files import BundleRecord
from ct_assets.settings.brain import BrainConfig, BrainSettings, configurations
from ct_assets.systems.brain import (
    bundle,
    cv,
    dataset,
    features,
    final,
    gradcam,
    grid,
    images,
    pages,
    pipeline,
    plots,
    train,
)
from ct_assets.systems.brain import splits as brain_splits
from ct_assets.systems.brain.cv import CvResult
from ct_assets.systems.brain.features import Item
from ct_assets.tables.brain import BrainFeatures, BrainSplit
from ct_assets.tables.cohort import SplitLedger

EXPERIMENT = "brain"


@dataclass(frozen=True)
class Place:
    """Where brain CT classification lies on a platform, and how it is set."""

    root: Path
    """`brain` under the data root."""
    images: Path
    """What paths of slices are relative to."""
    reports: Path
    settings: BrainSettings
    workers: int
    tracking_uri: str

    @property
    def features(self) -> Path:
        """The feature table."""
        return self.root / "features.parquet"

    @property
    def split(self) -> Path:
        """The usable slices with their places."""
        return self.root / "split.parquet"

    @property
    def ledger(self) -> Path:
        """The append-only ledger of groups."""
        return self.root / "splits.parquet"

    @property
    def prepared(self) -> Path:
        """Prepared slices (ephemeral)."""
        return self.root / "prepared"

    def fold(self, configuration: str, fold: int | str) -> Path:
        """One fold's training."""
        return self.root / "models" / configuration / str(fold)

    @property
    def selection(self) -> Path:
        """The winner, its threshold and its figures."""
        return self.root / "selection"

    @property
    def bundle(self) -> Path:
        """The final model."""
        return self.root / "final"

    @property
    def readings(self) -> Path:
        """Where the platform's ledger of test readings lies."""
        return self.root.parent / LEDGER_DIR

    def report(self, name: str) -> Path:
        """A folder of pages."""
        return self.reports / "brain" / name

    def config(self, name: str) -> BrainConfig:
        """Return a configuration by name. Raises `UsageError` for one that the settings do not know."""
        known = configurations(self.settings)
        if name not in known:
            raise UsageError(f"brain: no configuration {name!r}; there are {', '.join(known)}")
        return known[name]

    def tracked(self, configuration: str, run: str) -> train.Tracked:
        """Return where a training is told."""
        folder = self.root / "models" / configuration
        return train.Tracked(self.tracking_uri, f"{EXPERIMENT}-{configuration}", run, folder)


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """What was read of a data set."""

    table: pl.DataFrame
    checks: dict[str, Any]
    structure: dict[str, Any] | None
    """Findings about a folder; null for slices of batches."""


def make_features(place: Place, batch_items: Sequence[Item] | None = None) -> FeatureTable:
    """Read every labelled slice of the folder, or the given ones of batches, and write the table and its quality."""
    settings = place.settings
    structure = None
    if batch_items is None:
        found = dataset.validate_dataset_structure(
            place.images.parent, settings.cts, settings.labels, settings.config.expected_num_dicoms
        )
        structure, batch_items = found.json(), features.folder_items(found)
    table = features.features(
        batch_items,
        place.images,
        group_by=settings.config.group_by,
        skull_percentile=settings.config.skull_percentile,
        workers=place.workers,
    )
    tables.write_table(place.features, table, BrainFeatures)
    made = FeatureTable(table, features.checks(table), structure)
    files.write_json(place.root / "features_checks_summary.json", {**made.checks, "structure": structure})
    return made


def first_look(place: Place) -> Path:
    """Write the page on the data before any training; return its path."""
    table = read_features(place)
    summary = files.read_json(place.root / "features_checks_summary.json")
    return pages.first_look(
        place.report("data") / "index.html",
        table,
        features.checks(table),
        summary["structure"],
        place.images,
        place.settings.config,
        count=place.settings.prep_plot_n,
        seed=place.settings.seed,
    )


def make_splits(place: Place) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Extend the ledger by new patients and write everybody's place; return the slices and what crosses splits."""
    ledger = tables.read_table(place.ledger, SplitLedger) if place.ledger.exists() else None
    placed, extended = brain_splits.assign(read_features(place), place.settings, ledger)
    findings = brain_splits.check_leakage(placed, place.settings.config.group_by)
    tables.write_table(place.ledger, extended, SplitLedger)
    tables.write_table(place.split, placed, BrainSplit)
    return placed, findings


def train_fold(place: Place, configuration: str, fold: int) -> cv.FoldResult:
    """Train and predict one fold of one configuration."""
    config, placed = place.config(configuration), read_split(place)
    return cv.run_fold(
        brain_splits.training_part(placed),
        fold,
        config,
        place.settings,
        _prepared(place, placed, config),
        place.fold(configuration, fold),
        tracked=place.tracked(configuration, f"fold {fold}"),
        threads=place.settings.threads,
    )


def gather(place: Place, configuration: str) -> CvResult:
    """Return what the folds of a configuration say together. Raises `UsageError` where one is missing."""
    training = brain_splits.training_part(read_split(place))
    folds = train.folds_of(training)
    results = [cv.read_fold(place.fold(configuration, fold)) for fold in folds]
    try:
        return cv.gather(results, training["id"].to_list())
    except ValueError:
        raise UsageError(
            f"brain: the folds of {configuration} were trained on other slices than there are now; materialize "
            "them again"
        ) from None


def report_cv(place: Place, configuration: str) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Write thresholds, figures and page of one configuration's cross-validation; return figures, choice, page."""
    result = gather(place, configuration)
    return _write_cv(place, configuration, result, place.config(configuration), None)


def select(place: Place) -> tuple[pl.DataFrame, str, dict[str, Any]]:
    """Choose among the configurations whose folds are all there; return the table, the winner, its choice of threshold.

    With several the winner is cross-validated anew on other folds, whose threshold and figures count; with one
    there was no choice, and its own count. Raises `UsageError` where no configuration is complete.
    """
    training = brain_splits.training_part(read_split(place))
    rows, complete = [], {}
    for name, config in configurations(place.settings).items():
        if all((place.fold(name, f) / cv.FOLD_NAME).exists() for f in train.folds_of(training)):
            complete[name] = gather(place, name)
            rows.append(grid.row_of(name, config, complete[name], seconds=None))
    if not rows:
        raise UsageError("brain: no configuration has all its folds trained yet")
    results = grid.ranked(rows)
    best = grid.winner(results)
    config, result = place.config(best), complete[best]
    if len(rows) > 1:
        progress.say(f"{best} wins; it is cross-validated anew on other folds")
        fresh = brain_splits.redealt(training, place.settings.k_folds, place.settings.seed)
        result = cv.run_cv(
            fresh, config, place.settings, _prepared(place, fresh, config), place.fold(best, "fresh"),
            tracked=place.tracked(best, "fresh cross-validation"), threads=place.settings.threads,
        )  # fmt: skip
    metrics, selection, _ = _write_cv(place, "selected", result, config, results)
    place.selection.mkdir(parents=True, exist_ok=True)
    result.predictions.write_parquet(place.selection / "oof_predictions.parquet")
    results.drop("seconds").write_csv(place.selection / "grid_results.csv")
    files.write_json(
        place.selection / "selection.json",
        {"configuration": best, "config_digest": config.digest, "metrics": metrics, "threshold": selection},
    )
    return results, best, selection


def build_final(place: Place) -> tuple[BundleRecord, str | None]:
    """Train the final model, write its bundle, register it; return bundle and registered name."""
    chosen, config = _chosen(place)
    placed = read_split(place)
    trained = final.train_final(
        placed,
        config,
        place.settings,
        _prepared(place, placed, config),
        place.root / "models" / "final",
        tracked=place.tracked(chosen["configuration"], "final training"),
        threads=place.settings.threads,
    )
    out_of_fold = pl.read_parquet(place.selection / "oof_predictions.parquet")
    made = bundle.build(
        place.bundle,
        config=config,
        options=place.settings,
        weights=trained.result.weights,
        selection=chosen["threshold"],
        study=chosen["metrics"]["study"],
        fitted=final.fit_calibration(out_of_fold),
        metrics=chosen["metrics"],
        training=placed,
        experiment=EXPERIMENT,
    )
    told = chosen["metrics"]["oof"]["intervals"]
    entry = registry.Entry(
        name=place.settings.registered_name,
        digest=made.digest,
        experiment=f"{EXPERIMENT}-{chosen['configuration']}",
        experiment_dir=place.root / "models" / chosen["configuration"],
        manifest_digest=made.manifest_digest,
        figures={f"cv_{name}": one["value"] for name, one in told.items() if one["value"] is not None},
    )
    return made, registry.register(place.bundle, entry, place.tracking_uri)


def read_test(place: Place, *, force: bool = False) -> tuple[dict[str, Any], Path]:
    """Score the test slices once and write figures and page; return both.

    Raises `UsageError` for a second, different reading without `force`.
    """
    chosen, config = _chosen(place)
    made, placed = bundle.load(place.bundle), read_split(place)
    selection = chosen["threshold"]
    reading = pipeline.reading_of(placed, f"{train.SYSTEM}/{EXPERIMENT}", made.digest, selection)
    readings = Readings(place.readings)
    readings.open(reading, force=force)
    prepared = _prepared(place, placed, config)
    predictions = final.score_test(placed, config, made.weights, prepared)
    out_of_fold = pl.read_parquet(place.selection / "oof_predictions.parquet")
    settings = place.settings
    metrics = pipeline.judge_test(
        out_of_fold, predictions, selection, config, settings,
        samples=settings.bootstrap_samples, confidence=settings.confidence,
    )  # fmt: skip
    metrics["is_forced"] = readings.is_forced(reading)
    folder = place.report("test")
    pipeline.write_test(folder, predictions, metrics, final.fit_calibration(out_of_fold))
    chosen_slices = gradcam.worth_a_look(predictions, selection["threshold"])
    gallery = plots.gallery(gradcam.pictures(train.load(config, made.weights), prepared, chosen_slices))
    files.write_bytes(folder / "gradcam_gallery.png", gallery)
    page = pages.one_test(
        folder / "index.html", predictions, metrics, gallery, title="Brain CT: the one test",
        is_forced=metrics["is_forced"],
    )  # fmt: skip
    return metrics, page


def read_features(place: Place) -> pl.DataFrame:
    """Return the feature table. Raises `UsageError` where it was never made."""
    if not place.features.exists():
        raise UsageError("brain: there is no feature table yet; materialize brain_features first")
    return tables.read_table(place.features, BrainFeatures)


def read_split(place: Place) -> pl.DataFrame:
    """Return the placed slices. Raises `UsageError` where they were never placed."""
    if not place.split.exists():
        raise UsageError("brain: slices have no places yet; materialize brain_splits first")
    return tables.read_table(place.split, BrainSplit)


def _chosen(place: Place) -> tuple[dict[str, Any], BrainConfig]:
    path = place.selection / "selection.json"
    if not path.exists():
        raise UsageError("brain: nothing is selected yet; materialize brain_selection first")
    chosen = files.read_json(path)
    config = place.config(chosen["configuration"])
    if config.digest != chosen["config_digest"]:
        raise UsageError(
            f"brain: {chosen['configuration']} is set otherwise now than when it was selected; select again"
        )
    return chosen, config


def _prepared(place: Place, table: pl.DataFrame, config: BrainConfig) -> images.Prepared:
    # All usable slices in one store, whoever asks for which part of it.
    whole = read_split(place)
    assert set(table["id"]) <= set(whole["id"])
    return images.prepare(
        whole, place.images, config, place.settings.out_size, place.prepared, workers=place.workers
    )


def _write_cv(
    place: Place, name: str, result: CvResult, config: BrainConfig, results: pl.DataFrame | None
) -> tuple[dict[str, Any], dict[str, Any], Path]:
    settings = place.settings
    metrics, selection = pipeline.judge(
        result, config, settings, samples=settings.bootstrap_samples, confidence=settings.confidence
    )
    folder = place.report(name)
    pipeline.write_cv(folder, result, metrics, selection, settings)
    page = pages.cross_validation(
        folder / "index.html", result, metrics, selection, title=f"Brain CT, {name}: cross-validation",
        grid_results=results,
    )  # fmt: skip
    return metrics, selection, page

"""Judging an experiment: out of fold for development, and once on the test split.

Belongs here: putting predictions, references, baselines and intervals together, and the ledger of readings
of the test split. Does not: single measures (`metrics_segmentation`, `metrics_stage`), pages (`reports`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ct_assets import files, progress, tables
from ct_assets.errors import UsageError
from ct_assets.imaging import nifti, values
from ct_assets.imaging.volume import Volume
from ct_assets.layout import Layout
from ct_assets.learning.evaluation import baselines, calibration, intervals
from ct_assets.learning.evaluation import metrics_report as judged
from ct_assets.learning.evaluation import segmentation as metrics_segmentation
from ct_assets.learning.evaluation.predict_fold import PREDICTIONS_NAME, predict_cases, scanner_of
from ct_assets.learning.evaluation.test_access_log import Reading, Readings
from ct_assets.learning.experiment import Experiment, manifest_digest
from ct_assets.learning.models import bundle
from ct_assets.settings.training import TrainingConfig
from ct_assets.tables.learning import Predictions, SegmentationScores

CALIBRATION_NAME = "calibration.json"
CV_NAME = "cv_report.json"
TEST_NAME = "test_report.json"
SCORES_NAME = "segmentation_scores.parquet"
THRESHOLD_BASELINE = "threshold_in_lung"
MODEL = "model"


@dataclass(frozen=True)
class CvReport:
    """The report of an experiment over its folds."""

    path: Path
    page: Path
    figures: dict[str, Any]
    """The content of the report's JSON."""

    @property
    def headline(self) -> dict[str, Any]:
        """The few figures that a person wants to see first."""
        return headline(self.figures)


@dataclass(frozen=True)
class TestReport:
    """The report of the one reading of the test split."""

    __test__ = False  # it is no test class

    path: Path
    page: Path
    figures: dict[str, Any]
    """The content of the report's JSON."""

    @property
    def headline(self) -> dict[str, Any]:
        """The few figures that a person wants to see first."""
        return headline(self.figures) | {"is_forced": self.figures["is_forced"]}


def cv_report(
    experiment: Experiment[TrainingConfig],
    *,
    headers: pl.DataFrame | None = None,
    out: Path | None = None,
) -> CvReport:
    """Judge an experiment's out-of-fold predictions; fit calibration and thresholds on them and freeze both.

    `headers` has `case_id` and header columns (`cohort.drift.header_factors`); by default those of the CT
    preprocessing audit, where there is one. Every training patient must be
    predicted exactly once. Writes `cv_report.json` under reports and in the experiment's folder,
    `calibration.json`, the table of scores, and the page. Raises `UsageError` naming patients that lack a
    prediction or have two.
    """
    from ct_assets.reports import experiment as page

    config, layout, manifest, stages = (
        experiment.config, experiment.layout, experiment.manifest, experiment.classes,
    )  # fmt: skip
    headers = _headers_of(layout, manifest) if headers is None else headers
    predictions = out_of_fold(layout, experiment.name, experiment.training)
    scores = score_cases(predictions, manifest, layout, config, MODEL)
    plain = _score_threshold_rule(predictions, manifest, layout, config)
    rows = _with_headers(predictions, headers)
    stage = _stage_of_cv(rows, stages, headers)
    frozen = calibration.Calibration()
    if stage is not None:
        frozen = calibration.fit(stage.models[MODEL], stage.truth, tuple(stages), config.evaluation)
        stage.models["model_calibrated"] = frozen.apply(stage.models[MODEL])
    all_scores = pl.concat([scores, plain])
    content = {
        "kind": "cross_validation",
        **_head(experiment, manifest, predictions),
        **judged.build(all_scores, stage, config.evaluation, seed=config.seed, model=MODEL),
        "calibration": frozen.model_dump(mode="json"),
    }
    folder = experiment.folder
    files.write_json(folder / CALIBRATION_NAME, frozen.model_dump(mode="json"))
    tables.write_table(folder / SCORES_NAME, all_scores, SegmentationScores)
    files.write_json(folder / CV_NAME, content)
    path = out or layout.reports / CV_NAME
    files.write_json(path, content)
    written = page.write(
        content,
        predictions,
        all_scores,
        layout,
        manifest,
        folder=layout.reports / "experiments" / experiment.name,
    )
    return CvReport(path, written, content)


def test_report(
    experiment: Experiment[TrainingConfig],
    *,
    headers: pl.DataFrame | None = None,  # noqa: PT028 - it is no test
    force: bool = False,  # noqa: PT028
    out: Path | None = None,  # noqa: PT028
) -> TestReport:
    """Read the test split once with the experiment's final model, calibration and thresholds as frozen.

    The reading is written into the ledger before any label is opened. The same reading again gives its report
    back; one with another model, other settings or other test patients is a `UsageError` unless `force`, and
    is then marked as forced in the report for ever.
    """
    from ct_assets.reports import experiment as page

    config, layout, manifest, stages = (
        experiment.config, experiment.layout, experiment.manifest, experiment.classes,
    )  # fmt: skip
    headers = _headers_of(layout, manifest) if headers is None else headers
    folder = layout.final_model(experiment.name)
    opened = bundle.load(folder)
    _check_bundle(opened, experiment)
    test = manifest.filter(pl.col("split") == "test").sort("case_id")
    if test.is_empty():
        raise UsageError("the manifest has no test patients: there is nothing to read")
    readings = Readings.of(layout)
    reading = Reading(
        experiment=experiment.name,
        model_digest=opened.digest,
        test_digest=manifest_digest(test),
        settings_digest=config.evaluation.digest,
    )
    path = out or layout.reports / TEST_NAME
    kept = experiment.folder / TEST_NAME
    if readings.has(reading) and kept.exists():
        content = files.read_json(kept)
        files.write_json(path, content)
        progress.say("the test split was read before with this very model and these settings: same report")
        return TestReport(path, layout.reports / "tests" / experiment.name / page.PAGE_NAME, content)
    readings.open(reading, force=force)
    members = bundle.open_members(folder, opened)
    predictions = predict_cases(
        members, test, opened.config, layout, experiment.folder / "test_predictions",
        fold=None, model_sha256=opened.digest,
    )  # fmt: skip
    predictions = _with_headers(predictions, headers)
    tables.write_table(experiment.folder / f"test_{PREDICTIONS_NAME}", predictions, Predictions)
    scores = score_cases(predictions, manifest, layout, config, MODEL)
    plain = _score_threshold_rule(predictions, manifest, layout, config)
    stage = _stage_of_test(predictions, experiment.training, stages, headers, opened.calibration)
    all_scores = pl.concat([scores, plain])
    content = {
        "kind": "test",
        **_head(experiment, test, predictions),
        **judged.build(all_scores, stage, config.evaluation, seed=config.seed, model=MODEL),
        "calibration": opened.calibration.model_dump(mode="json"),
        "model_digest": opened.digest,
        "is_forced": readings.is_forced(reading),
        "readings": readings.count(),
    }
    files.write_json(kept, content)
    files.write_json(path, content)
    written = page.write(
        content, predictions, all_scores, layout, manifest, folder=layout.reports / "tests" / experiment.name
    )
    return TestReport(path, written, content)


def check_report(report: Mapping[str, Any], experiment: Experiment[TrainingConfig]) -> None:
    """Refuse a report over the folds that is not of this experiment under the evaluation settings in force."""
    now = {
        "config_digest": experiment.config.digest,
        "settings_digest": experiment.config.evaluation.digest,
        "manifest_digest": experiment.manifest_digest,
        "stages": list(experiment.classes),
    }
    if differing := sorted(key for key, value in now.items() if report.get(key) != value):
        raise UsageError(
            f"experiment {experiment.name}: its {CV_NAME} was made under others ({', '.join(differing)}); "
            "materialize cv_report again"
        )


def _check_bundle(opened: bundle.Bundle, experiment: Experiment[TrainingConfig]) -> None:
    """Refuse a final model that was not built from this experiment under the evaluation settings in force."""
    differing = [
        what
        for what, value, now in (
            ("training configuration", opened.config_digest, experiment.config.digest),
            ("cohort manifest", opened.manifest_digest, experiment.manifest_digest),
            ("evaluation settings", opened.config.evaluation, experiment.config.evaluation),
            ("classes", opened.stages or experiment.classes, experiment.classes),
        )
        if value != now
    ]
    if differing:
        raise UsageError(
            f"experiment {experiment.name}: its final model was built under another {', '.join(differing)}; "
            "materialize cv_report and final_model again"
        )


def headline(content: dict[str, Any]) -> dict[str, Any]:
    """Return the few figures of a report that a person wants to see first, and its verdicts."""
    shown: dict[str, Any] = {"patients": content["patients"]}
    for group, model, names in (
        ("segmentation", MODEL, ("dice", "nsd", "lesion_miss_rate")),
        ("segmentation", THRESHOLD_BASELINE, ("dice",)),
        ("stage", MODEL, ("auroc_macro", "balanced_accuracy")),
    ):
        figures = content[group].get(model, {}).get("pooled", {})
        for name in names:
            if figures.get(name, {}).get("value") is not None:
                shown[name if model == MODEL else f"{name}_{model}"] = figures[name]["value"]
    return shown | {"verdicts": "\n".join(content["verdicts"])}


def _headers_of(layout: Layout, manifest: pl.DataFrame) -> pl.DataFrame | None:
    """Return the header factors of the manifest's series, where an audit of them is there."""
    from ct_assets.cohort.drift import header_factors

    path = layout.ct_prepro_dir / "series.parquet"
    if not path.exists() or "image_series_id" not in manifest.columns:
        return None
    return header_factors(manifest, pl.read_parquet(path))


def out_of_fold(layout: Layout, experiment: str, training: pl.DataFrame) -> pl.DataFrame:
    """Return the out-of-fold predictions of all folds; every training patient's case exactly once.

    Patients without a fold (sites that came later) are nobody's validation and are not asked for.
    """
    found = sorted(layout.experiment(experiment).glob(f"*/{PREDICTIONS_NAME}"))
    if not found:
        raise UsageError(f"experiment {experiment}: no fold has predictions yet; train and predict its folds")
    predictions = pl.concat([tables.read_table(path, Predictions) for path in found]).sort("case_id")
    twice = sorted(set(predictions.filter(pl.col("case_id").is_duplicated())["case_id"]))
    if twice:
        raise UsageError(f"experiment {experiment}: predicted by two folds: {', '.join(twice[:5])}")
    wanted = set(training.filter(pl.col("fold").is_not_null())["case_id"])
    missing = sorted(wanted - set(predictions["case_id"]))
    unusable = _unusable(layout, missing)
    lacking = sorted(set(missing) - unusable)
    if lacking:
        raise UsageError(
            f"experiment {experiment}: {len(lacking)} training cases have no out-of-fold prediction "
            f"({', '.join(lacking[:5])}); train and predict all folds"
        )
    return predictions.filter(pl.col("case_id").is_in(list(wanted)))


def _unusable(layout: Layout, case_ids: Sequence[str]) -> set[str]:
    """Return which cases have no volumes in any fold: their files cannot be used, which their fold reports."""
    named: set[str] = set()
    paths = sorted(layout.folds.glob("*/volumes.parquet"))
    for path in paths:
        named |= set(pl.read_parquet(path, columns=["case_id"])["case_id"])
    return set(case_ids) - named if paths else set()


def score_cases(
    predictions: pl.DataFrame, manifest: pl.DataFrame, layout: Layout, config: TrainingConfig, model: str
) -> pl.DataFrame:
    """Return `SegmentationScores` of predicted masks against the manifest's, on the image's own grid."""
    references = dict(manifest.select("case_id", "label").iter_rows())
    rows = []
    for case in predictions.iter_rows(named=True):
        reference = references.get(case["case_id"])
        if not reference:
            continue
        truth = values.read_labels(layout.root / reference).volume
        mask = nifti.read(layout.root / case["mask"])
        rows.append(_score_row(case, _drawn(mask), _drawn(truth), truth.grid, config, model))
    return tables.frame(rows, SegmentationScores)


def _score_threshold_rule(
    predictions: pl.DataFrame, manifest: pl.DataFrame, layout: Layout, config: TrainingConfig
) -> pl.DataFrame:
    cases = {row["case_id"]: row for row in manifest.iter_rows(named=True)}
    rows = []
    with progress.track("threshold baseline", predictions.height) as advance:
        for case in predictions.iter_rows(named=True):
            files_of = cases[case["case_id"]]
            if files_of["label"]:
                image = values.read_ct(layout.root / files_of["image"]).volume
                truth = values.read_labels(layout.root / files_of["label"]).volume
                found = baselines.threshold_in_lung(image)
                rows.append(_score_row(case, found, _drawn(truth), truth.grid, config, THRESHOLD_BASELINE))
            advance(1)
    return tables.frame(rows, SegmentationScores)


def _drawn(mask: Volume) -> npt.NDArray[np.bool_]:
    return np.asarray(mask.array, dtype=bool)


def _score_row(
    case: Mapping[str, Any], mask: Any, truth: Any, grid: Any, config: TrainingConfig, model: str
) -> dict[str, Any]:
    measured = metrics_segmentation.score(
        mask, truth, grid, nsd_tolerance_mm=config.evaluation.nsd_tolerance_mm
    )
    about = {name: case[name] for name in ("case_id", "patient_id", "fold", "stage", "site", "scanner")}
    return {"model": model, **about, **measured.row()}


def _with_headers(predictions: pl.DataFrame, headers: pl.DataFrame | None) -> pl.DataFrame:
    """Fill in the scanner from header columns where the manifest does not tell it."""
    if headers is None or "manufacturer" not in headers.columns:
        return predictions
    by_case = {row["case_id"]: scanner_of(row) for row in headers.iter_rows(named=True)}
    scanners = [case["scanner"] or by_case.get(case["case_id"]) for case in predictions.iter_rows(named=True)]
    return predictions.with_columns(pl.Series("scanner", scanners, dtype=pl.String))


def _staged(predictions: pl.DataFrame, stages: Sequence[str]) -> pl.DataFrame:
    """Return the patients with a known stage and a prediction of it, one row each (the first case)."""
    known = predictions.filter(
        pl.col("stage").is_in(list(stages)) & pl.col("stage_probabilities").is_not_null()
    )
    return known.sort("case_id").unique("patient_id", keep="first", maintain_order=True)


def _stage_of_cv(
    predictions: pl.DataFrame, stages: Sequence[str], headers: pl.DataFrame | None
) -> judged.StageData | None:
    rows = _staged(predictions, stages)
    if rows.is_empty():
        return None
    truth = [stages.index(stage) for stage in rows["stage"]]
    folds = [str(fold) for fold in rows["fold"]]
    models = {MODEL: np.array(rows["stage_probabilities"].to_list())}
    # One set of frequencies for all: those of each fold's others would be lowest for the fold's own classes,
    # and their AUROC below 0.5 by construction.
    flat = baselines.prevalence(rows["stage"].to_list(), stages)
    models["prevalence"] = np.tile(flat, (rows.height, 1))
    if headers is not None:
        table = rows.select("case_id").join(headers, on="case_id", how="left", maintain_order="left")
        guessed = baselines.headers_only(table.drop("case_id"), rows["stage"].to_list(), folds, stages)
        if guessed is not None:
            models["headers_only"] = guessed
    return judged.StageData(rows, np.array(truth), models, tuple(stages))


def _stage_of_test(
    predictions: pl.DataFrame,
    training: pl.DataFrame,
    stages: Sequence[str],
    headers: pl.DataFrame | None,
    frozen: calibration.Calibration,
) -> judged.StageData | None:
    rows = _staged(predictions, stages)
    if rows.is_empty():
        return None
    truth = np.array([stages.index(stage) for stage in rows["stage"]])
    raw = np.array(rows["stage_probabilities"].to_list())
    flat = baselines.prevalence(training["stage"].to_list(), stages)
    models = {MODEL: frozen.apply(raw), "prevalence": np.tile(flat, (rows.height, 1))}
    if headers is not None:
        both = pl.concat(
            [
                training.select("case_id", "stage", part=pl.lit("train")),
                rows.select("case_id", "stage", part=pl.lit("test")),
            ]
        )
        table = both.join(headers, on="case_id", how="left", maintain_order="left")
        known = [
            stage if part == "train" else None for stage, part in both.select("stage", "part").iter_rows()
        ]
        guessed = baselines.headers_only(
            table.drop("case_id", "stage", "part"), known, both["part"].to_list(), stages
        )
        if guessed is not None:
            models["headers_only"] = guessed[training.height :]
    return judged.StageData(rows, truth, models, tuple(stages), frozen.operating_points)


def _head(
    experiment: Experiment[TrainingConfig], manifest: pl.DataFrame, predictions: pl.DataFrame
) -> dict[str, Any]:
    config = experiment.config
    return {
        "experiment": experiment.name,
        "config_digest": config.digest,
        "settings_digest": config.evaluation.digest,
        "manifest_digest": manifest_digest(manifest),
        "models": sorted(set(predictions["model_sha256"])),
        "stages": list(experiment.classes),
        "patients": predictions["patient_id"].n_unique(),
        "cases": predictions.height,
        "folds": sorted({fold for fold in predictions["fold"] if fold is not None}),
        "nsd_tolerance_mm": config.evaluation.nsd_tolerance_mm,
        "confidence": config.evaluation.confidence,
        "bootstrap_samples": config.evaluation.bootstrap_samples,
    }


def compare_experiments(
    layout: Layout, first: str, second: str, config: TrainingConfig
) -> dict[str, dict[str, float | int | str | bool | None]]:
    """Compare two experiments by paired differences over the patients that both predicted out of fold.

    Positive differences of `dice`, `nsd` and `lesion_f1` and negative ones of `hd95_mm` are for the first.
    """
    loaded = []
    for name in (first, second):
        path = layout.experiment(name) / SCORES_NAME
        if not path.exists():
            raise UsageError(f"experiment {name}: has no cv_report yet; make it first")
        table = tables.read_table(path, SegmentationScores).filter(pl.col("model") == MODEL)
        loaded.append(table.sort("case_id"))
    shared = loaded[0].join(loaded[1], on="case_id", suffix="_second").sort("case_id")
    settings = config.evaluation
    compared = {}
    for measure in ("dice", "nsd", "hd95_mm", "lesion_f1"):
        compared[measure] = intervals.difference_of_means(
            shared[measure].to_list(),
            shared[f"{measure}_second"].to_list(),
            shared["patient_id"].to_list(),
            confidence=settings.confidence,
        ).json()
    return compared

"""Cross-validation of the nodule network: one training a fold, marks of the held-out scans, one report over their union.

Belongs here: who is in which part of a fold, out-of-fold marks, the report with the baseline beside it. Does not: figures
(`evaluate`), pages (`page`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ct_assets import parallel, progress
from ct_assets.learning.training.tracking import Tracker
from ct_assets.settings.nodules import NoduleConfig
from ct_assets.systems.nodules import evaluate, folds, train, volumes
from ct_assets.systems.nodules.classical import Classical
from ct_assets.systems.nodules.decisions import Decisions, decide
from ct_assets.systems.nodules.detector import Detections, Detector
from ct_assets.systems.nodules.marks import Evaluated, Mark, Truth
from ct_assets.systems.nodules.patches import NoduleCase
from ct_assets.systems.nodules.task import MARK_SCHEMA


@dataclass(frozen=True, eq=False)
class Scans:
    """What an experiment is about."""

    cases: Sequence[NoduleCase]
    truths: Sequence[Truth]
    """Of all cases, excluded findings among them."""
    fold_of: Mapping[str, int]
    """Fold of each patient."""

    def of(self, patients: set[str]) -> list[NoduleCase]:
        """Return the cases of some patients."""
        return [case for case in self.cases if case.patient in patients]

    def evaluated(self, cases: Sequence[NoduleCase], marks: Sequence[Mark]) -> Evaluated:
        """Return marks beside the findings of their scans."""
        names = {case.scan for case in cases}
        return Evaluated(
            [case.scan for case in cases],
            [truth for truth in self.truths if truth.scan in names],
            [mark for mark in marks if mark.scan in names],
            {case.scan: case.patient for case in cases},
        )


@dataclass(frozen=True, eq=False)
class Part:
    """A training, its inner validation, and what is held out."""

    training: list[NoduleCase]
    validation: list[NoduleCase]
    held_out: list[NoduleCase]


def part(scans: Scans, fold: int | None, config: NoduleConfig) -> Part:
    """Return the parts of a fold; without one (the final model) nothing is held out."""
    others = {patient for patient, own in scans.fold_of.items() if own != fold}
    has_nodules = dict.fromkeys(sorted(others), False)
    for case in scans.of(others):
        has_nodules[case.patient] |= len(case.centres_lps) > 0
    inner = folds.inner(has_nodules, config.validation.inner_share, config.seed)
    return Part(
        scans.of(others - inner),
        scans.of(inner),
        scans.of(set(scans.fold_of) - others) if fold is not None else [],
    )


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a fold gave."""

    trained: train.Trained
    decisions: Decisions
    """From the inner validation scans alone."""
    marks: list[Mark]
    """Of the held-out scans."""


def run(
    scans: Scans, fold: int | None, config: NoduleConfig, folder: Path, *, tracker: Tracker | None = None
) -> Outcome:
    """Train a fold (or the final model), decide on its inner validation, and mark its held-out scans."""
    parts = part(scans, fold, config)
    trained = train.train(config, parts.training, parts.validation, folder, tracker=tracker)
    detector = train.open_detector(config, trained.weights)
    inner = [mark for case in parts.validation for mark in _detect(detector, case).marks(case.scan)]
    decided = decide(
        scans.evaluated(parts.validation, inner),
        false_marks_per_scan=config.inference.false_marks_per_scan,
        calibration=config.inference.calibration,
    )
    marks = [mark for case in parts.held_out for mark in _detect(detector, case).marks(case.scan)]
    return Outcome(trained, decided, marks)


def baseline(scans: Scans, spacing_mm: float, *, workers: int = 1) -> list[Mark]:
    """Return the marks of the classical detector on all scans; it learns nothing, so every scan is held out."""
    marks = []
    with progress.track("classical detector", len(scans.cases)) as advance:
        found = parallel.map_ordered(
            partial(_baseline_one, spacing_mm=spacing_mm), scans.cases, workers=workers, preload=(__name__,)
        )
        for own in found:
            marks += own
            advance(1)
    return marks


def _baseline_one(case: NoduleCase, *, spacing_mm: float) -> list[Mark]:
    return _detect(Classical(spacing_mm=spacing_mm), case).marks(case.scan)


def _detect(detector: Detector, case: NoduleCase) -> Detections:
    return detector.detect_prepared(volumes.stored(case.image, case.lungs))


def report(
    scans: Scans, marks: Sequence[Mark], classical: Sequence[Mark], *, samples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Return the report over the union of the held-out scans: the network, the baseline, and their difference."""
    network, yardstick = (scans.evaluated(scans.cases, one) for one in (marks, classical))
    fold_of_scan = {case.scan: scans.fold_of[case.patient] for case in scans.cases}
    return {
        "folds": len(set(scans.fold_of.values())),
        "network": evaluate.evaluate(network, folds=fold_of_scan, samples=samples, seed=seed),
        "classical": evaluate.evaluate(yardstick, samples=samples, seed=seed),
        "comparison": evaluate.compare(network, yardstick, samples=samples, seed=seed),
    }


def table(marks: Sequence[Mark]) -> pl.DataFrame:
    """Return marks as a table."""
    rows = [(one.scan, *one.centre_mm, one.score, one.diameter_mm, one.triage) for one in marks]
    return pl.DataFrame(rows, schema=MARK_SCHEMA, orient="row")


def marks_of(rows: pl.DataFrame) -> list[Mark]:
    """Return the marks of a table."""
    return [
        Mark(scan, (x, y, z), score, diameter, triage)
        for scan, x, y, z, score, diameter, triage in rows.select(list(MARK_SCHEMA)).iter_rows()
    ]


def shuffled(cases: Sequence[NoduleCase], seed: int) -> list[NoduleCase]:
    """Return the cases with the nodules of other scans, put where they lie in those: a control that has nothing to learn.

    Masks go; places beyond a scan's volume come back into it.
    """
    order = np.random.default_rng(seed).permutation(len(cases))
    result = []
    for case, other in zip(cases, (cases[number] for number in order), strict=True):
        share = other.image.grid.index(other.centres_lps) / np.array(other.image.grid.shape[::-1])
        centres = case.image.grid.world(share * np.array(case.image.grid.shape[::-1]))
        result.append(
            NoduleCase(
                case.scan, case.image, centres, other.diameters_mm, None, other.is_urgent,
                patient=case.patient, lungs=case.lungs,
            )
        )  # fmt: skip
    return result

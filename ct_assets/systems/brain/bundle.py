"""The bundle of brain CT classification: what goes into the shared one, and what is read of it.

Belongs here: the decisions of a model of slices, its card, bundles of the format that the system had of its own. Does
not: the folder (`learning.models.bundle_files`), predicting (`brain.predict`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation.calibration import Calibration
from ct_assets.learning.models import bundle_files, card
from ct_assets.learning.models.bundle_files import BundleRecord, MemberFiles
from ct_assets.learning.system import Member
from ct_assets.learning.training.train import environment
from ct_assets.settings.base import Section
from ct_assets.settings.brain import Aggregation, BrainConfig, RunOptions
from ct_assets.systems.brain import splits
from ct_assets.systems.brain.train import CLASSES, SYSTEM

MEMBER = "model"
CONVENTIONS = {
    "input": "axial head CT in Hounsfield units, a slice at a time; skull crop, windows and size as configured",
    "slice": "sigmoid of the logit; positive where it is at least `threshold`",
    "study": "slices pooled as `aggregation` says; positive where it is at least `study_threshold`",
    "calibrated": "the slice's probability after temperature scaling, fitted out of fold",
}


class Decisions(Section):
    """What was frozen out of fold, and the size that slices are prepared in."""

    out_size: int
    threshold: float
    selection: dict[str, Any]
    aggregation: Aggregation
    attention_temperature: float = 1.0
    study_threshold: float
    """That of slices where no study had several."""
    calibration: Calibration


@dataclass(frozen=True)
class BrainModel:
    """An opened bundle."""

    config: BrainConfig
    decisions: Decisions
    weights: Path
    digest: str
    manifest_digest: str
    """The training and test slices with their labels."""


class _Description:
    """What the card of every model says."""

    title = "lesions in slices of head CT"
    intended_use = (
        "Research on head CT: which slices may show a lesion. Not a medical device: no decision about a patient may rest "
        "on it."
    )
    limits = (
        "Trained on one data set; other scanners, kernels, contrast or populations may give other results.",
        "A slice says nothing about the slices that were not exported.",
        "Probabilities and PPV hold for the training data's prevalence of lesions.",
        "Grad-CAM shows where a network looked, not why, and not what is there.",
    )


def build(
    folder: Path,
    *,
    config: BrainConfig,
    options: RunOptions,
    weights: Path,
    selection: Mapping[str, Any],
    study: Mapping[str, Any] | None,
    fitted: Calibration,
    metrics: Mapping[str, Any],
    training: pl.DataFrame,
    experiment: str,
) -> BundleRecord:
    """Write a bundle (replaced whole) and return its record."""
    decisions = Decisions(
        out_size=options.out_size,
        threshold=selection["threshold"],
        selection={key: value for key, value in selection.items() if key != "exact"},
        aggregation=config.aggregation,
        attention_temperature=study["temperature"] if study else 1.0,
        study_threshold=study["threshold"] if study else selection["threshold"],
        calibration=fitted,
    )
    draft = BundleRecord(
        system=SYSTEM,
        experiment=experiment,
        kind="single",
        classes=CLASSES,
        config=config.model_copy(update={"pretrained": None, "pretrained_sha256": None}).model_dump(
            mode="json"
        ),
        config_digest=config.digest,
        manifest_digest=files.digest_of(training.select("id", "label", "test").sort("id").rows()),
        members=(),
        decisions=decisions.model_dump(mode="json"),
        conventions=CONVENTIONS,
        versions=environment(),
    )
    member = Member(MEMBER, weights, files.sha256_file(weights))
    return bundle_files.write(
        folder, draft, (member,), lambda record: _card(record, decisions, metrics, training)
    )


def load(folder: Path) -> BrainModel:
    """Read a bundle of today's format or of the system's own, and verify its files against their digests.

    Raises `UsageError` naming what is wrong.
    """
    record = bundle_files.load(folder, _of_own_format)
    if record.system != SYSTEM:
        raise UsageError(f"{folder / bundle_files.BUNDLE_NAME}: is no bundle of brain CT classification")
    return BrainModel(
        BrainConfig.model_validate(record.config),
        Decisions.model_validate(record.decisions),
        folder / record.members[0].weights,
        record.digest,
        record.manifest_digest,
    )


def _of_own_format(content: dict[str, Any]) -> BundleRecord:
    """Return what a bundle of format 1 says."""
    if content.get("system") != SYSTEM:
        raise UsageError(f"bundle format 1 of {content.get('system', 'another system')}, not of {SYSTEM}")
    shared = set(BundleRecord.model_fields) - {"format", "members", "decisions", "kind", "classes", "uses"}
    return BundleRecord(
        **{name: content[name] for name in shared},
        kind="single",
        classes=CLASSES,
        members=(
            MemberFiles(name=MEMBER, weights=content["weights"], weights_sha256=content["weights_sha256"]),
        ),
        decisions={name: content[name] for name in Decisions.model_fields if name in content},
    )


def _card(
    record: BundleRecord, decisions: Decisions, metrics: Mapping[str, Any], training: pl.DataFrame
) -> str:
    part = splits.training_part(training)
    counts = {label: part.filter(pl.col("label") == label).height for label in (0, 1)}
    oof = metrics["oof"]
    return card.write(
        _Description,
        record,
        data=(
            f"{part.height} training slices of {part['group_id'].n_unique()} patients or studies: {counts[1]} with and "
            f"{counts[0]} without a lesion.",
            f"Windows: {record.config['windows'].replace('_', ' ')}; {decisions.out_size} x {decisions.out_size} pixels.",
        ),
        heading=f"Metrics, out of fold ({100 * oof['confidence']:g} % intervals over patients)",
        metrics=(
            *card.METRICS_HEADER,
            *(
                card.metric_row(name, value)
                for name, value in oof["intervals"].items()
                if value["value"] is not None
            ),
            "",
            f"Threshold {decisions.threshold:g} ({decisions.selection['strategy']}).",
        ),
    )

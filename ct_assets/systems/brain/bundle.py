"""The bundle of brain CT classification: all that predicting needs, in one folder.

Belongs here: what lies in it, writing and reading it, its card. Does not: predicting (`brain.predict`), the
register (`learning.models.registry`).

The folder: `bundle.json` (configuration, thresholds, calibration, digests; `system` says brain),
`model.safetensors`, `card.md`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.evaluation.calibration import Calibration
from ct_assets.learning.models.bundle import BUNDLE_NAME
from ct_assets.learning.training.train import environment
from ct_assets.settings.base import Section
from ct_assets.settings.brain import Aggregation, BrainConfig, RunOptions
from ct_assets.systems.brain import splits

FORMAT = 1
SYSTEM = "brain"
WEIGHTS = "model.safetensors"
CARD_NAME = "card.md"
CONVENTIONS = {
    "input": "axial head CT in Hounsfield units, a slice at a time; skull crop, windows and size as configured",
    "slice": "sigmoid of the logit; positive where it is at least `threshold`",
    "study": "slices pooled as `aggregation` says; positive where it is at least `study_threshold`",
    "calibrated": "the slice's probability after temperature scaling, fitted out of fold",
}
INTENDED_USE = (
    "Research on head CT: which slices may show a lesion. Not a medical device: no decision about a patient may rest "
    "on it."
)
LIMITS = (
    "Trained on one data set; other scanners, kernels, contrast or populations may give other results.",
    "A slice says nothing about the slices that were not exported.",
    "Probabilities and PPV hold for the training data's prevalence of lesions.",
    "Grad-CAM shows where a network looked, not why, and not what is there.",
)


class BrainBundle(Section):
    """What `bundle.json` says."""

    format: int = FORMAT
    system: Literal["brain"] = "brain"
    experiment: str
    config: BrainConfig
    config_digest: str
    out_size: int
    weights: str = WEIGHTS
    weights_sha256: str
    manifest_digest: str
    """The training and test slices with their labels."""
    threshold: float
    selection: dict[str, Any]
    aggregation: Aggregation
    attention_temperature: float = 1.0
    study_threshold: float
    """That of slices where no study had several."""
    calibration: Calibration
    conventions: dict[str, str]
    versions: dict[str, str]
    digest: str = ""

    def content_digest(self) -> str:
        """Return the digest of everything but the digest itself."""
        content = self.model_dump(mode="json")
        content.pop("digest")
        return files.digest_of(content)


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
) -> BrainBundle:
    """Write a bundle (replaced whole) and return what it says."""
    plain = BrainBundle(
        experiment=experiment,
        config=config.model_copy(update={"pretrained": None, "pretrained_sha256": None}),
        config_digest=config.digest,
        out_size=options.out_size,
        weights_sha256=files.sha256_file(weights),
        manifest_digest=files.digest_of(training.select("id", "label", "test").sort("id").rows()),
        threshold=selection["threshold"],
        selection={key: value for key, value in selection.items() if key != "exact"},
        aggregation=config.aggregation,
        attention_temperature=study["temperature"] if study else 1.0,
        study_threshold=study["threshold"] if study else selection["threshold"],
        calibration=fitted,
        conventions=CONVENTIONS,
        versions=environment(),
    )
    made = plain.model_copy(update={"digest": plain.content_digest()})

    def fill(partial: Path) -> None:
        files.write_bytes(partial / WEIGHTS, weights.read_bytes())
        files.write_text(partial / CARD_NAME, card(made, metrics, training))
        files.write_json(partial / BUNDLE_NAME, made.model_dump(mode="json"))

    files.replace_directory(folder, fill)
    return made


def load(folder: Path) -> BrainBundle:
    """Read a bundle and hold its files against their digests. Raises `UsageError` naming what is wrong."""
    path = folder / BUNDLE_NAME
    if not path.exists():
        raise UsageError(f"{folder}: no {BUNDLE_NAME} in it; give the folder of a final model")
    content = files.read_json(path)
    if content.get("system") != SYSTEM or content.get("format") != FORMAT:
        raise UsageError(f"{path}: is no bundle of brain CT classification that this program reads")
    bundle = BrainBundle.model_validate(content)
    # Of what the file holds: fields that later versions add have no place in the digest of an older bundle.
    if bundle.digest != files.digest_of({key: value for key, value in content.items() if key != "digest"}):
        raise UsageError(f"{path}: was changed after it was made: its digest does not match")
    weights = folder / bundle.weights
    if not weights.exists() or files.sha256_file(weights) != bundle.weights_sha256:
        raise UsageError(f"{weights}: is missing or not what the bundle was made with (SHA-256)")
    return bundle


def card(bundle: BrainBundle, metrics: Mapping[str, Any], training: pl.DataFrame) -> str:
    """Return the model card as Markdown (Mitchell 2019, doi:10.1145/3287560.3287596)."""
    part = splits.training_part(training)
    counts = {label: part.filter(pl.col("label") == label).height for label in (0, 1)}
    oof = metrics["oof"]
    lines = [
        f"# {bundle.experiment}: lesions in slices of head CT",
        "",
        f"ResNet18, bundle {bundle.digest[:12]}, configuration {bundle.config_digest[:12]}, data "
        f"{bundle.manifest_digest[:12]}.",
        "",
        "## Intended use",
        INTENDED_USE,
        "",
        "## Data",
        f"{part.height} training slices of {part['group_id'].n_unique()} patients or studies: {counts[1]} with and "
        f"{counts[0]} without a lesion.",
        f"Windows: {bundle.config.windows.replace('_', ' ')}; {bundle.out_size} x {bundle.out_size} pixels.",
        "",
        f"## Figures, out of fold ({100 * oof['confidence']:g} % intervals over patients)",
        "| figure | value | interval |",
        "|---|---|---|",
        *(_row(name, told) for name, told in oof["intervals"].items() if told["value"] is not None),
        "",
        f"Threshold {bundle.threshold:g} ({bundle.selection['strategy']}).",
        "",
        "## Limits",
        *(f"- {limit}" for limit in LIMITS),
        "",
        "## Input and output",
        *(f"- {name}: {text}" for name, text in bundle.conventions.items()),
        "",
    ]
    return "\n".join(lines)


def _row(name: str, told: Mapping[str, Any]) -> str:
    shown = "–" if told["low"] is None else f"{told['low']:.3f} to {told['high']:.3f}"
    return f"| {name.replace('_', ' ')} | {told['value']:.3f} | {shown} |"

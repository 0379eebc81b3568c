"""The bundle of nodule detection: all that predicting needs, in one folder.

Belongs here: what lies in it, writing and reading it, its card. Does not: predicting (`predict`), the register
(`learning.models.registry`).

The folder: `bundle.json` (configuration, decisions, digests; `system` says nodules), `model.safetensors`, `card.md`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.models.bundle import BUNDLE_NAME
from ct_assets.learning.training.train import environment
from ct_assets.settings.base import Section
from ct_assets.settings.nodules import NoduleConfig
from ct_assets.systems.nodules.decisions import Decisions

FORMAT = 1
SYSTEM = "nodules"
WEIGHTS = "model.safetensors"
CARD_NAME = "card.md"
CONVENTIONS = {
    "input": "chest CT in Hounsfield units, any grid; cut to the lungs, isotropic voxels as configured",
    "confidence": "the height of a peak of the centre map, calibrated on the inner validation scans",
    "findings": "those whose uncalibrated score reaches `decisions.threshold`, at the lungs, of 3 to 40 mm",
    "triage": "probability of a triage score of 7 or more; this project's own scale, not Lung-RADS",
    "coordinates": "DICOM patient coordinates (LPS) in millimetres",
}
INTENDED_USE = (
    "Research on chest CT: where nodules may lie. Not a medical device: no decision about a patient may rest on "
    "it."
)
LIMITS = (
    "Trained on one data set; other scanners, kernels, contrast or populations may give other results.",
    "Nodules can be missed; an empty list does not exclude a nodule.",
    "Lobes are not determined.",
)


class NoduleBundle(Section):
    """What `bundle.json` says."""

    format: int = FORMAT
    system: Literal["nodules"] = "nodules"
    experiment: str
    config: NoduleConfig
    config_digest: str
    weights: str = WEIGHTS
    weights_sha256: str
    data_digest: str
    """The scans it learned from, with their findings."""
    decisions: Decisions
    conventions: dict[str, str]
    versions: dict[str, str]
    digest: str = ""


def build(
    folder: Path,
    *,
    experiment: str,
    config: NoduleConfig,
    weights: Path,
    data_digest: str,
    decisions: Decisions,
    report: Mapping[str, Any] | None = None,
) -> NoduleBundle:
    """Write a bundle (replaced whole) and return what it says. `report` is the cross-validation's, for the card."""
    plain = NoduleBundle(
        experiment=experiment,
        config=config,
        config_digest=config.digest,
        weights_sha256=files.sha256_file(weights),
        data_digest=data_digest,
        decisions=decisions,
        conventions=CONVENTIONS,
        versions=environment(),
    )
    digest = files.digest_of(plain.model_dump(mode="json", exclude={"digest"}))
    made = plain.model_copy(update={"digest": digest})

    def fill(partial: Path) -> None:
        files.write_bytes(partial / WEIGHTS, weights.read_bytes())
        files.write_text(partial / CARD_NAME, card(made, report))
        files.write_json(partial / BUNDLE_NAME, made.model_dump(mode="json"))

    files.replace_directory(folder, fill)
    return made


def load(folder: Path) -> NoduleBundle:
    """Read a bundle and verify the digests of its files. Raises `UsageError` naming what is wrong."""
    path = folder / BUNDLE_NAME
    if not path.exists():
        raise UsageError(f"{folder}: no {BUNDLE_NAME} in it; give the folder of a final model")
    content = files.read_json(path)
    if content.get("system") != SYSTEM or content.get("format") != FORMAT:
        raise UsageError(f"{path}: is no bundle of nodule detection that this program reads")
    bundle = NoduleBundle.model_validate(content)
    # Of what the file holds: fields that later versions add have no place in the digest of an older bundle.
    if bundle.digest != files.digest_of({key: value for key, value in content.items() if key != "digest"}):
        raise UsageError(f"{path}: was changed after it was made: its digest does not match")
    weights = folder / bundle.weights
    if not weights.exists() or files.sha256_file(weights) != bundle.weights_sha256:
        raise UsageError(f"{weights}: is missing or not what the bundle was made with (SHA-256)")
    return bundle


def card(bundle: NoduleBundle, report: Mapping[str, Any] | None) -> str:
    """Return the model card as Markdown (Mitchell 2019, doi:10.1145/3287560.3287596)."""
    decided = bundle.decisions
    lines = [
        f"# {bundle.experiment}: lung nodules in chest CT",
        "",
        f"Encoder-decoder of four levels, bundle {bundle.digest[:12]}, configuration {bundle.config_digest[:12]}, data "
        f"{bundle.data_digest[:12]}.",
        "",
        "## Intended use",
        INTENDED_USE,
        "",
        "## Operating point",
        f"Score {decided.threshold:.3f}, chosen on {decided.scans} inner validation scans for at most "
        f"{decided.false_marks_per_scan:g} false marks a scan; calibration: {decided.calibration.kind}.",
        "",
    ]
    if report is not None:
        low, high = report["cpm_interval"]["low"], report["cpm_interval"]["high"]
        between = "" if low is None else f" ({low:.3f} to {high:.3f})"
        lines += [
            "## Figures, out of fold",
            f"CPM {report['cpm']:.3f}{between} on {report['findings']} findings in {report['scans']} scans, by models of "
            "the same configuration that did not see those scans.",
            "",
        ]
    lines += ["## Limits", *(f"- {limit}" for limit in LIMITS), ""]
    lines += ["## Input and output", *(f"- {name}: {text}" for name, text in bundle.conventions.items()), ""]
    return "\n".join(lines)

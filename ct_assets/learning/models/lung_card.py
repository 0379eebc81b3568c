"""The model card: data, intended use, limits and figures with intervals, for whoever thinks of using a model.

After Mitchell et al., Model Cards for Model Reporting, 2019 (doi:10.1145/3287560.3287596).
"""

from typing import Any

import polars as pl

from ct_assets.learning.models.bundle import Bundle

INTENDED_USE = (
    "Research on lung tumours in chest CT: outlining the tumour and estimating the clinical stage of one patient. "
    "Not a medical device: no decision about a patient may rest on it."
)
LIMITS = (
    "Trained on eligible patients of one cohort only: adults with one tumour mask each and a CT that passed the "
    "geometry checks. Other scanners, kernels, contrast phases or populations may give other results; see the "
    "figures by stratum in the report.",
    "The stage is estimated from one CT. Staging rests on findings that a CT does not show.",
    "Probabilities are calibrated on the training cohort's own prevalence of stages.",
    "Every mask must be looked at: small lesions and lesions at the chest wall or the mediastinum are missed most.",
)
FIGURES = {
    "segmentation": ("dice", "nsd", "hd95_mm", "lesion_f1", "lesion_miss_rate"),
    "stage": ("auroc_macro", "auprc_macro", "quadratic_kappa", "balanced_accuracy", "brier", "ece"),
}


def write(bundle: Bundle, manifest: pl.DataFrame, report: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    training = manifest.filter(pl.col("split") == "train")
    stages = training.group_by("stage").len().sort("stage").rows()
    lines = [
        f"# {bundle.experiment}: tumour mask and stage from chest CT",
        "",
        f"Kind: {bundle.kind.replace('_', ' ')} of {len(bundle.members)}. Network: {bundle.config.network.kind}. "
        f"Bundle {bundle.digest[:12]}, configuration {bundle.config_digest[:12]}, manifest "
        f"{bundle.manifest_digest[:12]}.",
        "",
        "## Intended use",
        INTENDED_USE,
        "",
        "## Data",
        f"{training['patient_id'].n_unique()} training patients; stages: "
        + ", ".join(f"{stage or 'unknown'} {count}" for stage, count in stages)
        + ".",
        "Each fold's plan was made from its own training patients; nothing of the test patients was fitted.",
        "",
        f"## Figures, out of fold ({100 * report['confidence']:g} % intervals over patients)",
        *_figures(report),
        "",
        *(f"- {line}" for line in report["verdicts"]),
        "",
        f"Calibration: {bundle.calibration.kind}, fitted on {bundle.calibration.fitted_on.replace('_', ' ')}"
        + (
            ", transferred to a model of all training patients." if bundle.calibration.is_transferred else "."
        ),
        "",
        "## Limits",
        *(f"- {limit}" for limit in LIMITS),
        "",
        "## Input and output",
        *(f"- {name}: {text}" for name, text in bundle.conventions.items()),
        "",
    ]
    return "\n".join(lines)


def _figures(report: dict[str, Any]) -> list[str]:
    lines = ["| figure | value | interval |", "|---|---|---|"]
    for group, names in FIGURES.items():
        pooled = report[group].get("model", {}).get("pooled", {})
        for name in names:
            figure = pooled.get(name)
            if not figure or figure["value"] is None:
                continue
            shown = "–" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
            lines.append(f"| {name.replace('_', ' ')} | {figure['value']:.3f} | {shown} |")
    return lines

"""The page of an evaluation: what the model wins, where it loses, and example pairs.

Belongs here: what stands on the page; every number is in `report.json` beside it. Does not: computing anything.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ct_assets import files
from ct_assets.reports import experiment, figures
from ct_assets.systems.longitudinal import baselines
from ct_assets.systems.longitudinal.evaluation import Evaluation
from ct_assets.systems.longitudinal.patch_store import PatchSet

Row = dict[str, Any]
PAGE_NAME = "index.html"
EXAMPLES = 6
SHOWN_HU = (-1000.0, 400.0)
LOSES, UNDECIDED = "loses", "undecided"


def write(
    evaluation: Evaluation, crops: PatchSet, folder: Path, gate: Mapping[str, Any] | None = None
) -> Path:
    """Write the page of an evaluation; return its path."""
    report = evaluation.report
    lost = losses(report) or ["Nowhere: it beats every baseline in every stratum."]
    sections = [
        _section("Where the model loses, and where it is not shown to win", lines=lost),
        _section("Mean absolute error of the later volume (mm3)", rows=_errors(report)),
        _section("All pairs", figures=_model(report)),
        _section("Without the interval (growing nodules)", figures=_flat(report["interval_withheld"])),
        _section("Images", figures=_flat(report["images"])),
        _section("Memorisation", figures=_flat(report["memorisation"])),
    ]
    if gate is not None:
        line = "It keeps nodules: latents of it may be used."
        if not gate["is_passed"]:
            line = "It does not keep nodules: a flow of its latents is refused. The model here is of patches."
        shown = {name: value for name, value in gate.items() if name != "weights_sha256"}
        sections.append(_section("The autoencoder's gate", lines=[line], figures=_flat(shown)))
    sections.append(_section("Examples", pictures=_examples(evaluation, crops)))
    low, high = report["training_interval_days"]
    notes = [
        f"{report['pairs']} pairs of {report['patients']} patients of the split {report['split']}; intervals of training "
        f"{low:.0f} to {high:.0f} days; {report['not_found']} predictions without a nodule count as volume 0; "
        f"{report['not_measured']} pairs are left out because the later exam shows no nodule at the place.",
        "Later volumes are measured in the crop with the contrast of the earlier exam, in real and predicted crops "
        "alike. Brackets: 95 % intervals by patient.",
    ]
    page = experiment.template("brain.html").render(
        title=f"Longitudinal nodules: {report['experiment']}",
        sections=sections,
        notes=notes,
        warned=summary(report),
        is_forced=False,
    )
    path = folder / PAGE_NAME
    files.write_text(path, page)
    return path


def summary(report: Row) -> list[str]:
    """Return the verdict on all pairs and on nodules that grew and that stayed, a plain sentence each."""
    sentences = []
    for name in ("all", "growth: growing", "growth: stable"):
        stratum = report["strata"].get(name)
        if stratum is None:
            continue
        said: dict[str, list[str]] = {"wins": [], LOSES: [], UNDECIDED: []}
        for baseline, verdict in stratum["verdicts"].items():
            if stratum["baselines"][baseline]["pairs"]:
                said[verdict["verdict"]].append(baseline)
        parts = []
        if said["wins"]:
            parts.append(f"the model beats {', '.join(said['wins'])}")
        if said[LOSES]:
            parts.append(f"the model LOSES to {', '.join(said[LOSES])}")
        if said[UNDECIDED]:
            parts.append(f"it is not shown to beat {', '.join(said[UNDECIDED])}")
        sentences.append(f"{name} ({stratum['pairs']} pairs): {'; '.join(parts)}.")
    return sentences


def losses(report: Row) -> list[str]:
    """Return a line for each stratum and baseline that the model loses to or is not shown to beat."""
    lines = []
    for verdict, words in ((LOSES, "LOSES to"), (UNDECIDED, "is not shown to beat")):
        for name, stratum in report["strata"].items():
            some = [
                baseline
                for baseline, one in stratum["verdicts"].items()
                if one["verdict"] == verdict and stratum["baselines"][baseline]["pairs"]
            ]
            if some:
                lines.append(f"{name}: the model {words} {', '.join(some)}.")
    return lines


def _section(title: str, **parts: Any) -> Row:
    return {"title": title, "lines": (), "figures": {}, "rows": (), "pictures": {}} | parts


def _errors(report: Row) -> list[Row]:
    return [
        {
            "stratum": name,
            "pairs": stratum["pairs"],
            "model": experiment.figure_text(stratum["model"]["mae_mm3"]),
            **{
                baseline: experiment.figure_text(stratum["baselines"][baseline].get("mae_mm3"))
                for baseline in baselines.NAMES
            },
        }
        for name, stratum in report["strata"].items()
    ]


def _model(report: Row) -> Row:
    return {name: value for name, value in report["strata"]["all"]["model"].items() if name != "pairs"}


def _flat(values: Mapping[str, Any]) -> Row:
    return {
        name: f"{value:.4g}"
        if isinstance(value, float)
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else value
        for name, value in values.items()
    }


def _examples(evaluation: Evaluation, crops: PatchSet) -> dict[str, str]:
    """Return pictures of pairs spread over the order of growth: earlier, predicted, later."""
    place = {
        (row["pid"], row["nodule_group"], row["exam_a"]): number for number, row in enumerate(crops.rows)
    }
    ordered = sorted(evaluation.rows, key=lambda row: row["volume_b"] / row["volume_a"])
    chosen = [
        ordered[number]
        for number in np.linspace(0, len(ordered) - 1, min(EXAMPLES, len(ordered))).astype(int)
    ]
    pictures = {}
    for row in chosen:
        number = place[row["pid"], row["nodule_group"], row["exam_a"]]
        name = (
            f"nodule {row['nodule_group']}, {row['nodule_type'] or 'type unknown'}, {row['delta_days']:.0f} days: "
            f"earlier {row['volume_a']:.0f}, predicted {row['predicted']:.0f}, later {row['volume_b']:.0f} mm3"
        )
        shown = [crops.earlier[number], evaluation.predicted[number], crops.later[number]]
        pictures[name] = figures.data_uri(_strip(shown))
    return pictures


def _strip(crops: Sequence[np.ndarray]) -> bytes:
    """Return the middle slices side by side as PNG."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(crops), figsize=(2 * len(crops), 2))
    for axis, crop in zip(axes, crops, strict=True):
        axis.imshow(crop[crop.shape[0] // 2], cmap="gray", vmin=SHOWN_HU[0], vmax=SHOWN_HU[1])
        axis.axis("off")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=80, bbox_inches="tight")
    plt.close(figure)
    return stream.getvalue()

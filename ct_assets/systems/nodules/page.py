"""The report of a cross-validation as a page: FROC curves, tables by size and type, and pictures of findings.

Belongs here: what stands on the page. Every number is one of the JSON beside it. A page is one file: pictures are inside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt

from ct_assets import files
from ct_assets.imaging.volume import Volume
from ct_assets.learning.evaluation.detection import FALSE_MARKS_PER_SCAN
from ct_assets.reports import experiment, figures
from ct_assets.systems.nodules import evaluate, volumes
from ct_assets.systems.nodules.cross_validation import Scans
from ct_assets.systems.nodules.marks import Mark
from ct_assets.systems.nodules.patches import NoduleCase

NAMES = {"network": "network, out of fold", "classical": "classical detector"}
STRATUM = ("findings", "found", "cpm", "centre_error_mm")
BALL_MM = 10.0
"""A mark without a diameter is drawn as a ball of this one."""


@dataclass(frozen=True)
class Part:
    """A part of the page, as the shared template takes it."""

    title: str
    lines: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)


def write(
    path: Path,
    title: str,
    report: Mapping[str, Any],
    scans: Scans,
    marks: Sequence[Mark],
    *,
    notes: Sequence[str] = (),
    shown: int = 4,
) -> None:
    """Write the page. `marks` are the network's; the `shown` scans with most findings are pictured."""
    parts = [
        Part(
            "Free-response curve",
            lines=[verdict(report)],
            rows=[_rates(NAMES[name], report[name]) for name in NAMES],
            pictures={"sensitivity against false marks a scan": figures.data_uri(froc_curve(report))},
        ),
        *(
            Part(
                f"{NAMES[name]}: by size and type",
                lines=evaluate.text(report[name]).splitlines()[:6],
                rows=[
                    {"stratum": stratum, **{key: values[key] for key in STRATUM}}
                    for kind in ("by_size", "by_type")
                    for stratum, values in report[name][kind].items()
                ],
            )
            for name in NAMES
        ),
        Part(
            "Marks and reference",
            lines=["The highest marks of each scan (predicted) and the findings of the reference."],
            pictures={
                f"scan {case.scan}": figures.data_uri(overlay(case, marks))
                for case in sorted(scans.cases, key=lambda one: (-len(one.centres_lps), one.scan))[:shown]
            },
        ),
    ]
    page = experiment.template("brain.html").render(
        title=title, sections=parts, notes=notes, warned=[], is_forced=False
    )
    files.write_text(path, page)


def verdict(report: Mapping[str, Any]) -> str:
    """Return in a sentence whether the network is better than the baseline."""
    compared = report["comparison"]
    difference = compared["difference"]
    begin = f"CPM {compared['first_cpm']:.3f} of the network, {compared['second_cpm']:.3f} of the classical detector"
    if difference["low"] is None:
        return f"{begin}; too few scans for an interval of the difference."
    between = (
        f"{difference['value']:.3f} ({difference['low']:.3f} to {difference['high']:.3f}, paired by scan)"
    )
    if difference["low"] > 0:
        return f"{begin}: the network is better, by {between}."
    if difference["high"] < 0:
        return f"{begin}: the network is worse, by {between}."
    return f"{begin}: no difference is shown, {between}."


def froc_curve(report: Mapping[str, Any]) -> bytes:
    """Draw the sensitivity at LUNA16's rates of each detector as PNG."""
    figure, axis = plt.subplots(figsize=(6.5, 4.2))
    for number, name in enumerate(NAMES):
        sensitivity = report[name]["sensitivity_at"]
        axis.plot(
            [float(rate) for rate in sensitivity],
            list(sensitivity.values()),
            "o-",
            color=figures.COLOURS[number],
            label=NAMES[name],
        )
    axis.set_xscale("log", base=2)
    axis.set(xticks=FALSE_MARKS_PER_SCAN, xlabel="false marks a scan", ylabel="sensitivity", ylim=(0, 1.02))
    axis.set_xticklabels([f"{rate:g}" for rate in FALSE_MARKS_PER_SCAN])
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    return figures.png(figure)


def overlay(case: NoduleCase, marks: Sequence[Mark]) -> bytes:
    """Draw a scan with its reference and as many of its highest marks, at least three."""
    image = volumes.whole(case.image)
    mask = np.zeros(image.grid.shape, bool)
    if case.mask is not None:
        mask = np.asarray(volumes.whole(case.mask).array, dtype=bool)
    own = sorted((mark for mark in marks if mark.scan == case.scan), key=lambda mark: -mark.score)
    predicted = np.zeros(image.grid.shape, bool)
    for mark in own[: max(3, len(case.centres_lps))]:
        predicted |= _ball(image, mark)
    return figures.overlay(image.array, {"reference": mask, "predicted": predicted}, image.grid.spacing_mm)


def _ball(image: Volume, mark: Mark) -> npt.NDArray[np.bool_]:
    centre = image.grid.index(np.array(mark.centre_mm))[::-1].reshape(3, 1, 1, 1)
    steps = np.array(image.grid.spacing_mm[::-1]).reshape(3, 1, 1, 1)
    away = (((np.indices(image.grid.shape) - centre) * steps) ** 2).sum(axis=0)
    return np.asarray(away <= ((mark.diameter_mm or BALL_MM) / 2) ** 2)


def _rates(name: str, report: Mapping[str, Any]) -> dict[str, Any]:
    interval = report["cpm_interval"]
    low, high = interval["low"], interval["high"]
    return {
        "detector": name,
        "CPM": report["cpm"],
        "interval": "–" if low is None else f"{low:.3f} to {high:.3f}",
        **{f"at {rate}": value for rate, value in report["sensitivity_at"].items()},
    }

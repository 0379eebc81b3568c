"""The findings of one scan as text for a clinician, and the checks that such a text must pass.

Belongs here: wording, units, what is said where nothing was found or determined. Does not: measuring (`findings`), the
lung mask (`lungs`). Lobes are not determined by anything here and are never guessed.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ct_assets.imaging.volume import Volume
from ct_assets.systems.nodules.findings import Finding
from ct_assets.systems.nodules.findings_json import band
from ct_assets.systems.nodules.lungs import Lungs

DISCLAIMER = (
    "Automatic detection for research use only. This is no diagnosis; every finding needs to be reviewed by a "
    "radiologist, and nodules can be missed."
)
NOT_DETERMINED = "not determined"


def text(
    found: Sequence[Finding], volume: Volume, lungs: Lungs | None, *, model: str, least_diameter_mm: float
) -> str:
    """Return the text. `volume` and `lungs` are on the grid on which the findings were measured."""
    lines = [f"Lung nodules, detected by {model}. {DISCLAIMER}", ""]
    if lungs is None:
        lines.append("The lungs were not found in the scan, so nothing was looked for.")
    elif not found:
        lines.append(
            f"No nodule of {least_diameter_mm:g} mm or more was detected. This does not exclude a nodule."
        )
    else:
        lines.append(f"{len(found)} nodule{'s' * (len(found) > 1)} detected, the most confident first.")
    lines += [_line(number, finding, volume, lungs) for number, finding in enumerate(found, start=1)]
    return "\n".join(lines) + "\n"


def side_of(finding: Finding, volume: Volume, lungs: Lungs | None) -> str:
    """Return "right", "left" or "not determined": the lung that holds the centre, if its x agrees.

    In LPS x grows to the patient's left, so a finding in the right lung lies at a smaller x than the middle between
    both lungs, whatever the direction of the grid.
    """
    if lungs is None or lungs.right is None or lungs.left is None:
        return NOT_DETERMINED
    side = lungs.side(finding.centre_kji)
    middle = sum(_x(mask, volume) for mask in (lungs.right, lungs.left)) / 2
    by_x = "right" if finding.centre_lps_mm[0] < middle else "left"
    return side if side == by_x else NOT_DETERMINED


def problems(written: str, found: Sequence[Finding], volume: Volume, lungs: Lungs | None) -> list[str]:
    """Return what a text contradicts or lacks, in words; none for a text that may be released.

    It reads the text itself, so that a text that was edited, or came from elsewhere, is checked too.
    """
    wrong = []
    if DISCLAIMER not in written:
        wrong.append("the disclaimer is missing")
    lines = re.findall(r"^(\d+)\. (.*)$", written, re.MULTILINE)
    if len(lines) != len(found):
        wrong.append(f"{len(lines)} findings are described, {len(found)} were given")
    if not found and lungs is not None and "No nodule of" not in written:
        wrong.append("that nothing was detected is not said")
    for (number, line), finding in zip(lines, found, strict=False):
        said = re.match(r"Side: (right|left|not determined)[;.]", line)
        if said is None or said[1] != side_of(finding, volume, lungs):
            wrong.append(f"finding {number}: the side does not agree with its coordinates")
        if "Lobe: not determined" not in line:
            wrong.append(f"finding {number}: a lobe is named, and nothing determines it")
        size = re.search(r"Size: ([\d.]+) x ([\d.]+) x ([\d.]+) mm,", line)
        if size is None or [float(value) for value in size.groups()] != [
            float(f"{value:.1f}") for value in finding.diameters_mm
        ]:
            wrong.append(f"finding {number}: the size is missing, without its unit, or another one")
        place = re.search(r"Centre \(LPS\): (-?[\d.]+), (-?[\d.]+), (-?[\d.]+) mm", line)
        if place is None or any(
            abs(float(value) - of) > 0.051
            for value, of in zip(place.groups(), finding.centre_lps_mm, strict=True)
        ):
            wrong.append(f"finding {number}: the centre is missing, without its unit, or another one")
    return wrong


def _line(number: int, finding: Finding, volume: Volume, lungs: Lungs | None) -> str:
    size = " x ".join(f"{value:.1f}" for value in finding.diameters_mm)
    centre = ", ".join(f"{value:.1f}" for value in finding.centre_lps_mm)
    hu = NOT_DETERMINED if finding.mean_hu is None else f"{finding.mean_hu:.0f} HU"
    triage = band(finding.triage).replace("_", " ")
    chance = "" if finding.triage is None else f" ({100 * finding.triage:.0f} %)"
    return (
        f"{number}. Side: {side_of(finding, volume, lungs)}; Lobe: {NOT_DETERMINED}. Size: {size} mm, "
        f"volume {finding.volume_mm3:.0f} mm3, mean density {hu}. Triage: {triage}{chance}. "
        f"Confidence {100 * finding.confidence:.0f} %. Centre (LPS): {centre} mm."
    )


def _x(mask: npt.NDArray[np.bool_], volume: Volume) -> float:
    centre = np.argwhere(mask).mean(axis=0)
    return float(volume.grid.world(centre[::-1])[0])

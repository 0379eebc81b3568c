"""The text for a clinician: sides by the patient, units, what is not determined, and the checks of a text."""

from dataclasses import replace

import numpy as np
import pytest

from ct_assets.imaging.volume import Grid, Volume
from ct_assets.systems.nodules import clinician, findings
from ct_assets.systems.nodules.lungs import Lungs

SHAPE = (10, 20, 40)
GRIDS = {
    "left to right": Grid.of(SHAPE, (2, 2, 2), (-40, -20, 0)),
    "right to left": Grid.of(SHAPE, (2, 2, 2), (38, -20, 0), np.diag([-1.0, 1.0, 1.0])),
}


def scene(grid):
    """Two lungs; a finding in the one on the patient's right, by its world coordinates."""
    low, high = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    low[2:8, 5:15, 3:17], high[2:8, 5:15, 23:37] = True, True
    right, left = (low, high) if grid.direction[0, 0] > 0 else (high, low)
    volume = Volume(np.full(SHAPE, 25, dtype=np.int16), grid)
    mask = np.zeros(SHAPE, dtype=bool)
    place = np.argwhere(right).mean(axis=0).astype(int)
    mask[tuple(slice(value, value + 3) for value in place)] = True
    return volume, Lungs(low | high, right, left), [findings.measure(mask, volume, confidence=0.8)]


def written(volume, lungs, found):
    return clinician.text(found, volume, lungs, model="m", least_diameter_mm=3)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_the_side_is_the_patients_whatever_the_grid(grid):
    volume, lungs, found = scene(grid)
    text = written(volume, lungs, found)
    assert "1. Side: right; Lobe: not determined. Size: " in text
    assert "mean density 25 HU. Triage: not determined. Confidence 80 %." in text
    assert clinician.problems(text, found, volume, lungs) == []


def test_nothing_found_is_worded_and_excludes_nothing():
    volume, lungs, _ = scene(GRIDS["left to right"])
    text = written(volume, lungs, [])
    assert "No nodule of 3 mm or more was detected. This does not exclude a nodule." in text
    assert clinician.problems(text, [], volume, lungs) == []


def test_without_lungs_no_side_and_no_negative_finding():
    volume, _, found = scene(GRIDS["left to right"])
    assert "Side: not determined" in written(volume, None, found)
    assert "not found in the scan" in written(volume, None, [])
    assert "No nodule" not in written(volume, None, [])


def test_the_triage_has_its_band():
    volume, lungs, found = scene(GRIDS["left to right"])
    assert "Triage: high (75 %)" in written(volume, lungs, [replace(found[0], triage=0.75)])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Side: right", "Side: left", "side"),
        ("Lobe: not determined", "Lobe: upper", "lobe"),
        (" mm, volume", " cm, volume", "size"),
        ("Centre (LPS): -", "Centre (LPS): ", "centre"),
        ("This is no diagnosis; ", "", "disclaimer"),
        ("\n1. ", "\nFirst: ", "0 findings are described"),
    ],
)
def test_a_text_that_contradicts_the_findings_is_named(old, new, problem):
    volume, lungs, found = scene(GRIDS["left to right"])
    text = written(volume, lungs, found)
    assert old in text
    (first, *_) = clinician.problems(text.replace(old, new), found, volume, lungs)
    assert problem in first


def test_a_negative_text_beside_a_finding_is_named():
    volume, lungs, found = scene(GRIDS["left to right"])
    assert clinician.problems(written(volume, lungs, []), found, volume, lungs)
    assert clinician.problems(written(volume, lungs, found), [], volume, lungs)

"""A small data set of chests with nodules, as LIDC-IDRI comes: a folder of DICOM series and one of read messages.

Belongs here: which scanner and grid each patient has, and the files. Does not: nodules (`phantom.nodules`), readers
(`phantom.nodule_readers`). The same arguments give the same bytes.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ct_assets import files, parallel, progress
from ct_assets.phantom import headers, nodule_readers, nodules, objects, people, scanner

IMAGES, ANNOTATIONS = "images", "annotations"
OBLIQUE_EVERY = 6
"""Every so many patients one lies oblique in the scanner."""


@dataclass(frozen=True)
class Protocol:
    """How fine the scans are; whole chests of 0.7 mm would take minutes each."""

    spacing_mm: float = 2.0
    step_mm: float = 2.5


def make(
    folder: Path, *, patients: int, seed: int = 5, protocol: Protocol | None = None, workers: int = 1
) -> None:
    """Make the data set in `folder` (replaced whole): `images/<number>/*.dcm` and `annotations/<number>.xml`."""
    write = partial(_write, seed=seed, protocol=protocol or Protocol())

    def fill(partial_folder: Path) -> None:
        items = [(number, partial_folder) for number in range(patients)]
        with progress.track("phantom scans", patients) as advance:
            for _ in parallel.map_ordered(write, items, workers=workers, preload=(__name__,)):
                advance(1)

    files.replace_directory(folder, fill)


def machine_of(number: int, protocol: Protocol) -> scanner.Scanner:
    """Return the scanner of a patient: vendors in turn, from feet to head and back, some oblique."""
    machine = scanner.SCANNERS[number % len(scanner.SCANNERS)]
    return replace(
        machine,
        matrix=round(machine.field_of_view_mm / protocol.spacing_mm),
        slices=round(machine.slices * machine.step_mm / protocol.step_mm),
        step_mm=protocol.step_mm,
        thickness_mm=protocol.step_mm,
        blur_mm=min(machine.blur_mm, 0.6),
        oblique_deg=8.0 if number % OBLIQUE_EVERY == OBLIQUE_EVERY - 1 else 0.0,
        head_first=number % 2 == 0,
    )


def _write(item: tuple[int, Path], *, seed: int, protocol: Protocol) -> None:
    number, folder = item
    rng = np.random.default_rng([seed, number])
    case = nodules.Case.invent(seed * 1000 + number)
    machine = machine_of(number, protocol)
    grid, hu, _ = nodules.scan(case, machine, rng)
    person = people.invent(number, rng)
    name = f"nodules/{seed}/{number}"
    study = headers.study_header(person, "20240110", "101112", name)
    series = headers.ct_header(person, machine, name, "Thorax")
    slices = objects.ct_slices(study, series, machine, grid, hu, name)
    message = nodule_readers.message(
        case, grid, slices[0].SeriesInstanceUID, [one.SOPInstanceUID for one in slices], rng
    )
    for place, one in enumerate(slices):
        objects.save(one, folder / IMAGES / f"{number:03}" / f"{place:03}.dcm")
    files.write_text(folder / ANNOTATIONS / f"{number:03}.xml", message)

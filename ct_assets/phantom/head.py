"""A data set of head CT slices with lesions, as `ct-assets brain run` takes it; and heads as whole series.

Belongs here: which heads there are, on which scanners, the files and their label table. The same arguments
give the same bytes. Nothing in it belongs to anybody, although headers carry (invented) identities.
"""

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ct_assets import files
from ct_assets.imaging.volume import Grid
from ct_assets.phantom import head_anatomy, headers, objects, people, scanner
from ct_assets.phantom.head_anatomy import Head
from ct_assets.phantom.scanner import Scanner

CONTRAST_HU = 30.0
FIELD_OF_VIEW_MM = 236.0
STEP_MM = 5.0
NOISE_HU = 4.0
LEAST_LESION_MM2 = 40.0
"""A slice with less of a lesion than this counts as free of it, and is not shown as one with it."""
WINDOWS = (["40", "600"], ["80", "2800"])
"""Centres and widths in the header: brain first, then bone."""
COARSE = 2
"""Lesions are looked for on every second pixel."""
_KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"head_first": False},
    {"oblique_deg": -15.0},
    {"in_plane_deg": 180.0},
    {"in_plane_deg": 90.0},
)
"""Feet first, a tilted gantry, prone, on the side: how the five machines of the phantom are used."""


@dataclass(frozen=True)
class HeadSet:
    """Where a data set of slices lies."""

    root: Path
    cts: str = "CTs"
    labels: str = "labels1.csv"

    @property
    def labels_csv(self) -> Path:
        """The label table: `ID`, `Label`."""
        return self.root / self.labels


@dataclass(frozen=True)
class Patient:
    """One invented patient with a head, a scanner, and the slices that are exported."""

    number: int
    person: people.Person
    head: Head
    machine: Scanner
    slices: tuple[int, ...]
    """Slices of the scan that are exported, feet to head or head to feet as scanned."""


def make(
    folder: Path,
    *,
    seed: int = 11,
    patients: int = 90,
    positive_share: float = 0.4,
    contrast_hu: float = CONTRAST_HU,
    matrix: int = 96,
    most_slices: int = 2,
    shuffled: bool = False,
) -> HeadSet:
    """Make slices and labels in `folder` (replaced whole).

    A share of the patients has a lesion of `contrast_hu` against the brain; each exports one to
    `most_slices` slices of one study, all with the lesion or all without. With `shuffled` the labels are dealt
    to the patients anew, so that nothing can be learnt.
    """
    made = HeadSet(folder)
    rng = np.random.default_rng(seed)
    positives = np.zeros(patients, dtype=bool)
    positives[rng.permutation(patients)[: round(positive_share * patients)]] = True
    told = np.random.default_rng([seed, 1]).permutation(positives) if shuffled else positives

    def fill(partial: Path) -> None:
        rows: list[tuple[str, int]] = []
        for number in range(patients):
            patient = invent(number, rng, is_positive=bool(positives[number]), contrast_hu=contrast_hu,
                             matrix=matrix, most_slices=most_slices)  # fmt: skip
            rows += [
                (name, int(told[number])) for name in _write(partial / made.cts, patient, f"{seed}/{number}")
            ]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("ID", "Label"))
        writer.writerows(sorted(rows))
        files.write_text(partial / made.labels, text.getvalue())

    files.replace_directory(folder, fill)
    return made


def invent(
    number: int,
    rng: np.random.Generator,
    *,
    is_positive: bool,
    contrast_hu: float = CONTRAST_HU,
    matrix: int = 96,
    most_slices: int = 2,
) -> Patient:
    """Invent a patient, their scan, and which slices of it are exported."""
    person = people.invent(number, rng)
    head = Head.invent(rng, lesions=int(is_positive), contrast_hu=contrast_hu)
    machine = _machine(number, matrix)
    usable = _usable_slices(head, machine, is_positive)
    count = min(len(usable), int(rng.integers(1, most_slices + 1)))
    first = int(rng.integers(len(usable) - count + 1))
    return Patient(number, person, head, machine, tuple(usable[first : first + count]))


def scan(
    patient: Patient, rng: np.random.Generator, only: int | None = None
) -> tuple[Grid, npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """Scan the head, or one slice of it: grid, HU (k, j, i), and the lesion's mask on the same grid."""
    grid = patient.machine.grid()
    if only is not None:
        affine = grid.affine_lps.copy()
        affine[:3, 3] = grid.world(np.array([0.0, 0.0, float(only)]))
        grid = Grid((1, *grid.shape[1:]), affine)
    points = _points(grid)
    hu = head_anatomy.hounsfield(patient.head, points, voxel_mm=float(np.mean(grid.spacing_mm)))
    return (
        grid,
        scanner.expose(patient.machine, grid, hu, rng),
        head_anatomy.lesion_mask(patient.head, points),
    )


def write_series(folder: Path, patient: Patient, seed: str) -> list[Path]:
    """Write all slices of a patient's scan as one series; return the files."""
    grid, hu, _ = scan(patient, _rng_of(seed))
    study, series = _headers(patient, seed)
    paths = []
    for k, dataset in enumerate(objects.ct_slices(study, series, patient.machine, grid, hu, f"head/{seed}")):
        dataset.WindowCenter, dataset.WindowWidth = WINDOWS
        paths.append(folder / f"IM{k:04d}.dcm")
        objects.save(dataset, paths[-1])
    return paths


def _write(folder: Path, patient: Patient, seed: str) -> Iterator[str]:
    """Write the exported slices, each a file of its own; yield their names."""
    study, series = _headers(patient, seed)
    for k in patient.slices:
        name = f"ID_{hashlib.sha256(f'{seed}/{k}'.encode()).hexdigest()[:9]}"
        grid, hu, _ = scan(patient, _rng_of(f"{seed}/{k}"), only=k)
        (dataset,) = objects.ct_slices(study, series, patient.machine, grid, hu, f"head/{seed}/{k}")
        dataset.InstanceNumber = k + 1
        dataset.WindowCenter, dataset.WindowWidth = WINDOWS
        objects.save(dataset, folder / f"{name}.dcm")
        yield name


def _headers(patient: Patient, seed: str) -> tuple[Dataset, Dataset]:
    study = headers.study_header(patient.person, "20240312", "101500", f"head/{seed}")
    series = headers.ct_header(patient.person, patient.machine, f"head/{seed}", "Head")
    series.BodyPartExamined = "HEAD"
    return study, series


def _machine(number: int, matrix: int) -> Scanner:
    which = number % len(scanner.SCANNERS)
    return replace(
        scanner.SCANNERS[which],
        matrix=matrix,
        field_of_view_mm=FIELD_OF_VIEW_MM,
        step_mm=STEP_MM,
        thickness_mm=STEP_MM,
        slices=11,
        noise_hu=NOISE_HU + which,
        blur_mm=min(scanner.SCANNERS[which].blur_mm, 1.0),
        **_KINDS[which],
    )


def _usable_slices(head: Head, machine: Scanner, is_positive: bool) -> list[int]:
    """Return the slices that show the lesion, at least the one that shows most; without one, those of its heights."""
    grid = machine.grid()
    if not is_positive:
        return list(range(2, grid.shape[0] - 2))
    pixel_mm2 = grid.spacing_mm[0] * grid.spacing_mm[1] * COARSE**2
    areas = head_anatomy.lesion_mask(head, _points(grid)[:, ::COARSE, ::COARSE]).sum(axis=(1, 2)) * pixel_mm2
    shown = [k for k, area in enumerate(areas) if area >= LEAST_LESION_MM2]
    return shown or [int(areas.argmax())]


def _points(grid: Grid) -> npt.NDArray[np.float32]:
    k, j, i = np.indices(grid.shape)
    return grid.world(np.stack([i, j, k], axis=-1).astype(np.float64)).astype(np.float32)


def _rng_of(seed: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))

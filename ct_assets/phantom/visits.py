"""One visit of one patient: scanned, outlined, made faulty where wanted, and written as files.

Belongs here: what a case is and how its objects come together. Does not: which cases a cohort has
(`phantom.cohort`), the faults themselves (`phantom.faults`).
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ct_assets.imaging.volume import Grid
from ct_assets.phantom import anatomy, faults, headers, masks, objects, scanner
from ct_assets.phantom.people import Person


@dataclass(frozen=True)
class Case:
    """What one patient of the cohort is to be; everything random follows from `seed`."""

    person: Person
    scanner: scanner.Scanner
    anatomy_stage: str
    """The stage whose tumour the patient has."""
    seed: str
    drop: int
    """0 for the first drop, 1 for the second."""
    folder: str
    file_name: str
    """Pattern of a slice's file name, with a place for its number."""
    traits: frozenset[str] = frozenset()
    """Peculiarities that do no harm, among `TRAITS`."""
    fault: str | None = None
    """The one reason why the patient may not enter the cohort, a name of `faults.DICOM_FAULTS`, or None."""


TRAITS = (
    "localizer", "truncated_localizer", "rtstruct", "dicomdir", "screenshot", "overlay", "late_seg",
    "two_segments", "fractional", "trailing_blank", "claims_deidentified",
)  # fmt: skip


@dataclass
class Visit:
    """The objects of a visit before they are written; faults change them."""

    case: Case
    grid: Grid
    hu: npt.NDArray[np.int16]
    mask: npt.NDArray[np.bool_]
    study: Dataset
    series: Dataset
    slices: list[Dataset]
    masks: dict[str, Dataset] = field(default_factory=dict)
    others: dict[str, Dataset] = field(default_factory=dict)

    def segmentation(self, slices: list[Dataset], name: str = "SEG") -> Dataset:
        """Outline the tumour on `slices`, which lie where this visit's own do."""
        segments = {"GTV-1": self.mask}
        if "two_segments" in self.case.traits:
            from scipy import ndimage

            # The margin around the tumour holds it wholly, so that the segments overlap.
            segments["CTV-1"] = ndimage.binary_dilation(self.mask, iterations=2)
        kind: masks.Kind = "FRACTIONAL" if "fractional" in self.case.traits else "BINARY"
        return masks.segmentation(self.case.person, slices, segments, f"{self.case.seed}/{name}", kind)


def write(case: Case, drops: tuple[Path, Path]) -> float:
    """Scan the patient and write all files below its drop; return the tumour's volume on the grid in ml."""
    visit = _visit(case)
    if "late_seg" not in case.traits:
        _write_objects(drops[case.drop] / case.folder, visit.masks)
    else:
        _write_objects(
            drops[1] / "late_masks", {f"{case.person.family}_{k}": v for k, v in visit.masks.items()}
        )
    home = drops[case.drop] / case.folder
    for number, slice_ in enumerate(visit.slices, 1):
        objects.save(slice_, home / case.file_name.format(number))
    _write_objects(home, visit.others)
    if "truncated_localizer" in case.traits:
        scout = home / "topogram.dcm"
        content = scout.read_bytes()
        scout.write_bytes(content[: len(content) * 2 // 3])
    return float(visit.mask.sum() * visit.grid.voxel_volume_ml)


def _visit(case: Case) -> Visit:
    rng = np.random.default_rng(list(case.seed.encode()))
    chest = anatomy.Chest.invent(case.anatomy_stage, rng)
    machine = replace(case.scanner, **faults.SCANNER_FAULTS.get(case.fault or "", {}))
    grid, hu, mask = scanner.acquire(machine, chest, rng)
    date = f"2024{1 + rng.integers(0, 2):02d}{rng.integers(1, 29):02d}"
    study = headers.study_header(
        case.person, date, f"{rng.integers(7, 19):02d}{rng.integers(0, 60):02d}12", case.seed
    )
    if "claims_deidentified" in case.traits:
        study.PatientIdentityRemoved, study.DeidentificationMethod = "YES", "CLEANED BY HAND"
    series = headers.ct_header(case.person, machine, case.seed, "Thorax")
    slices = objects.ct_slices(study, series, machine, grid, hu, case.seed)
    visit = Visit(case, grid, hu, mask, study, series, slices)
    middle = slices[len(slices) // 2]
    middle.ImageComments = f"{case.person.title}: finding discussed on {case.person.phone}"
    if "overlay" in case.traits:
        headers.overlay(middle, rng)
    visit.masks["SEG.dcm"] = visit.segmentation(slices)
    if "trailing_blank" in case.traits:
        visit.masks["SEG.dcm"].PatientID = f"{case.person.patient_id} "
    if "rtstruct" in case.traits:
        visit.others["RS_plan.dcm"] = masks.structure_set(case.person, slices, grid, mask, case.seed)
    if {"localizer", "truncated_localizer"} & case.traits:
        visit.others["topogram.dcm"] = objects.localizer(study, series, machine, hu, case.seed)
    if "screenshot" in case.traits:
        visit.others["dose_page.dcm"] = objects.screenshot(study, case.person, case.seed)
    if "dicomdir" in case.traits:
        visit.others["DICOMDIR"] = objects.media_directory(case.person, study, case.seed)
    if case.fault in faults.DICOM_FAULTS:
        faults.DICOM_FAULTS[case.fault](visit)
    return visit


def _write_objects(folder: Path, named: dict[str, Dataset]) -> None:
    for name, dataset in named.items():
        objects.save(dataset, folder / name)

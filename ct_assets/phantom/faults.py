"""What can be wrong with a patient: one function a fault, each the only fault of its patient.

Belongs here: faults of the images. Faults of the clinic's table are made where the table is written
(`phantom.clinic`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset, FileMetaDataset

from ct_assets.phantom import headers, masks, objects

if TYPE_CHECKING:
    from ct_assets.phantom.visits import Visit

FAR_AWAY_MM = 500.0
TILT_MM_PER_SLICE = 1.0
"""At 4 mm between slices a gantry tilt of 14 degrees."""


def no_ct(visit: "Visit") -> None:
    """The CT was never sent."""
    visit.slices.clear()


def no_seg(visit: "Visit") -> None:
    """There is an RTSTRUCT and no SEG."""
    visit.masks.clear()
    plan = masks.structure_set(visit.case.person, visit.slices, visit.grid, visit.mask, visit.case.seed)
    visit.others["rtss.dcm"] = plan


def two_segs(visit: "Visit") -> None:
    """Two readers outlined the tumour, and nobody says which outline holds."""
    visit.masks["SEG_reader2.dcm"] = visit.segmentation(visit.slices, "second SEG")


def seg_of_other_series(visit: "Visit") -> None:
    """The SEG points to a reconstruction that was never sent."""
    elsewhere = objects.ct_slices(
        visit.study, visit.series, visit.case.scanner, visit.grid, visit.hu, f"{visit.case.seed}/elsewhere"
    )
    for slice_ in elsewhere:
        slice_.SeriesInstanceUID = headers.uid(visit.case.seed, "elsewhere")
    visit.masks["SEG.dcm"] = visit.segmentation(elsewhere)


def missing_slice(visit: "Visit") -> None:
    """A slice in the middle was lost."""
    del visit.slices[len(visit.slices) // 2]


def duplicate_position(visit: "Visit") -> None:
    """Two slices with different pixels lie at one position."""
    middle = len(visit.slices) // 2
    again = _copy(visit.slices[middle])
    again.SOPInstanceUID = headers.uid(visit.case.seed, "again")
    again.file_meta.MediaStorageSOPInstanceUID = again.SOPInstanceUID
    again.PixelData = visit.slices[middle + 1].PixelData
    visit.slices.insert(middle, again)


def two_contents(visit: "Visit") -> None:
    """One SOPInstanceUID stands on two files with different pixels."""
    middle = len(visit.slices) // 2
    other = _copy(visit.slices[middle])
    other.PixelData = visit.slices[middle + 2].PixelData
    visit.others["resend.dcm"] = other


def seg_misfit(visit: "Visit") -> None:
    """The SEG lies in another frame of reference, far from the CT."""
    moved = []
    for slice_ in visit.slices:
        copy = _copy(slice_)
        x, y, z = (float(value) for value in slice_.ImagePositionPatient)
        copy.ImagePositionPatient = [f"{x + FAR_AWAY_MM:.6g}", f"{y:.6g}", f"{z:.6g}"]
        copy.FrameOfReferenceUID = headers.uid(visit.case.seed, "other frame of reference")
        moved.append(copy)
    visit.masks["SEG.dcm"] = visit.segmentation(moved)


def empty_mask(visit: "Visit") -> None:
    """The SEG has a segment without a voxel."""
    visit.mask[:] = False
    visit.masks["SEG.dcm"] = visit.segmentation(visit.slices)


def gantry_tilt(visit: "Visit") -> None:
    """The gantry was tilted: positions shear against the slices' normal."""
    for k, slice_ in enumerate(visit.slices):
        x, y, z = (float(value) for value in slice_.ImagePositionPatient)
        slice_.ImagePositionPatient = [f"{x:.6g}", f"{y + TILT_MM_PER_SLICE * k:.6g}", f"{z:.6g}"]
        slice_.GantryDetectorTilt = "14"
    visit.masks["SEG.dcm"] = visit.segmentation(visit.slices)


DICOM_FAULTS: dict[str, Callable[["Visit"], None]] = {
    "no_ct": no_ct,
    "no_seg": no_seg,
    "two_segs": two_segs,
    "seg_of_other_series": seg_of_other_series,
    "missing_slice": missing_slice,
    "duplicate_position": duplicate_position,
    "two_contents": two_contents,
    "seg_misfit": seg_misfit,
    "empty_mask": empty_mask,
    "gantry_tilt": gantry_tilt,
}
SCANNER_FAULTS: dict[str, dict[str, Any]] = {
    "too_thick": {"thickness_mm": 10.0, "step_mm": 10.0, "slices": 18},
    "too_few_slices": {"slices": 4},
}
LABEL_FAULTS = ("no_label", "missing_stage", "unknown_stage", "contradictory_stages", "label_of_two_patients")
FAULTS = (*LABEL_FAULTS, *DICOM_FAULTS, *SCANNER_FAULTS)


def _copy(slice_: Dataset) -> Dataset:
    copy = headers.joined(slice_)
    copy.file_meta = FileMetaDataset()
    copy.file_meta.update(headers.joined(slice_.file_meta))
    return copy

"""Mask objects of a visit: DICOM SEG by highdicom and RTSTRUCT from the mask's outlines.

Belongs here: tumour outlines as objects that reference a CT series. Does not: the shape of the tumour
(`phantom.anatomy`).
"""

import copy
from typing import Literal

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from ct_assets.imaging.volume import Grid
from ct_assets.phantom import headers, objects
from ct_assets.phantom.people import Person

Mask = npt.NDArray[np.bool_]
Kind = Literal["BINARY", "FRACTIONAL"]


def segmentation(
    person: Person,
    slices: list[Dataset],
    segments: dict[str, Mask],
    seed: str,
    kind: Kind = "BINARY",
) -> Dataset:
    """Return a SEG of named segments, each (k, j, i) on the grid of `slices`; segments may overlap."""
    reader = person.hospital.staff[1]
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            tracking_uid=headers.uid(seed, "tracking", number),
            tracking_id=f"{label} {person.mrn}",
        )
        for number, label in enumerate(segments, 1)
    ]
    # highdicom knows no character set with an empty first value; the visit's own is set again below.
    sources = [headers.joined(slice_) for slice_ in slices]
    for source in sources:
        source.SpecificCharacterSet = "ISO_IR 192"
    stacked = np.stack(list(segments.values()), axis=-1)
    pixels = stacked.astype(np.uint8 if kind == "BINARY" else np.float32)
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels if len(segments) > 1 else pixels[..., 0],
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=headers.uid(seed, "SEG series"),
        series_number=20,
        sop_instance_uid=headers.uid(seed, "SEG"),
        instance_number=1,
        manufacturer="Example Contouring",
        manufacturer_model_name="Outliner",
        software_versions="2.3",
        device_serial_number="WS-0417",
        content_description=f"Outlined for {person.family}"[:64],
        content_creator_name=reader,
        series_description=f"GTV {person.family} by {reader.split('^')[0]}",
        omit_empty_frames=False,
    )
    _make_repeatable(seg, slices[0], seed)
    _identify(seg, slices[0], person)
    return seg


def structure_set(person: Person, slices: list[Dataset], grid: Grid, mask: Mask, seed: str) -> Dataset:
    """Return an RTSTRUCT whose closed planar contours outline `mask` at half level on each slice."""
    from skimage import measure

    first = slices[0]
    plan = _visit_of(first)
    plan.SOPClassUID, plan.SOPInstanceUID = RTStructureSetStorage, headers.uid(seed, "RTSTRUCT")
    plan.SeriesInstanceUID = headers.uid(seed, "RTSTRUCT series")
    plan.Modality, plan.Manufacturer, plan.SeriesNumber, plan.InstanceNumber = (
        "RTSTRUCT",
        "Example Planning",
        30,
        1,
    )
    plan.SeriesDescription = f"Plan {person.family}"
    plan.OperatorsName = person.hospital.staff[2]
    plan.FrameOfReferenceUID, plan.PositionReferenceIndicator = first.FrameOfReferenceUID, ""
    plan.StructureSetLabel = f"{person.family} GTV"[:16]
    plan.StructureSetName = f"{person.title} planning"
    plan.StructureSetDate, plan.StructureSetTime = first.StudyDate, first.StudyTime
    contours = []
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        padded = np.pad(mask[k].astype(np.float32), 1)
        for outline in measure.find_contours(padded, 0.5):
            j, i = outline[:-1].T - 1
            points = grid.world(np.stack([i, j, np.full_like(i, float(k))], axis=-1))
            contours.append(_contour(slices[int(k)], points))
    roi, observation, outline_item = Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ReferencedFrameOfReferenceUID = 1, first.FrameOfReferenceUID
    roi.ROIName, roi.ROIGenerationAlgorithm = "GTV-1", "MANUAL"
    roi.ROIDescription = f"outlined by {person.hospital.staff[1].split('^')[0]}"
    outline_item.ReferencedROINumber, outline_item.ROIDisplayColor = 1, [255, 0, 0]
    outline_item.ContourSequence = contours
    observation.ObservationNumber = observation.ReferencedROINumber = 1
    observation.RTROIInterpretedType, observation.ROIInterpreter = "GTV", person.hospital.staff[1]
    plan.ReferencedFrameOfReferenceSequence = [_referenced_frame(first, slices)]
    plan.StructureSetROISequence, plan.ROIContourSequence = [roi], [outline_item]
    plan.RTROIObservationsSequence = [observation]
    objects.set_file_meta(plan, ImplicitVRLittleEndian)
    return plan


def _make_repeatable(seg: Dataset, source: Dataset, seed: str) -> None:
    """Replace what highdicom takes from the clock or from chance, so that a seed gives the same bytes."""
    for keyword in ("InstanceCreation", "Series", "Content"):
        setattr(seg, f"{keyword}Date", source.StudyDate)
        setattr(seg, f"{keyword}Time", "101112")
    organization = headers.uid(seed, "dimension organization")
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in seg.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
    for contribution in seg.get("ContributingEquipmentSequence", []):
        contribution.ContributionDateTime = f"{source.StudyDate}101112"


def _identify(seg: Dataset, source: Dataset, person: Person) -> None:
    """Give the SEG the identities of the visit, in functional groups too."""
    for element in _visit_of(source):
        seg[element.tag] = copy.copy(element)
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator = "39607008", "SCT"
    region.CodeMeaning = f"Lung of {person.family}"
    anatomy = Dataset()
    anatomy.FrameLaterality, anatomy.AnatomicRegionSequence = "U", [region]
    seg.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
    for frame in list(seg.PerFrameFunctionalGroupsSequence)[::7]:
        for derivation in frame.get("DerivationImageSequence", []):
            derivation.DerivationDescription = f"outlined on a print for {person.family}"


def _visit_of(slice_: Dataset) -> Dataset:
    """Return the elements of patient and study that any object of the visit repeats."""
    visit = Dataset()
    for element in slice_:
        if (
            element.tag.group in (0x0008, 0x0010, 0x0020, 0x0032, 0x0038, 0x0040)
            and element.keyword in _VISIT
        ):
            visit[element.tag] = copy.copy(element)
    return visit


def _contour(slice_: Dataset, points: npt.NDArray[np.float64]) -> Dataset:
    image, contour = Dataset(), Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = slice_.SOPClassUID, slice_.SOPInstanceUID
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    contour.ContourData = [f"{value:.4f}" for value in points.ravel()]
    return contour


def _referenced_frame(first: Dataset, slices: list[Dataset]) -> Dataset:
    images = []
    for slice_ in slices:
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = (
            slice_.SOPClassUID,
            slice_.SOPInstanceUID,
        )
        images.append(image)
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID, series.ContourImageSequence = first.SeriesInstanceUID, images
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = (
        headers.STUDY_STUDY_UID,
        first.StudyInstanceUID,
    )
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    return frame


_VISIT = frozenset((
    "AccessionNumber", "AdditionalPatientHistory", "DeidentificationMethod", "InstitutionAddress",
    "InstitutionName", "IssuerOfPatientID", "NameOfPhysiciansReadingStudy",
    "OriginalAttributesSequence", "OtherPatientIDsSequence", "OtherPatientNames", "PatientAddress",
    "PatientAge", "PatientBirthDate", "PatientComments", "PatientID", "PatientIdentityRemoved",
    "PatientName", "PatientSex", "PatientSize", "PatientTelephoneNumbers", "PatientWeight",
    "ReferringPhysicianIdentificationSequence", "ReferringPhysicianName",
    "ReferringPhysicianTelephoneNumbers", "RequestAttributesSequence", "SpecificCharacterSet",
    "StationName", "StudyDate", "StudyDescription", "StudyID", "StudyInstanceUID", "StudyTime",
))  # fmt: skip

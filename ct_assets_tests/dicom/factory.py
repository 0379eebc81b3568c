"""Small DICOM objects for tests: a CT series, a SEG on it, a structure set; a test changes what it is about."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    SegmentationStorage,
)

from ct_assets.dicom import index, series
from ct_assets.dicom.series import Series
from ct_assets.settings.audit import AuditSettings

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def uid(*parts: object) -> str:
    """The same parts, the same UID."""
    return f"2.25.{int(hashlib.sha256(repr(parts).encode()).hexdigest()[:30], 16)}"


def file_meta(sop_class: str, sop_uid: str, syntax: str = ExplicitVRLittleEndian) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, sop_uid
    meta.TransferSyntaxUID = syntax
    return meta


def base(name: str, sop_class: str, modality: str, series_name: str, patient: str) -> Dataset:
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID, one.Modality = (
        sop_class,
        uid("sop", patient, series_name, name),
        modality,
    )
    one.PatientID = patient
    one.StudyInstanceUID = uid("study", patient)
    one.SeriesInstanceUID = uid("series", patient, series_name)
    one.FrameOfReferenceUID = uid("frame", patient)
    one.file_meta = file_meta(sop_class, one.SOPInstanceUID)
    return one


def ct_slice(
    number: int, position: Sequence[float], series_name: str = "ct", patient: str = "P1", **tags: object
) -> Dataset:
    one = base(str(number), CTImageStorage, "CT", series_name, patient)
    one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    one.InstanceNumber = number
    one.ImagePositionPatient = [f"{value:.10g}" for value in position]
    one.ImageOrientationPatient = list(AXIAL)
    one.PixelSpacing, one.SliceThickness = [0.75, 0.75], 2.5
    one.Rows, one.Columns = 6, 8
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    for keyword, value in tags.items():
        if value is None:
            if keyword in one:
                delattr(one, keyword)
        else:
            setattr(one, keyword, value)
    if "PixelData" not in one and tags.get("PixelData", "") is not None:
        size = (one.get("Rows") or 0) * (one.get("Columns") or 0) * (one.SamplesPerPixel or 1)
        pixels = np.random.default_rng(number).integers(0, 2000, size, np.uint16)
        one.PixelData = pixels.tobytes() if one.BitsAllocated == 16 else pixels.astype(np.uint8).tobytes()
    return one


def ct_series(slices: int = 12, step_mm: float = 2.5, **tags: object) -> list[Dataset]:
    """Axial slices in ascending z; keyword arguments hold for each of them."""
    return [ct_slice(number + 1, (-3.0, -2.0, 100.0 + number * step_mm), **tags) for number in range(slices)]


def move(slices: Iterable[Dataset], shift) -> None:
    """Move each slice by `shift(index)` millimetres."""
    for number, one in enumerate(slices):
        moved = np.array(one.ImagePositionPatient, dtype=float) + np.asarray(shift(number))
        one.ImagePositionPatient = [f"{value:.10g}" for value in moved]


def enhanced_ct(frames: int = 6, step_mm: float = 2.0, patient: str = "P1", phases: int = 1) -> Dataset:
    one = base("enhanced", EnhancedCTImageStorage, "CT", "enhanced", patient)
    one.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    one.Rows, one.Columns, one.NumberOfFrames = 6, 8, frames * phases
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=list(AXIAL))]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[0.75, 0.75], SliceThickness=step_mm)]
    shared.PixelValueTransformationSequence = [
        _item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    ]
    shared.CTReconstructionSequence = [_item(ConvolutionKernel="B30")]
    one.SharedFunctionalGroupsSequence = [shared]
    one.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=[0, 0, frame * step_mm])],
            FrameContentSequence=[_item(TemporalPositionIndex=phase + 1)],
        )
        for phase in range(phases)
        for frame in reversed(range(frames))
    ]
    one.PixelData = np.zeros((frames * phases, 6, 8), np.uint16).tobytes()
    return one


def seg(
    ct: Sequence[Dataset],
    labels: Sequence[str] = ("GTV-1",),
    lit: Sequence[np.ndarray] | None = None,
    patient: str = "P1",
    name: str = "seg",
) -> Dataset:
    """A BINARY SEG with every CT slice as a frame of every segment; `lit` holds (slices, rows, columns)."""
    first = ct[0]
    rows, columns = first.Rows, first.Columns
    if lit is None:
        mask = np.zeros((len(ct), rows, columns), bool)
        mask[2:5, 2:4, 3:6] = True
        lit = [mask] * len(labels)
    one = base(name, SegmentationStorage, "SEG", name, patient)
    one.Rows, one.Columns, one.NumberOfFrames = rows, columns, len(ct) * len(labels)
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 1
    one.HighBit = one.PixelRepresentation = 0
    one.SegmentationType, one.FrameOfReferenceUID = "BINARY", first.FrameOfReferenceUID
    one.SegmentSequence = [
        _item(
            SegmentNumber=number + 1,
            SegmentLabel=label,
            SegmentAlgorithmType="MANUAL",
            SegmentedPropertyTypeCodeSequence=[_code("SCT", "108369006", "Neoplasm")],
            SegmentedPropertyCategoryCodeSequence=[_code("SCT", "49755003", "Morphologic abnormality")],
        )
        for number, label in enumerate(labels)
    ]
    one.ReferencedSeriesSequence = [
        _item(
            SeriesInstanceUID=first.SeriesInstanceUID,
            ReferencedInstanceSequence=[
                _item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=image.SOPInstanceUID)
                for image in ct
            ],
        )
    ]
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=list(first.ImageOrientationPatient))]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=list(first.PixelSpacing), SliceThickness=2.5)]
    one.SharedFunctionalGroupsSequence = [shared]
    one.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=list(image.ImagePositionPatient))],
            SegmentIdentificationSequence=[_item(ReferencedSegmentNumber=number + 1)],
        )
        for number in range(len(labels))
        for image in ct
    ]
    bits = np.concatenate([mask.reshape(-1) for mask in lit])
    packed = np.packbits(bits, bitorder="little").tobytes()
    one.PixelData = packed + b"\0" * (len(packed) % 2)
    return one


def rtstruct(ct: Sequence[Dataset], rois: Sequence[str] = ("GTVp",), patient: str = "P1") -> Dataset:
    """A structure set with one square contour for each ROI on slices 2 to 4."""
    one = base("rtstruct", RTStructureSetStorage, "RTSTRUCT", "rtstruct", patient)
    one.StructureSetROISequence = [
        _item(ROINumber=number + 1, ROIName=name, ReferencedFrameOfReferenceUID=ct[0].FrameOfReferenceUID)
        for number, name in enumerate(rois)
    ]
    one.ROIContourSequence = [
        _item(
            ReferencedROINumber=number + 1,
            ContourSequence=[
                _item(
                    ContourGeometricType="CLOSED_PLANAR",
                    ContourData=[
                        value
                        for x, y in ((-2, -1), (0, -1), (0, 1), (-2, 1))
                        for value in (x, y, float(image.ImagePositionPatient[2]))
                    ],
                    ContourImageSequence=[
                        _item(
                            ReferencedSOPClassUID=CTImageStorage,
                            ReferencedSOPInstanceUID=image.SOPInstanceUID,
                        )
                    ],
                )
                for image in ct[2:5]
            ],
        )
        for number in range(len(rois))
    ]
    return one


def write(folder: Path, datasets: Iterable[Dataset]) -> Path:
    """Write each data set as a file; the names say nothing and are not in the slices' order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(datasets):
        one.preamble = bytes(128)
        name = hashlib.sha256(f"{one.get('SOPInstanceUID') or number}".encode()).hexdigest()[:16]
        one.save_as(folder / f"{name}.dcm")
    return folder


def grouped(folder: Path, datasets: Iterable[Dataset], **settings: object) -> list[Series]:
    """Write, scan and group; settings are those of `audit:`."""
    return series.group(scanned(folder, datasets), AuditSettings(**settings))


def scanned(folder: Path, datasets: Iterable[Dataset]) -> pl.DataFrame:
    write(folder, datasets)
    return index.scan(folder, root=folder, workers=1)


def only_ct(found: list[Series]) -> Series:
    (one,) = [series for series in found if series.kind == "ct"]
    return one


def _item(**tags: object) -> Dataset:
    one = Dataset()
    for keyword, value in tags.items():
        setattr(one, keyword, value)
    return one


def _code(scheme: str, value: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)

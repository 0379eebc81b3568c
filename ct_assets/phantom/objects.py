"""DICOM objects of a visit: CT slices, a localizer, a screenshot, a medium's directory; and writing them.

Belongs here: pixels, geometry and file format of an object. Does not: the identities in it
(`phantom.headers`), mask objects (`phantom.masks`).
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
)

from ct_assets.imaging.volume import Grid
from ct_assets.phantom import headers
from ct_assets.phantom.people import Person
from ct_assets.phantom.scanner import Scanner, stored_values

IMPLEMENTATION_UID = UID("2.25.48370563164803325187311012470346170993")


def ct_slices(
    study: Dataset, series: Dataset, scanner: Scanner, grid: Grid, hu: npt.NDArray[np.int16], seed: str
) -> list[Dataset]:
    """Return one dataset a slice, in the order of the grid's slices, pixels uncompressed."""
    orientation = [_decimal(value) for value in grid.direction[:, :2].T.ravel()]
    spacing = grid.spacing_mm
    slices = []
    for k in range(grid.shape[0]):
        slice_ = headers.joined(study, series)
        position = grid.world(np.array([0.0, 0.0, float(k)]))
        slice_.SOPClassUID = CTImageStorage
        slice_.SOPInstanceUID = headers.uid(seed, "slice", k)
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        for keyword in ("InstanceCreation", "Series", "Acquisition", "Content"):
            setattr(slice_, f"{keyword}Date", study.StudyDate)
            setattr(slice_, f"{keyword}Time", study.StudyTime)
        slice_.InstanceNumber = k + 1
        slice_.ImagePositionPatient = [_decimal(value) for value in position]
        slice_.ImageOrientationPatient = orientation
        slice_.SliceLocation = _decimal(position[2])
        slice_.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
        slice_.WindowCenter, slice_.WindowWidth = "40", "400"
        slice_.RescaleIntercept, slice_.RescaleSlope, slice_.RescaleType = str(scanner.intercept), "1", "HU"
        if scanner.padding is not None:
            slice_.add_new(0x00280120, "SS", scanner.padding)
        _set_pixels(slice_, stored_values(scanner, hu[k]), scanner.bits_stored)
        set_file_meta(slice_, scanner.transfer_syntax)
        slices.append(slice_)
    return slices


def localizer(
    study: Dataset, series: Dataset, scanner: Scanner, hu: npt.NDArray[np.int16], seed: str
) -> Dataset:
    """Return the scout of a visit, a coronal projection in a series of its own."""
    scout = headers.joined(study, series)
    scout.SOPClassUID = CTImageStorage
    scout.SOPInstanceUID = headers.uid(seed, "localizer")
    scout.SeriesInstanceUID = headers.uid(seed, "localizer series")
    scout.SeriesNumber, scout.InstanceNumber = 1, 1
    scout.SeriesDescription = "Topogram"
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.ContentDate, scout.ContentTime = study.StudyDate, study.StudyTime
    scout.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
    scout.ImagePositionPatient = ["-170", "0", "90"]
    spacing = scanner.field_of_view_mm / scanner.matrix
    scout.PixelSpacing = [_decimal(scanner.step_mm), _decimal(spacing)]
    scout.RescaleIntercept, scout.RescaleSlope, scout.RescaleType = str(scanner.intercept), "1", "HU"
    projection = np.rint(hu.mean(axis=1)).astype(np.int16)[::-1]
    _set_pixels(scout, stored_values(scanner, projection), scanner.bits_stored)
    set_file_meta(scout, scanner.transfer_syntax)
    return scout


def screenshot(study: Dataset, person: Person, seed: str) -> Dataset:
    """Return a secondary capture with the patient's name burned into its pixels."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("L", (360, 160), 20)
    draw = ImageDraw.Draw(canvas)
    draw.text((12, 20), f"{person.family} {person.given}", fill=235, font=ImageFont.load_default(26))
    draw.text((12, 62), f"born {person.birth_date}", fill=235, font=ImageFont.load_default(22))
    draw.text((12, 100), f"{person.mrn}", fill=235, font=ImageFont.load_default(22))
    shot = headers.joined(study)
    shot.SOPClassUID = SecondaryCaptureImageStorage
    shot.SOPInstanceUID = headers.uid(seed, "screenshot")
    shot.SeriesInstanceUID = headers.uid(seed, "screenshot series")
    shot.Modality, shot.ConversionType = "OT", "WSD"
    shot.SeriesNumber, shot.InstanceNumber = 900, 1
    shot.SeriesDescription = "Dose page"
    shot.ImageType = ["DERIVED", "SECONDARY"]
    shot.BurnedInAnnotation = "YES"
    shot.ContentDate, shot.ContentTime = study.StudyDate, study.StudyTime
    pixels = np.asarray(canvas)
    shot.SamplesPerPixel, shot.PhotometricInterpretation = 1, "MONOCHROME2"
    shot.Rows, shot.Columns = pixels.shape
    shot.BitsAllocated = shot.BitsStored = 8
    shot.HighBit, shot.PixelRepresentation = 7, 0
    shot.PixelData = pixels.tobytes()
    set_file_meta(shot, ExplicitVRLittleEndian)
    return shot


def media_directory(person: Person, study: Dataset, seed: str) -> Dataset:
    """Return a DICOMDIR: no image, and it names the patient."""
    patient, visit = Dataset(), Dataset()
    patient.OffsetOfTheNextDirectoryRecord = patient.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    patient.RecordInUseFlag, patient.DirectoryRecordType = 0xFFFF, "PATIENT"
    patient.PatientName, patient.PatientID = person.name, person.patient_id
    visit.OffsetOfTheNextDirectoryRecord = visit.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    visit.RecordInUseFlag, visit.DirectoryRecordType = 0xFFFF, "STUDY"
    visit.StudyInstanceUID, visit.StudyDate, visit.StudyID = (
        study.StudyInstanceUID,
        study.StudyDate,
        study.StudyID,
    )
    directory = Dataset()
    directory.SpecificCharacterSet = study.SpecificCharacterSet
    directory.FileSetID = "EXPORT"
    directory.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    directory.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    directory.FileSetConsistencyFlag = 0
    directory.DirectoryRecordSequence = [patient, visit]
    directory.SOPClassUID, directory.SOPInstanceUID = (
        MediaStorageDirectoryStorage,
        headers.uid(seed, "DICOMDIR"),
    )
    set_file_meta(directory, ExplicitVRLittleEndian)
    del directory.SOPClassUID, directory.SOPInstanceUID
    return directory


def save(dataset: Dataset, path: Path) -> None:
    """Write a file in the transfer syntax that its file meta names, compressing the pixels for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and "PixelData" in dataset and not getattr(dataset, "is_encoded", False):
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(syntax, generate_instance_uid=False)
    pydicom.dcmwrite(
        path,
        dataset,
        implicit_vr=dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian,
        little_endian=True,
        enforce_file_format=True,
    )


def _set_pixels(dataset: Dataset, pixels: npt.NDArray[np.int16 | np.uint16], bits_stored: int) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(pixels.dtype == np.int16)
    dataset.add_new(0x7FE00010, "OW", pixels.tobytes())


def set_file_meta(dataset: Dataset, transfer_syntax: UID) -> None:
    """Give a dataset the file meta information (PS3.10 7.1) of its own class, UID and transfer syntax."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = "PHANTOM_1"
    dataset.file_meta = meta


def _decimal(value: float) -> str:
    """Write a number as DS, at most 16 characters (PS3.5 6.2), enough digits for 0.001 mm and better."""
    return f"{round(float(value), 7):.10g}"

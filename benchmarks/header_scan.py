"""Header scan against its peers in one run: `python benchmarks/header_scan.py [FOLDER] [--files 600]`.

Without a folder, a CT-like tree is written to a temporary one: 512 x 512 slices with some 110 elements,
sequences and private blocks among them. Every reader is given the same files, warm in the page cache, in one
process; CPU seconds (user + system) are the best of several rounds, imports not counted.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ct_assets.dicom import elements, header, index

ROUNDS = 5
TARGET = 1.5


def make_tree(folder: Path, files: int) -> None:
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    pixels = np.random.default_rng(0).integers(0, 4000, (512, 512), np.uint16).tobytes()
    for number in range(files):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.Modality, one.PatientID, one.PatientName = "CT", "PATIENT-1", "Phantom^Some"
        one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = "20240101"
        one.StudyTime = one.SeriesTime = one.AcquisitionTime = one.ContentTime = (
            f"{10 + number // 3600 % 10}{number // 60 % 60:02d}{number % 60:02d}.5"
        )
        one.Manufacturer, one.ManufacturerModelName, one.SoftwareVersions = "Maker", "Scanner 64", ["a", "b"]
        one.InstitutionName, one.StudyDescription, one.SeriesDescription = "Clinic", "Chest", "Lung 1.0"
        one.ImagePositionPatient = [-250.0, -250.0, round(-300 + number * 1.25, 3)]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness, one.SpacingBetweenSlices = [0.9765625, 0.9765625], 1.25, 1.25
        one.Rows = one.Columns = 512
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, -1024, "HU"
        one.KVP, one.Exposure, one.ExposureTime, one.XRayTubeCurrent = 120, 100, 500, 200 + number % 50
        one.ConvolutionKernel, one.FilterType, one.ScanOptions = "LUNG", "BODY", "HELICAL"
        one.GantryDetectorTilt, one.TableHeight, one.ReconstructionDiameter = 0, 150.5, 500
        one.DataCollectionDiameter, one.PatientPosition, one.BodyPartExamined = 500, "HFS", "CHEST"
        one.AcquisitionNumber, one.SeriesNumber, one.InstanceNumber = 1, 3, number + 1
        one.SpiralPitchFactor, one.CTDIvol, one.PatientAge, one.PatientSex = 1.375, 7.5, "061Y", "F"
        one.WindowCenter, one.WindowWidth = [40, -600], [400, 1500]
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, generate_uid()
        one.ReferencedImageSequence = [reference, reference]
        request = Dataset()
        request.RequestedProcedureDescription, request.ScheduledProcedureStepID = "Chest", "1"
        one.RequestAttributesSequence = [request]
        for group in (0x0009, 0x0019, 0x0027, 0x0043):
            block = one.private_block(group, f"MAKER_{group:04X}", create=True)
            for element in range(12):
                block.add_new(element, "LO", f"value {element} {number}")
        one.PixelData = pixels
        one.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)


def best_cpu_s(work: Callable[[], object]) -> float:
    found = []
    for _ in range(ROUNDS):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


def with_gdcm(paths: list[str], tags: list[int]) -> None:
    scanner = gdcm.Scanner()
    for tag in tags:
        scanner.AddTag(gdcm.Tag(tag >> 16, tag & 0xFFFF))
    if not scanner.Scan(paths):
        raise RuntimeError("gdcm did not scan")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("folder", type=Path, nargs="?")
    options.add_argument("--files", type=int, default=600)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        if chosen.folder is None:
            make_tree(folder, chosen.files)
        compare(folder)


def compare(folder: Path) -> None:
    paths = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    paths = [path for path in paths if pydicom.misc.is_dicom(path)]
    tags = sorted(header.WANTED)

    def floor() -> None:
        for path in paths:
            with open(path, "rb") as opened:  # noqa: PTH123
                opened.read(elements.FIRST_READ_BYTES)

    def own() -> None:
        for path in paths:
            elements.read_header(path, header.WANTED)

    def with_pydicom(**arguments: object) -> Callable[[], None]:
        def read() -> None:
            for path in paths:
                pydicom.dcmread(path, stop_before_pixels=True, **arguments)

        return read

    peers: dict[str, Callable[[], object]] = {
        "floor: open and read 12 KiB": floor,
        f"gdcm.Scanner, {len(tags)} tags, values as text": lambda: with_gdcm(paths, tags),
        "own walker, raw values": own,
        "dicom.index.scan, typed table": lambda: index.scan(folder, root=folder, workers=1),
        "pydicom before pixels, wanted tags": with_pydicom(specific_tags=tags),
        "pydicom before pixels, all raw": with_pydicom(),
    }
    times = {name: best_cpu_s(work) for name, work in peers.items()}
    scanner = next(seconds for name, seconds in times.items() if name.startswith("gdcm"))
    print(f"{len(paths)} files, best of {ROUNDS} rounds")
    print(f"{'reader':46s} {'CPU s':>8s} {'files/s':>9s} {'x gdcm':>7s}")
    for name, seconds in times.items():
        print(f"{name:46s} {seconds:8.3f} {len(paths) / seconds:9.0f} {seconds / scanner:7.2f}")
    print(f"aim: dicom.index.scan at most {TARGET} x gdcm.Scanner")


if __name__ == "__main__":
    main()

"""Large masks: CPU seconds and peak memory of `convert`, beside a floor, all in one run.

    python benchmarks/masks.py [--share 1.0]

Two inputs: a BINARY SEG of 60 segments on 300 slices of 128 x 128, and a structure set of 200 ROIs with 100
contours of 1,000 points each on 100 slices of 256 x 256. Every row is a process of its own; CPU seconds are those
beyond a process that converts a series of three slices. The floor reads what has to be read: for the SEG every
frame unpacked, for the structure set every number as a float.
"""

import argparse
import multiprocessing
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

CONVERT = (
    "import sys, pathlib; from ct_assets.imaging.convert_tree import convert; "
    "from ct_assets.settings import Settings; "
    "convert(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), Settings(), workers=1)"
)
FLOORS = {
    "segments": "import sys, pathlib, numpy, pydicom\n"
    "ds = pydicom.dcmread(pathlib.Path(sys.argv[1]) / 'mask', stop_before_pixels=False)\n"
    "bits = numpy.unpackbits(numpy.frombuffer(ds.PixelData, numpy.uint8), bitorder='little')\n"
    "[numpy.flatnonzero(frame) for frame in bits.reshape(-1, ds.Rows * ds.Columns)]",
    "contours": "import sys, pathlib, numpy\n"
    "content = (pathlib.Path(sys.argv[1]) / 'mask').read_bytes()\n"
    "for part in content.split(b'CLOSED_PLANAR')[1:]:\n"
    "    text = part[part.index(b'\\\\') - 7 :].split(b'\\\\')[1:2990]\n"
    "    numpy.array(text, dtype=float)",
}
SEG, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"


def item(**elements: object) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def base(sop_class: str, modality: str, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    ds = item(SOPClassUID=sop_class, SOPInstanceUID=generate_uid(), Modality=modality, PatientID="P")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
        sop_class,
        ds.SOPInstanceUID,
    )
    return ds


def series(folder: Path, count: int, size: int) -> list[Dataset]:
    folder.mkdir(parents=True)
    study, uid, frame = generate_uid(), generate_uid(), generate_uid()
    slices = []
    for k in range(count):
        ds = base(CTImageStorage, "CT")
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, uid, frame
        ds.ImageType, ds.ImagePositionPatient = ["ORIGINAL", "PRIMARY", "AXIAL"], [0, 0, k]
        ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness = [1, 0, 0, 0, 1, 0], [1, 1], 1
        ds.Rows = ds.Columns = size
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
        ds.PixelData = np.full((size, size), 1000, np.uint16).tobytes()
        ds.save_as(folder / f"{k:04d}", enforce_file_format=True)
        slices.append(ds)
    return slices


def mask_of(slices: list[Dataset], sop_class: str, modality: str, syntax: str) -> Dataset:
    ds = base(sop_class, modality, syntax)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = slices[0].StudyInstanceUID, generate_uid()
    return ds


def segments(folder: Path, share: float) -> None:
    slices, count = series(folder, 300, 128), max(int(60 * share), 1)
    ds = mask_of(slices, SEG, "SEG", ExplicitVRLittleEndian)
    ds.FrameOfReferenceUID, ds.SegmentationType = slices[0].FrameOfReferenceUID, "BINARY"
    ds.Rows = ds.Columns = 128
    ds.NumberOfFrames, ds.SamplesPerPixel, ds.PhotometricInterpretation = 300 * count, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1, 1, 0, 0
    ds.SegmentSequence = [item(SegmentNumber=n + 1, SegmentLabel=f"segment {n + 1}") for n in range(count)]
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=1)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    )
    ds.SharedFunctionalGroupsSequence = [shared]
    frames, pixels = [], np.zeros((count, 300, 128, 128), np.uint8)
    for n in range(count):
        row, column = 4 + n // 10 * 20, 4 + n % 10 * 12
        pixels[n, :, row : row + 15, column : column + 9] = 1
        for one in slices:
            source = item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=one.SOPInstanceUID)
            frames.append(
                item(
                    DerivationImageSequence=[item(SourceImageSequence=[source])],
                    PlanePositionSequence=[item(ImagePositionPatient=one.ImagePositionPatient)],
                    SegmentIdentificationSequence=[item(ReferencedSegmentNumber=n + 1)],
                )
            )
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    ds.PixelData = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    ds.save_as(folder / "mask", enforce_file_format=True)


def contours(folder: Path, share: float) -> None:
    slices, count = series(folder, 100, 256), max(int(200 * share), 1)
    ds = mask_of(slices, RTSTRUCT, "RTSTRUCT", ImplicitVRLittleEndian)
    reference = item(SeriesInstanceUID=slices[0].SeriesInstanceUID)
    study = item(RTReferencedSeriesSequence=[reference])
    frame = slices[0].FrameOfReferenceUID
    ds.ReferencedFrameOfReferenceSequence = [
        item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])
    ]
    ds.StructureSetROISequence = [
        item(ROINumber=n + 1, ROIName=f"R{n}", ReferencedFrameOfReferenceUID=frame) for n in range(count)
    ]
    angle, rois = np.linspace(0, 2 * np.pi, 1000, endpoint=False), []
    for n in range(count):
        x, y = 20 + 11 * (n % 20) + 9.3 * np.cos(angle), 20 + 22 * (n // 20) + 9.3 * np.sin(angle)
        points = [f"{a:.2f}\\{b:.2f}\\" for a, b in zip(x, y, strict=True)]
        several = []
        for k in range(100):
            text = "".join(f"{point}{k}\\" for point in points)[:-1].encode()
            one = item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=1000)
            one.add_new(0x30060050, "OB", text + b" " * (len(text) % 2))
            several.append(one)
        rois.append(item(ReferencedROINumber=n + 1, ContourSequence=several))
    ds.ROIContourSequence = Sequence(rois)
    ds.save_as(folder / "mask", enforce_file_format=True)


def measure(script: str, *arguments: Path) -> tuple[float, float]:
    """Run a script; return CPU seconds and peak memory in MiB."""
    code = (
        f"{script}\nimport resource\nu = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('used', u.ru_utime + u.ru_stime, u.ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    _, cpu, memory = done.stdout.splitlines()[-1].split()
    return float(cpu), float(memory)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=1.0)
    share = parser.parse_args().share
    print(f"pydicom {pydicom.__version__}, {resource.getpagesize()} bytes a page")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        series(work / "tiny", 3, 8)
        start, _ = measure(CONVERT, work / "tiny", work / "out_tiny")
        for name, make in (("segments", segments), ("contours", contours)):
            # Apart, as the peak memory of a child counts from its parent's.
            maker = multiprocessing.get_context("spawn").Process(target=make, args=(work / name, share))
            maker.start()
            maker.join()
            cpu, memory = measure(CONVERT, work / name, work / f"out_{name}")
            floor, _ = measure(FLOORS[name], work / name)
            shutil.rmtree(work / name)
            print(f"{name:9} {cpu - start:6.1f} s CPU, {memory:5.0f} MiB; floor {floor:.1f} s")


if __name__ == "__main__":
    main()

"""De-identification beside its peers: CPU seconds on one core, start-up subtracted, all in one run.

    python benchmarks/deid_engine.py [--instances 200] [--folder DIR]

Rows: bare pydicom read-and-write (the floor), dicognito, dicom-anonymizer (where installed: the extra
`bench`), this project's steps. Two kinds of files: 512 x 512 CT slices of some 45 elements, and headers of
some 260 elements. Every row reads files and writes files.
"""

import argparse
import contextlib
import io
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from ct_assets.deid.key import SecretKey
from ct_assets.deid.run import deidentify
from ct_assets.layout import DeidPaths
from ct_assets.progress import Timings, lines_to
from ct_assets.settings.deid import DeidProfile

KEY = SecretKey(bytes(range(32)))


def make_slices(folder: Path, count: int) -> None:
    """512 x 512 slices of five patients with an ordinary header."""
    noise = np.random.default_rng(1)
    row, column = np.mgrid[-256:256, -256:256]
    body = (row**2 / 150**2 + column**2 / 220**2 < 1).astype(np.float64)
    for n in range(count):
        patient = n * 5 // count
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        values = {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SOPInstanceUID": generate_uid(),
            "StudyInstanceUID": f"1.2.3.{patient}.1", "SeriesInstanceUID": f"1.2.3.{patient}.2",
            "FrameOfReferenceUID": f"1.2.3.{patient}.3", "Modality": "CT", "StudyDate": "20200117",
            "SeriesDate": "20200117", "AcquisitionDate": "20200117", "ContentDate": "20200117",
            "StudyTime": "101112", "AccessionNumber": f"ACC8812{patient}", "Manufacturer": "Orbweaver",
            "InstitutionName": "Example Hospital North", "ReferringPhysicianName": "Thistle^Basil",
            "StudyDescription": f"CT Thorax Quennel{patient}", "SeriesDescription": "Thorax 3.0 B30f",
            "PatientName": f"Quennel{patient}^Ottoline", "PatientID": f"QX44710{patient}",
            "PatientBirthDate": "19610417", "PatientSex": "F", "PatientAge": "058Y", "KVP": "120",
            "SliceThickness": "3", "SpacingBetweenSlices": "3", "DeviceSerialNumber": "SN7026038",
            "ProtocolName": "Thorax", "ConvolutionKernel": "B30f", "PatientPosition": "HFS",
            "StudyID": "S1", "SeriesNumber": "2", "InstanceNumber": str(n), "RescaleIntercept": "-1024",
            "RescaleSlope": "1", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "ImagePositionPatient": ["-250", "-250", str(n)],
            "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"], "PixelSpacing": ["0.97", "0.97"],
            "Rows": 512, "Columns": 512, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11,
            "PixelRepresentation": 0, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
            "PixelData": (1000 * body + noise.normal(24, 6, (512, 512))).clip(0).astype(np.uint16).tobytes(),
        }  # fmt: skip
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset["PixelData"].VR = "OW"
        dataset.save_as(folder / f"{n:05d}.dcm", enforce_file_format=True)


def make_headers(folder: Path, count: int) -> None:
    """pydicom's CT_small with its 262 elements, private ones among them."""
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    for n in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber = str(n)
        dataset.save_as(folder / f"{n:05d}.dcm", enforce_file_format=True)


def bare(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.save_as(target / path.name)


def materialised(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()):
        dataset = pydicom.dcmread(path)
        for _ in dataset.iterall():
            pass
        dataset.save_as(target / path.name)


def read_twice(source: Path, target: Path) -> None:  # noqa: ARG001 - called like the others
    for _ in range(2):
        for path in sorted(source.iterdir()):
            pydicom.dcmread(path)


def dicognito(source: Path, target: Path) -> None:
    from dicognito.anonymizer import Anonymizer

    anonymizer = Anonymizer(seed="bench")
    for path in sorted(source.iterdir()):
        dataset = pydicom.dcmread(path)
        anonymizer.anonymize(dataset)
        dataset.save_as(target / path.name)


def dicom_anonymizer(source: Path, target: Path) -> None:
    from dicomanonymizer import anonymize_dicom_file

    for path in sorted(source.iterdir()):
        anonymize_dicom_file(str(path), str(target / path.name))


def cpu_seconds(work: Callable[[Path, Path], None], source: Path) -> float | None:
    """CPU seconds of the second of two runs; None where the peer is not installed."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                work(source, Path(folder))
                started = time.process_time()
                work(source, Path(folder))
        except ImportError:
            return None
        return time.process_time() - started


def our_steps(source: Path, workers: int) -> tuple[dict[str, float], float]:
    """CPU seconds by step, and wall seconds of the whole."""
    for _ in range(2):  # the first run warms caches and loads the table
        with tempfile.TemporaryDirectory(dir=source.parent) as folder, lines_to(lambda _: None):
            timings = Timings()
            started = time.perf_counter()
            deidentify(
                source,
                DeidPaths.of_command(Path(folder)),
                DeidProfile(),
                KEY,
                workers=workers,
                timings=timings,
            )
            wall = time.perf_counter() - started
    return {str(step["step"]): float(str(step["cpu_s"])) for step in timings.steps}, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    root = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        for title, make in (("512 x 512 CT slices", make_slices), ("headers of 262 elements", make_headers)):
            source = root / make.__name__
            source.mkdir()
            make(source, options.instances)
            report(title, source, options.instances)
    finally:
        shutil.rmtree(root)


def report(title: str, source: Path, count: int) -> None:
    floor = cpu_seconds(bare, source) or 1.0
    rows: list[tuple[str, float | None]] = [
        ("pydicom read and write", floor),
        ("  every element materialised", cpu_seconds(materialised, source)),
        ("  read twice", cpu_seconds(read_twice, source)),
        ("dicognito", cpu_seconds(dicognito, source)),
        ("dicom-anonymizer", cpu_seconds(dicom_anonymizer, source)),
    ]
    steps, _ = our_steps(source, 1)
    ours = steps["inventory"] + steps["deidentify"]
    rows += [
        ("ours: inventory (SHA-256, identifiers)", steps["inventory"]),
        ("ours: de-identification, audit, UID map", steps["deidentify"]),
        ("ours: both", ours),
        ("ours: burned-in text", steps["burned_in"]),
        ("ours: leak scan", steps["leak_scan"]),
    ]
    print(f"\n{title}, {count} files, CPU of one core")
    print(f"{'':42}{'ms/file':>9}{'files/s':>9}{'of floor':>10}")
    for name, seconds in rows:
        if seconds is None:
            print(f"{name:42}{'not installed':>28}")
        else:
            rate = count / max(seconds, 1e-9)
            print(f"{name:42}{1000 * seconds / count:9.2f}{rate:9.0f}{floor / max(seconds, 1e-9):10.2f}")
    walls = {workers: our_steps(source, workers)[1] for workers in (1, 2)}
    print(
        f"wall seconds, one worker {walls[1]:.2f}, two {walls[2]:.2f}: {walls[1] / walls[2]:.2f} times as fast"
    )


if __name__ == "__main__":
    main()

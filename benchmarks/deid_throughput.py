"""De-identification beside its peers: CPU seconds a file with start-up subtracted, all in one run.

    python benchmarks/deid_throughput.py [--slices 400] [--headers 800] [--wall 2000] [--rounds 3] [--peers PYTHON]
    python benchmarks/deid_throughput.py --folder FOLDER [--slices 400] [--rounds 3] [--peers PYTHON]

Two inputs are made: 512 x 512 CT slices with some 40 elements, and headers of some 260 elements (pydicom's
own `CT_small.dcm` under new UIDs). Every contestant is a process of its own on the same warm files; its CPU
seconds (user + system) are lessened by those of the same process on two files; the contestants take turns,
and of the rounds the least counts. Rows: `dcmread` alone; read and write, untouched; the SHA-256 of every
file, which the table of files holds and no peer makes; dicognito 0.19; dicom-anonymizer 2.1.0 (where
`--peers`, by default this Python, has them); this project with audit and UID map, split into its steps. Then
`--wall` files with one and with two workers: wall seconds of the steps. With `--folder` nothing is made: the
first `--slices` DICOM files below that folder are the input, as burned-in screening costs more on real slices.
The rates of a peer that leaves out audit, UID map and leak scan are shown as they are.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.misc import is_dicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

LIST = "import sys, pathlib; paths = sorted(pathlib.Path(sys.argv[1]).iterdir()); out = pathlib.Path(sys.argv[2])\n"
CONTESTANTS = {
    "dcmread": LIST + "import pydicom\nfor p in paths: pydicom.dcmread(p)",
    "dcmread + save_as": LIST + "import pydicom\nfor p in paths: pydicom.dcmread(p).save_as(out / p.name)",
    "SHA-256": LIST + "import hashlib\nfor p in paths: hashlib.sha256(p.read_bytes()).digest()",
    "dicognito": LIST
    + """
import pydicom
from dicognito.anonymizer import Anonymizer
anonymizer = Anonymizer(seed="benchmark")
for p in paths:
    with pydicom.dcmread(p) as dataset:
        anonymizer.anonymize(dataset)
        dataset.save_as(out / p.name)
""",
    "dicom-anonymizer": LIST
    + """
from dicomanonymizer import anonymize_dicom_file
for p in paths: anonymize_dicom_file(str(p), str(out / p.name))
""",
    "ct-assets deid": """
import json, sys, pathlib
from ct_assets.identity.key import SecretKey
from ct_assets.deid.batch.run import deidentify
from ct_assets.layout import DeidPaths
from ct_assets.progress import Timings, lines_to
from ct_assets.settings.deid import DeidProfile
if __name__ == "__main__":
    out, timings = pathlib.Path(sys.argv[2]), Timings()
    with lines_to(lambda line: None):
        deidentify(pathlib.Path(sys.argv[1]), DeidPaths.of_command(out), DeidProfile(), SecretKey(bytes(range(32))),
                   workers=int(sys.argv[3]), timings=timings)
    print(json.dumps(timings.steps))
""",
}
PEERS = ("dicognito", "dicom-anonymizer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--headers", type=int, default=800)
    parser.add_argument("--wall", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--folder", type=Path, help="real slices to take instead of made ones")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deid-benchmark-") as folder:
        root = Path(folder)
        if given.folder:
            many, few = root / "many", root / "few"
            count = copy_slices(given.folder, many, given.slices)
            copy_slices(given.folder, few, 2)
            report(
                f"{count} slices of a folder", many, few, count - 2, root / "out", given.rounds, given.peers
            )
            return
        for what, make, count in (
            ("CT slices, 512 x 512", make_slices, given.slices),
            ("headers of 260 elements", make_headers, given.headers),
        ):
            many, few = root / "many", root / "few"
            for target, number in ((many, count), (few, 2)):
                fresh(target)
                make(target, number)
            report(f"{count} {what}", many, few, count - 2, root / "out", given.rounds, given.peers)
            fresh(many)
            make(many, given.wall)
            walls = [min(wall(many, root / "out", workers) for _ in range(2)) for workers in (1, 2)]
            told = f"one worker {walls[0]:.2f} s, two {walls[1]:.2f} s, {walls[0] / walls[1]:.2f} times"
            print(f"{given.wall} of them: {told}")


def fresh(folder: Path) -> None:
    """Make an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def copy_slices(source: Path, target: Path, most: int) -> int:
    """Copy the first DICOM files below a folder; return how many there are."""
    fresh(target)
    slices = (path for path in sorted(source.rglob("*")) if path.is_file() and is_dicom(path))
    count = 0
    for count, path in enumerate(islice(slices, most), start=1):
        shutil.copyfile(path, target / f"IM{count:06d}")
    return count


def make_slices(folder: Path, count: int) -> None:
    """Write slices of one study: a body of smooth tissue with noise, identifiers in the header."""
    noise, study, series, frame = np.random.default_rng(1), generate_uid(), generate_uid(), generate_uid()
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    body = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 1064.0, 24.0)
    for number in range(count):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, generate_uid()
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.PatientName, slice_.PatientID, slice_.PatientBirthDate = (
            "Quillmereth^Oswin",
            "HX4829137",
            "19610314",
        )
        slice_.PatientSex, slice_.PatientAge, slice_.Modality = "M", "059Y", "CT"
        slice_.StudyDate = slice_.SeriesDate = slice_.AcquisitionDate = slice_.ContentDate = "20200117"
        slice_.StudyTime = slice_.ContentTime = "101112"
        slice_.AccessionNumber, slice_.StudyID = "ACC77123409", "S812301"
        slice_.StudyDescription, slice_.SeriesDescription = "CT Thorax Quillmereth", "Thorax 3.0 Br40"
        slice_.ReferringPhysicianName, slice_.InstitutionName = "Thorninger^Ottoline", "Kraghaven Infirmary"
        slice_.StationName, slice_.DeviceSerialNumber = "BRAMCT404", "SN5645496"
        slice_.Manufacturer, slice_.ManufacturerModelName = "Orbweaver Imaging", "Heliotrope 64"
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        slice_.KVP, slice_.SliceThickness, slice_.ConvolutionKernel = "120", "1", "Br40"
        slice_.InstanceNumber, slice_.SeriesNumber, slice_.PatientPosition = str(number + 1), "2", "HFS"
        slice_.ImagePositionPatient = ["-180", "-180", str(number)]
        slice_.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        slice_.PixelSpacing = ["0.7", "0.7"]
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.Rows = slice_.Columns = 512
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 12, 11, 0
        slice_.RescaleIntercept, slice_.RescaleSlope = "-1024", "1"
        pixels = body + noise.normal(0, 15, body.shape)
        slice_.PixelData = np.clip(pixels, 0, 4095).astype(np.uint16).tobytes()
        slice_.save_as(folder / f"IM{number:06d}", enforce_file_format=True)


def make_headers(folder: Path, count: int) -> None:
    """Write copies of one slice with some 260 elements under SOP instance UIDs of their own."""
    slice_ = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    for number in range(count):
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_.save_as(folder / f"IM{number:06d}")


def report(title: str, many: Path, few: Path, files: int, out: Path, rounds: int, peers: str) -> None:
    """Run the contestants in turns and print a row for each."""
    print(f"\n{title}\n{'':34}{'ms/file':>9}{'files/s':>9}{'of read+write':>15}{'of dicognito':>14}")
    pythons = {name: peers if name in PEERS else sys.executable for name in CONTESTANTS}
    absent = [name for name in PEERS if not is_there(pythons[name], name)]
    start: dict[str, list[float]] = {}
    spent: dict[str, list[tuple[float, str]]] = {}
    for _ in range(rounds):
        for name, code in CONTESTANTS.items():
            if name not in absent:
                start.setdefault(name, []).append(cpu_s(pythons[name], code, few, out)[0])
                spent.setdefault(name, []).append(cpu_s(pythons[name], code, many, out))
    cost = {name: (min(spent[name])[0] - min(start[name])) / files for name in spent}
    for name in CONTESTANTS:
        print(row(name, cost[name], cost) if name in cost else f"{name:34}{'not installed':>18}")
    steps = json.loads(min(spent["ct-assets deid"])[1])
    total = sum(step["cpu_s"] for step in steps)
    for label, names in (
        ("  reading, de-identifying, audit", ("inventory", "deidentify")),
        ("  burned-in text", ("burned_in",)),
        ("  leak scan", ("leak_scan",)),
    ):
        share = sum(step["cpu_s"] for step in steps if step["step"] in names) / total
        print(row(label, cost["ct-assets deid"] * share, cost))


def is_there(python: str, peer: str) -> bool:
    """Whether that Python has the peer."""
    module = {"dicognito": "dicognito", "dicom-anonymizer": "dicomanonymizer"}[peer]
    return (
        subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
    )


def row(name: str, seconds: float, cost: dict[str, float]) -> str:
    def ratio(other: str) -> str:
        return f"{cost[other] / seconds:.2f}" if other in cost else "-"

    return f"{name:34}{seconds * 1e3:9.2f}{1 / seconds:9.0f}{ratio('dcmread + save_as'):>15}{ratio('dicognito'):>14}"


def cpu_s(python: str, code: str, folder: Path, out: Path, workers: int = 1) -> tuple[float, str]:
    """Run one process and return its CPU seconds, children included, and what it printed."""
    fresh(out)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(
        [python, "-W", "ignore", "-c", code, str(folder), str(out), str(workers)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ran.stdout.strip()


def wall(folder: Path, out: Path, workers: int) -> float:
    """Return the wall seconds of all steps of this project with so many workers."""
    script = out.with_name("ours.py")
    script.write_text(CONTESTANTS["ct-assets deid"])
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-W", "ignore", str(script), str(folder), str(out), str(workers)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return sum(step["wall_s"] for step in json.loads(ran.stdout) if step["step"] != "burned_in")


if __name__ == "__main__":
    main()

"""Folder to .nii.gz beside its peers: CPU seconds with start-up subtracted, all in one run.

    python benchmarks/conversion.py [FOLDER] [--slices 275] [--rounds 3] [--peers PYTHON]

Without a folder, one series of 512 x 512 slices of smooth tissue and noise is written to a temporary one.
Every contestant is a process of its own on the same warm files; its CPU seconds (user + system, least of the
rounds) are lessened by those of the same process that only starts and imports. Rows: the floor (decode and
compress with isal level 1, no checks), this project, dcm2niix with and without compression, SimpleITK and
dicom2nifti (where `--peers`, by default this Python, has them). Two more rows convert a cohort of shorter
series with one and with two workers: wall seconds of the steps and peak memory of the largest process. With
`--many`, 30,000 tiny slices in 300 series are converted too, beside dcm2niix: what a file costs whatever its pixels.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

COHORT = 24

FLOOR_START = "import sys, pathlib, numpy, pydicom, isal.isal_zlib"
FLOOR = """
paths = sorted(pathlib.Path(sys.argv[1]).iterdir())
first = pydicom.dcmread(paths[0])
volume = numpy.empty((len(paths), first.Rows, first.Columns), numpy.int16)
for k, path in enumerate(paths):
    content = path.read_bytes()
    if first.file_meta.TransferSyntaxUID.is_encapsulated:
        volume[k] = pydicom.dcmread(path).pixel_array
    else:
        volume[k].ravel()[:] = numpy.frombuffer(content[-volume[k].nbytes:], numpy.int16)
gzip = isal.isal_zlib.compressobj(1, wbits=31)
pathlib.Path(sys.argv[2], "floor.nii.gz").write_bytes(gzip.compress(volume) + gzip.flush())
"""
OURS_START = (
    "import sys, pathlib; from ct_assets.imaging.convert_tree import convert; "
    "from ct_assets.settings import Settings; import dataframely, nibabel, polars, isal.isal_zlib; "
    "polars.DataFrame({'a': [1]}).filter(polars.col('a') > 0)"
)
OURS = "convert(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2], 'ours'), Settings(), workers=1)"
ITK_START = "import sys, SimpleITK"
ITK = """
reader = SimpleITK.ImageSeriesReader()
reader.SetFileNames(reader.GetGDCMSeriesFileNames(sys.argv[1]))
SimpleITK.WriteImage(reader.Execute(), sys.argv[2] + "/itk.nii.gz", True)
"""
D2N_START = "import sys, dicom2nifti"
D2N = "dicom2nifti.dicom_series_to_nifti(sys.argv[1], sys.argv[2] + '/d2n.nii.gz', reorient_nifti=False)"
WORKERS = """
import sys, pathlib
from ct_assets.imaging.convert_tree import convert
from ct_assets.progress import Timings
from ct_assets.settings import Settings
if __name__ == "__main__":
    out, timings = pathlib.Path(sys.argv[2]), Timings()
    convert(pathlib.Path(sys.argv[1]), out, Settings(), workers=int(sys.argv[3]), timings=timings)
    (out / "wall").write_text(str(sum(step["wall_s"] for step in timings.steps)))
"""


def make_series(folder: Path, slices: int, seed: int = 0, size: int = 512) -> None:
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(slices):
        body = x**2 / 0.7 + y**2 / 0.45 < 1
        lung = ((abs(x) - 0.4) ** 2 / 0.06 + y**2 / 0.15) < 1 - (k / slices - 0.5) ** 2
        hu = np.where(body, np.where(lung, -820.0, 40.0), -1000.0)
        hu += noise.normal(0, 14, hu.shape) * (x**2 + y**2 < 1)
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientID, ds.Modality, ds.ImageType = f"P{seed}", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.Manufacturer, ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = "Maker", 1, 1, k + 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-200, -200, k * 1.0], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [0.78, 0.78], 1
        ds.Rows = ds.Columns = size
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
        ds.PixelData = np.clip(np.rint(hu + 1024), 0, 4095).astype(np.uint16).tobytes()
        ds.save_as(folder / f"{k * 37 % slices:05d}.dcm", enforce_file_format=True)


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a process; return its CPU seconds, wall seconds and peak memory in MiB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return float("nan"), float("nan"), float("nan")
    return used.ru_utime + used.ru_stime, time.perf_counter() - started, used.ru_maxrss / 1024


def least(command: list[str], rounds: int) -> tuple[float, float, float]:
    several = [measure(command) for _ in range(rounds)]
    return min(cpu for cpu, _, _ in several), min(wall for _, wall, _ in several), several[0][2]


def contestants(folder: Path, out: Path, peers: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return name to (whole command, command that only starts)."""
    places = [str(folder), str(out)]

    def python(executable: str, start: str, work: str) -> tuple[list[str], list[str]]:
        return [executable, "-c", f"{start}\n{work}", *places], [executable, "-c", start, *places]

    found = {
        "floor: decode + isal 1": python(sys.executable, FLOOR_START, FLOOR),
        "ct-assets convert": python(sys.executable, OURS_START, OURS),
    }
    if shutil.which("dcm2niix"):
        for level in "yn":
            whole = [
                "dcm2niix",
                "-z",
                level,
                "-b",
                "y",
                "-o",
                str(out),
                "-f",
                f"dcm2niix_{level}_%j",  # by series: of one name it writes 26 and gives up on the others
                str(folder),
            ]
            found[f"dcm2niix -z {level}"] = (whole, ["dcm2niix", "-h"])
    found["SimpleITK, compressed"] = python(peers, ITK_START, ITK)
    found["dicom2nifti"] = python(peers, D2N_START, D2N)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--slices", type=int, default=275)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--many", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder = options.folder
        if folder is None:
            folder = root / "series"
            make_series(folder, options.slices)
        for path in folder.rglob("*"):
            path.is_file() and path.read_bytes()  # into the page cache, alike for all
        out = root / "out"
        out.mkdir()
        count = sum(pydicom.misc.is_dicom(path) for path in folder.rglob("*") if path.is_file())
        print(f"{count} slices; CPU seconds without start-up, least of {options.rounds} rounds\n")
        print(f"{'':24}{'CPU s':>8}{'start-up':>10}{'x floor':>9}{'of dcm2niix -z y':>18}{'peak MiB':>10}")
        rows = {}
        for name, (whole, start) in contestants(folder, out, options.peers).items():
            cpu, _, peak = least(whole, options.rounds)
            begin = measure(start)[0]
            begin = 0.0 if begin != begin else min(begin, measure(start)[0])
            rows[name] = (cpu - begin, begin, peak)
        floor, reference = rows["floor: decode + isal 1"][0], rows.get("dcm2niix -z y", (float("nan"),))[0]
        for name, (cpu, begin, peak) in rows.items():
            ratios = f"{cpu / floor:>9.2f}{cpu / reference:>18.3f}"
            print(f"{name:24}{cpu:>8.2f}{begin:>10.2f}{ratios}{peak:>10.0f}")
        if options.folder is None:
            cohort(root, options.slices)
        if options.many:
            many_series(root, options.rounds, options.peers)
    print(
        f"\npeak memory of the largest child: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024} MiB"
    )


def many_series(root: Path, rounds: int, peers: str, series: int = 300, slices: int = 100) -> None:
    """Convert many series of tiny slices, here and with dcm2niix, in turns."""
    folder, out = root / "many", root / "many_out"
    out.mkdir()
    for number in range(series):
        make_series(folder / str(number), slices, seed=number, size=16)
    both = {
        name: commands
        for name, commands in contestants(folder, out, peers).items()
        if name in ("ct-assets convert", "dcm2niix -z y")
    }
    least_of = dict.fromkeys(both, float("inf"))
    for _ in range(rounds):
        for name, (whole, start) in both.items():
            begin = measure(start)[0]
            least_of[name] = min(least_of[name], measure(whole)[0] - (0.0 if begin != begin else begin))
    print(f"\n{series} series of {slices} slices of 16 x 16, CPU seconds without start-up:")
    for name, cpu in least_of.items():
        print(f"  {name:24}{cpu:8.2f}")


def cohort(root: Path, slices: int) -> None:
    """Convert several series with one and with two workers."""
    for number in range(COHORT):
        make_series(root / "cohort" / str(number), slices // 3, seed=number + 1)
    script = root / "workers.py"
    script.write_text(WORKERS)
    print(f"\na cohort of {COHORT} series of {slices // 3} slices:")
    for workers in (1, 2):
        command = [
            sys.executable,
            str(script),
            str(root / "cohort"),
            str(root / f"out{workers}"),
            str(workers),
        ]
        peak = measure(command)[2]
        wall = float((root / f"out{workers}" / "wall").read_text())
        print(f"  {workers} worker(s): {wall:6.2f} s wall, {peak:5.0f} MiB in the largest process")


if __name__ == "__main__":
    main()

"""Peak memory of de-identifying a large batch of small instances.

    python benchmarks/deid_memory.py [--files 100000] [--workers 2]

Writes the batch (8 x 8 pixels, 40 elements, 500 patients) to a temporary folder, de-identifies it in a process
of its own and prints the peak resident set of the largest process and of all together, and the rate.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from deid_throughput import CONTESTANTS, make_slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deid-memory-") as folder:
        root = Path(folder)
        make_batch(root / "input", given.files)
        script = root / "ours.py"
        script.write_text(CONTESTANTS["ct-assets deid"])
        command = [sys.executable, "-W", "ignore", str(script), str(root / "input"), str(root / "out")]
        started = time.perf_counter()
        ran = subprocess.Popen([*command, str(given.workers)], stdout=subprocess.DEVNULL)
        largest, together = watch(ran)
        seconds = time.perf_counter() - started
    print(
        f"{given.files} instances, {given.workers} workers: {seconds:.0f} s, {given.files / seconds:.0f} files/s"
    )
    print(
        f"peak resident set: largest process {largest} MiB, all together {together} MiB (exit {ran.returncode})"
    )


def watch(running: subprocess.Popen) -> tuple[int, int]:
    """Return the peak MiB of the largest process of a tree and of all of them together, looked at often."""
    largest = together = 0
    root = psutil.Process(running.pid)
    while running.poll() is None:
        sizes = []
        for process in [root, *root.children(recursive=True)]:
            try:
                sizes.append(process.memory_info().rss >> 20)
            except psutil.Error:
                continue
        largest, together = max([largest, *sizes]), max(together, sum(sizes))
        time.sleep(0.1)
    return largest, together


def make_batch(folder: Path, files: int) -> None:
    """Write small slices: one real header, its pixels cut to 8 x 8, its identifying numbers counted up."""
    template = folder.with_name("template")
    template.mkdir()
    make_slices(template, 1)
    import pydicom

    slice_ = pydicom.dcmread(template / "IM000000")
    shutil.rmtree(template)
    slice_.Rows = slice_.Columns = 8
    slice_.PixelData = np.zeros(64, np.uint16).tobytes()
    root = str(slice_.SOPInstanceUID)[:40]
    for number in range(files):
        if number % 1000 == 0:
            (folder / f"{number // 1000:04d}").mkdir(parents=True)
        patient, series = number % 500, number // 100
        slice_.PatientID, slice_.PatientName = f"HX{4_000_000 + patient}", f"Quill{patient:03d}mereth^Oswin"
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = (
            f"{root}.1.{patient}",
            f"{root}.2.{patient}.{series}",
        )
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"{root}.3.{number}"
        slice_.save_as(folder / f"{number // 1000:04d}" / f"IM{number:06d}")


if __name__ == "__main__":
    main()

"""Fingerprint and volumes of large made volumes beside a bare floor: `python benchmarks/preprocess.py [--cases 3]`.

Volumes of 300 x 512 x 512 at 0.8 x 0.8 x 1.0 mm to 1.0 x 1.0 x 1.5 mm, by default with the plan's own order. The
floor reads and inflates the same files, resamples with nothing but the same weights, and writes blosc2: no checks, no
digests, no mask, no crop. `--nnunet PYTHON` names an interpreter that has nnunetv2, which is then run on the same
files (fingerprint, then preprocessing to the same spacing, two processes) in the same session.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

from ct_assets.imaging import nifti, resample
from ct_assets.imaging.store import Store
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.volumes import exports, fold_volumes
from ct_assets.learning.volumes.plan import build_plan
from ct_assets.settings.folds import PlanSettings

SHAPE = (300, 512, 512)
SPACING = (0.8, 0.8, 1.0)
TARGET = (1.0, 1.0, 1.5)
FOLDS = 5


def make(folder: Path, cases: int) -> pl.DataFrame:
    """Write CT-like volumes: air, a body, lungs, a lesion, noise as of a sharp kernel."""
    rows = []
    k, j, i = (np.linspace(-1, 1, size, dtype=np.float32) for size in SHAPE)
    for number in range(cases):
        random = np.random.default_rng(number)
        image = np.full(SHAPE, -1000, np.int16)
        mask = np.zeros(SHAPE, np.uint8)
        centre = random.uniform(-0.3, 0.3, 3)
        for place, height in enumerate(k):
            plane = np.where(j[:, None] ** 2 + i[None] ** 2 < 0.75, 40.0, -1000.0)
            for side in (-0.4, 0.4):
                lung = (i[None] - side) ** 2 / 0.08 + (j[:, None] / 0.55) ** 2 + (height / 0.9) ** 2 < 1
                plane[lung] = -850
            lesion = (j[:, None] - centre[1]) ** 2 + (i[None] - centre[2]) ** 2 + (
                height - centre[0]
            ) ** 2 < 0.02
            plane[lesion] = 60
            mask[place] = lesion
            image[place] = np.clip(plane + random.normal(0, 25, plane.shape), -1024, 3071)
        grid = Grid.of(SHAPE, SPACING)
        nifti.write(folder / f"case_{number:04d}.nii.gz", Volume(image, grid))
        nifti.write(folder / f"case_{number:04d}_mask.nii.gz", Volume(mask, grid))
        rows.append(
            {
                "case_id": f"case_{number:04d}",
                "patient_id": f"p{number}",
                "stage": "I",
                "site": "A",
                "split": "train",
                "fold": number % FOLDS,
                "image": f"case_{number:04d}.nii.gz",
                "label": f"case_{number:04d}_mask.nii.gz",
            }
        )
    return pl.DataFrame(rows)


def measured(function, *arguments) -> tuple[float, float]:
    """Run in a process of its own; return CPU seconds (its children too) and peak memory in GB (with children)."""
    context = get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_measure, args=(queue, function, arguments))
    process.start()
    process.join()
    return queue.get()


def _measure(queue, function, arguments) -> None:
    peak = PeakMemory()
    start = time.process_time()
    extra = function(*arguments) or 0.0
    queue.put((time.process_time() - start + extra, peak.stop()))


class PeakMemory:
    """Sample the resident memory of this process and all below it."""

    def __init__(self) -> None:
        import threading

        self._stop = threading.Event()
        self._peak = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        import psutil

        this = psutil.Process()
        while not self._stop.wait(0.05):
            total = 0
            for process in [this, *this.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self._peak = max(self._peak, total / 1e9)

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self._peak


def floor(folder: Path, manifest: pl.DataFrame, order: int) -> None:
    store = Store(folder / "floor")
    for row in manifest.iter_rows(named=True):
        volume = nifti.read(folder / row["image"])
        store.put(row["case_id"], resample.resample(volume, TARGET, order), {})  # type: ignore[arg-type]


def warm(*_: object) -> None:
    """Import what the others import: what is measured there is work, not start-up."""


def planned(folder: Path, manifest: pl.DataFrame, settings: PlanSettings, fold: str, workers: int) -> float:
    from ct_assets import progress

    build_plan(manifest, fold, folder, folder / "store", settings, workers)
    return progress._worker_cpu_s


def volumes(
    folder: Path, manifest: pl.DataFrame, settings: PlanSettings, folds: list[str], workers: int
) -> float:
    from ct_assets import progress

    for fold in folds:
        plan = build_plan(manifest, fold, folder, folder / "store", settings, workers)
        fold_volumes.build(manifest, fold, plan, folder, folder / "store", workers)
    return progress._worker_cpu_s


def nnunet(python: str, folder: Path, manifest: pl.DataFrame) -> list[tuple[str, float, float, float]]:
    """Run nnU-Net's fingerprint and preprocessing on the same files; return name, CPU seconds, peak GB, MB."""
    exports.nnunet(manifest, folder, folder / "nnUNet_raw", number=1, name="Bench")
    environ = {
        **os.environ,
        **{name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")},
        "OMP_NUM_THREADS": "1",
    }
    scripts = {
        "nnU-Net fingerprint": "from nnunetv2.experiment_planning.plan_and_preprocess_api import "
        "extract_fingerprints; extract_fingerprints([1], num_processes=2, check_dataset_integrity=True)",
        "nnU-Net preprocess": "from nnunetv2.experiment_planning.plan_and_preprocess_api import "
        "plan_experiments, preprocess; plan_experiments([1], overwrite_target_spacing="
        f"{list(TARGET[::-1])}); preprocess([1], configurations=('3d_fullres',), num_processes=(2,))",
    }
    found = []
    for name, script in scripts.items():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak = PeakMemory()
        guarded = f"if __name__ == '__main__':\n    {script.replace('; ', chr(10) + '    ')}\n"
        path = folder / "peer.py"
        path.write_text(guarded)
        subprocess.run([python, str(path)], env=environ, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        written = sum(
            path.stat().st_size
            for path in (folder / "nnUNet_preprocessed").rglob("*")
            if path.suffix in (".b2nd", ".npz", ".npy", ".pkl")
        )
        found.append((name, spent, peak.stop(), written / 1e6))
    return found


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--cases", type=int, default=3)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--order", type=int, default=3, choices=(0, 1, 3))
    options.add_argument("--nnunet", help="a Python that has nnunetv2")
    asked = options.parse_args()
    settings = PlanSettings(spacing=TARGET, crop="none", image_order=asked.order)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        manifest = make(folder, asked.cases)
        rows = []
        cpu, peak = measured(floor, folder, manifest, asked.order)
        floor_cpu = cpu
        rows.append(("bare read, resample, store", cpu, peak, _mb(folder / "floor")))
        cpu, peak = measured(planned, folder, manifest, settings, "final", asked.workers)
        rows.append(("fingerprint and plan", cpu, peak, 0.0))
        cpu, peak = measured(planned, folder, manifest, settings, "0", asked.workers)
        rows.append(("plan of another fold", cpu, peak, 0.0))
        cpu, peak = measured(volumes, folder, manifest, settings, ["0"], asked.workers)
        rows.append(("volumes of one fold", cpu, peak, _mb(folder / "store")))
        one = cpu
        shutil.rmtree(folder / "store" / "volumes")
        cpu, peak = measured(volumes, folder, manifest, settings, list("01234"), asked.workers)
        rows.append(("volumes of five folds", cpu, peak, _mb(folder / "store")))
        if asked.nnunet:
            rows += nnunet(asked.nnunet, folder, manifest)
        print(f"{'':28} {'CPU s a case':>12} {'to floor':>9} {'peak GB':>8} {'MB a case':>10}")
        for name, spent, memory, size in rows:
            each = spent / asked.cases
            print(
                f"{name:28} {each:12.2f} {each / (floor_cpu / asked.cases):9.2f} {memory:8.2f} "
                f"{size / asked.cases:10.1f}"
            )
        print(json.dumps({"five_folds_to_one": round(rows[4][1] / one, 3), "order": asked.order}))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.b2nd")) / 1e6


if __name__ == "__main__":
    sys.exit(main())

"""Token cache: reading it against reading on the fly, and building it beside a plain SimpleITK loop.

Run: python benchmarks/neuro_cache.py [FOLDER_OF_NIFTI]   (without a folder: invented heads)

The plain loop does what a straightforward script does: read, orient, resample by B-spline, window. All in one
process with one thread; the fastest of several runs counts.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK
import torch

from ct_assets import progress
from ct_assets.neuro import CacheManager, DatasetMetadata, ImageDataset, load_image, prepare_for_inference
from ct_assets.systems.neuro.example import make_example

REPEATS = 5


def plain_loop(path: Path, mode: str) -> list[np.ndarray]:
    """What a script without this package does to one image."""
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "RPI")
    spacing = image.GetSpacing()
    axis = int(np.argmax(spacing))
    target = [4.0 if one == axis else 1.0 for one in range(3)]
    size = [int(n * old / new) for n, old, new in zip(image.GetSize(), spacing, target, strict=True)]
    moved = SimpleITK.Resample(
        image,
        size,
        SimpleITK.Transform(),
        SimpleITK.sitkBSpline,
        image.GetOrigin(),
        target,
        image.GetDirection(),
        -1000 if mode == "ct" else 0,
    )
    values = np.moveaxis(SimpleITK.GetArrayFromImage(moved), 2 - axis, 0).astype(np.float64)
    if mode == "mri":
        low, high = np.percentile(values, [0.5, 99.5])
        return [(np.clip(values, low, high) - low) / (high - low + 1e-8)]
    return [np.clip((values - low) / width, 0, 1) for low, width in ((0, 80), (-20, 200), (-800, 2800))]


def seconds(work) -> float:
    """The fastest of several runs, the first one left out."""
    work()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def gather(source: Path | None, data_dir: Path) -> dict[str, str]:
    if source is None:
        return make_example(data_dir, studies=4)
    modes = {}
    for path in sorted(source.glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        modes[name] = "mri" if name.upper().startswith("MR") else "ct"
        (data_dir / "raw" / name).mkdir(parents=True)
        shutil.copy(path, data_dir / "raw" / name)
    return modes


def main() -> None:
    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as folder, progress.lines_to(lambda _: None):
        data_dir = Path(folder)
        modes = gather(source, data_dir)
        DatasetMetadata.from_directory(data_dir, modes).save(data_dir / "metadata.json")
        cache = CacheManager(data_dir)
        cache.build_cache()
        print(f"{'image':<24}{'on the fly':>12}{'cached':>10}{'ratio':>8}   (seconds)")
        dataset = ImageDataset(data_dir)
        for study, image, mode in dataset.image_index:
            path = cache.source(study, image).path
            window = "brain" if mode == "ct" else None
            on_the_fly = seconds(lambda p=path, m=mode: prepare_for_inference(load_image(p), m))
            cached = seconds(lambda s=study, i=image, w=window: cache.load_image(s, i, w))
            print(f"{f'{study}/{image}':<24}{on_the_fly:>12.4f}{cached:>10.4f}{on_the_fly / cached:>8.1f}")
        work = [(cache.source(study, image).path, mode) for study, image, mode in dataset.image_index]
        build = seconds(lambda: cache.build_cache(force=True))
        in_memory = seconds(lambda: [prepare_for_inference(load_image(p), m) for p, m in work])
        plain = seconds(lambda: [plain_loop(p, m) for p, m in work])
        floor = seconds(lambda: [SimpleITK.ReadImage(str(p)) for p, _ in work])
        again = seconds(cache.build_cache)
        print(f"\n{len(work)} images{'':<16}{'seconds':>10}{'against the plain loop':>26}")
        for name, value in (
            ("build_cache, to disk", build),
            ("load and prepare", in_memory),
            ("plain SimpleITK loop", plain),
            ("reading alone (floor)", floor),
            ("build_cache, all current", again),
        ):
            print(f"{name:<26}{value:>8.3f}{value / plain:>24.2f} x")


if __name__ == "__main__":
    main()

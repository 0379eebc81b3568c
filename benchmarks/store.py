"""How volumes are best kept, and how long a patch takes: `python benchmarks/store.py`.

First compressors and block shapes on a CT-like volume (ratio, write, a random 96^3 patch), then one 96^3 patch ready
for the network from our dataset, from MONAI's PersistentDataset (whole case cached as tensors, then cropped), and from
nii.gz on the fly; milliseconds of CPU.
"""

import shutil
import tempfile
import time
from pathlib import Path

import blosc2
import numpy as np
import polars as pl

from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.volumes import fold_volumes
from ct_assets.learning.volumes.dataset import PatchDataset
from ct_assets.learning.volumes.plan import build_plan
from ct_assets.settings.folds import PlanSettings

SHAPE = (200, 300, 300)
PATCH = (96, 96, 96)
READS = 20


def volume() -> np.ndarray:
    random = np.random.default_rng(0)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in SHAPE), indexing="ij")
    image = np.where(j**2 + i**2 < 0.75, 40.0, -1000.0)
    image[((np.abs(i) - 0.4) ** 2 / 0.08 + (j / 0.55) ** 2 + (k / 0.9) ** 2) < 1] = -850
    return np.clip(image + random.normal(0, 20, SHAPE), -1024, 3071).astype(np.int16)


def timed(function, times: int = 1) -> float:
    started = time.process_time()
    for _ in range(times):
        function()
    return (time.process_time() - started) / times * 1000


def compressors(array: np.ndarray) -> None:
    random = np.random.default_rng(1)
    print(
        f"{'codec':6} {'level':>5} {'filter':10} {'chunk':>6} {'block':>6} {'ratio':>6} {'write ms':>9} {'patch ms':>9}"
    )
    for codec in (blosc2.Codec.ZSTD, blosc2.Codec.LZ4):
        for level in (1, 5):
            for kind in (blosc2.Filter.SHUFFLE, blosc2.Filter.BITSHUFFLE):
                for chunk, block in ((64, 32), (96, 32), (64, 16)):
                    kept = []

                    def write(codec=codec, level=level, kind=kind, chunk=chunk, block=block, kept=kept):
                        parameters = blosc2.CParams(
                            codec=codec, clevel=level, filters=[kind], typesize=2, nthreads=1
                        )
                        kept.append(
                            blosc2.asarray(
                                array, chunks=(chunk,) * 3, blocks=(block,) * 3, cparams=parameters
                            )
                        )

                    spent = timed(write)
                    stored = kept[0]

                    def read(stored=stored):
                        low = [
                            int(random.integers(0, size - side))
                            for size, side in zip(SHAPE, PATCH, strict=True)
                        ]
                        return stored[
                            tuple(slice(at, at + side) for at, side in zip(low, PATCH, strict=True))
                        ]

                    ratio = array.nbytes / stored.schunk.cbytes
                    print(
                        f"{codec.name:6} {level:5d} {kind.name:10} {chunk:6d} {block:6d} {ratio:6.2f} "
                        f"{spent:9.0f} {timed(read, READS):9.2f}"
                    )


def patches(array: np.ndarray) -> None:
    import torch
    from monai.data import PersistentDataset
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        RandSpatialCropd,
        ScaleIntensityRanged,
    )

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        grid = Grid.of(SHAPE, (1.0, 1.0, 1.5))
        mask = np.zeros(SHAPE, np.uint8)
        mask[90:110, 140:160, 140:160] = 1
        nifti.write(folder / "a.nii.gz", Volume(array, grid))
        nifti.write(folder / "a_mask.nii.gz", Volume(mask, grid))
        row = {"case_id": "a", "patient_id": "p", "stage": "I", "site": "A", "split": "train", "fold": 0}
        manifest = pl.DataFrame([{**row, "image": "a.nii.gz", "label": "a_mask.nii.gz"}])
        settings = PlanSettings(spacing=(1.0, 1.0, 1.5), crop="none", intensity="unit_range")
        plan = build_plan(manifest, "final", folder, folder / "store", settings, 1)
        table = fold_volumes.build(manifest, "final", plan, folder, folder / "store", 1)
        ours = PatchDataset(table, plan, folder / "store", patch_size=PATCH)

        def our_patch() -> None:
            ours.set_epoch(int(time.perf_counter_ns() % 1_000_000))
            ours[0]

        steps = Compose(
            [
                LoadImaged(("image", "label")),
                EnsureChannelFirstd(("image", "label")),
                ScaleIntensityRanged("image", -1000, 1000, 0, 1, clip=True),
                RandSpatialCropd(("image", "label"), PATCH, random_size=False),
            ]
        )
        files = [{"image": str(folder / "a.nii.gz"), "label": str(folder / "a_mask.nii.gz")}]
        cached = PersistentDataset(files, steps, cache_dir=folder / "cache")
        cached[0]
        our_patch()
        figures = {
            "ours, from the store": timed(our_patch, READS),
            "PersistentDataset, warm": timed(lambda: cached[0], 5),
            "nii.gz on the fly": timed(lambda: steps(files[0]), 3),
        }
        sizes = {
            "ours, from the store": sum(p.stat().st_size for p in (folder / "store").rglob("*.b2nd")),
            "PersistentDataset, warm": sum(p.stat().st_size for p in (folder / "cache").rglob("*.pt")),
            "nii.gz on the fly": sum(p.stat().st_size for p in folder.glob("*.nii.gz")),
        }
        base = figures["ours, from the store"]
        print(f"\n{'one 96^3 patch with mask':28} {'CPU ms':>8} {'ratio':>7} {'MB kept':>8}")
        for name, spent in figures.items():
            print(f"{name:28} {spent:8.1f} {spent / base:7.1f} {sizes[name] / 1e6:8.1f}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    made = volume()
    compressors(made)
    patches(made)

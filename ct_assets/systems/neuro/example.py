"""A small invented data set of heads, to try the package on and to test it with.

Belongs here: ellipsoids for skull, brain, ventricles and a bleed, as CT in HU and as MR. Nothing is anyone's.
"""

from pathlib import Path

import numpy as np

from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume

AIR_HU, SKULL_HU, BRAIN_HU, FLUID_HU, BLOOD_HU = -1000, 900, 35, 5, 70
MR_SKULL, MR_BRAIN, MR_FLUID, MR_NOISE = 60, 420, 150, 6
HALF_AXES_MM = (70.0, 88.0, 66.0)
"""Half the width, length and height of the head."""
SKULL_MM = 7.0


def head(mode: str, grid: Grid, seed: int = 0) -> Volume:
    """Return a head centred on `grid`, int16: `ct` in HU with a bleed, or `mri` with noise."""
    random = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.arange(size) for size in grid.shape), indexing="ij", sparse=True)
    centre = grid.world((np.asarray(grid.shape[::-1]) - 1) / 2)
    affine = grid.affine_lps[:3, :3]
    points = [
        affine[axis, 0] * i
        + affine[axis, 1] * j
        + affine[axis, 2] * k
        + grid.affine_lps[axis, 3]
        - centre[axis]
        for axis in range(3)
    ]

    def within(half_axes: tuple[float, ...], at: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
        return sum(((p - a) / h) ** 2 for p, a, h in zip(points, at, half_axes, strict=True)) <= 1

    is_ct = mode == "ct"
    array = np.full(grid.shape, AIR_HU if is_ct else 0, dtype=np.float32)
    array[within(HALF_AXES_MM)] = SKULL_HU if is_ct else MR_SKULL
    brain = within(tuple(half - SKULL_MM for half in HALF_AXES_MM))
    array[brain] = BRAIN_HU if is_ct else MR_BRAIN
    array[within((8, 30, 12))] = FLUID_HU if is_ct else MR_FLUID
    if is_ct:
        bleed = tuple(random.uniform(-25, 25, size=3))
        array[within((12, 15, 10), bleed) & brain] = BLOOD_HU
    array += random.normal(0, 3 if is_ct else MR_NOISE, size=array.shape)
    low = AIR_HU if is_ct else 0
    return Volume(np.rint(np.maximum(array, low)).astype(np.int16), grid)


def make_example(data_dir: str | Path, studies: int = 4) -> dict[str, str]:
    """Write `data_dir/raw` with CT and MR studies in turn, an MR study with two images; return their modes."""
    modes = {}
    for number in range(studies):
        mode = "ct" if number % 2 == 0 else "mri"
        name = f"study_{number:03d}"
        modes[name] = mode
        raw = Path(data_dir) / "raw" / name
        grid = Grid.of((34 + number, 160, 144), (1.1, 1.2, 4.5), (-80, -95, -75))
        nifti.write(raw / ("head.nii.gz" if mode == "ct" else "T1.nii.gz"), head(mode, grid, number))
        if mode == "mri":
            sagittal = Grid.of(
                (36, 150, 170),
                (1.05, 1.0, 4.2),
                (-75, -85, 75),
                np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0.0]]),
            )
            nifti.write(raw / "T2.nii.gz", head(mode, sagittal, number + 100))
    return modes

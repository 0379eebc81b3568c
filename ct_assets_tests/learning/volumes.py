"""A factory of small NIfTI cohorts: a body with lungs and a lesion each, a manifest and its folds."""

from pathlib import Path

import numpy as np
import polars as pl

from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume

STAGES = ("I", "II", "IIIa", "IIIb")


def chest(seed: int, shape: tuple[int, int, int] = (20, 40, 44)) -> tuple[np.ndarray, np.ndarray]:
    """Return int16 HU and a uint8 mask, (k, j, i): air, a body, two lungs, one lesion of 60 HU."""
    random = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    image = np.full(shape, -1000.0)
    image[j**2 + i**2 < 0.8] = 40
    for side in (-0.4, 0.4):
        image[(i - side) ** 2 / 0.08 + (j / 0.5) ** 2 + (k / 0.9) ** 2 < 1] = -850
    centre = random.uniform(-0.3, 0.3, 3)
    mask = (k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2 < 0.05
    image[mask] = 60
    image += random.normal(0, 15, shape)
    return np.clip(image, -1024, 3000).astype(np.int16), mask.astype(np.uint8)


def write_case(
    folder: Path,
    case_id: str,
    seed: int,
    *,
    spacing: tuple[float, float, float] = (1.5, 1.5, 3.0),
    with_label: bool = True,
) -> None:
    """Write `<case_id>.nii.gz` and, where wanted, `<case_id>_mask.nii.gz`."""
    image, mask = chest(seed)
    grid = Grid.of(image.shape, spacing, (-30.0, -30.0, 10.0))
    nifti.write(folder / f"{case_id}.nii.gz", Volume(image, grid))
    if with_label:
        nifti.write(folder / f"{case_id}_mask.nii.gz", Volume(mask, grid))


def cohort(folder: Path, patients: int = 8, folds: int = 3, tested: int = 2) -> pl.DataFrame:
    """Write one case a patient and return the manifest; the last `tested` patients are the test set."""
    rows = []
    for number in range(patients):
        case = f"case_{number:04d}"
        write_case(folder, case, seed=number, spacing=(1.5, 1.5, 3.0 if number % 2 else 2.5))
        is_test = number >= patients - tested
        rows.append(
            {
                "case_id": case,
                "patient_id": f"patient_{number:02d}",
                "stage": STAGES[number % len(STAGES)],
                "site": "AB"[number % 2],
                "split": "test" if is_test else "train",
                "fold": None if is_test else number % folds,
                "image": f"{case}.nii.gz",
                "label": f"{case}_mask.nii.gz",
            }
        )
    return pl.DataFrame(rows, schema_overrides={"fold": pl.Int64})

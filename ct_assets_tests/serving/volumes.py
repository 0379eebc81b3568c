"""A body with a tumour at a known place of the patient, on grids of any orientation."""

from pathlib import Path

import nibabel
import numpy as np

TUMOUR_RAS_MM = (45.0, 20.0, 25.0)
"""In the patient's right lung, in front of and above the middle."""
TUMOUR_RADIUS_MM = 12.0
SHAPE = (100, 90, 60)


def affine(orientation: str) -> np.ndarray:
    """Return the matrix from voxels to RAS millimetres, the grid's middle at the origin."""
    matrix = {
        "plain": np.diag([-2.0, -2.0, 3.0, 1.0]),
        "flipped": np.diag([2.0, -2.0, -3.0, 1.0]),
        "oblique": _turn(0, 20) @ _turn(2, 15) @ np.diag([-2.0, -2.0, 3.0, 1.0]),
    }[orientation]
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return matrix


def write_result(folder: Path, orientation: str) -> None:
    """Write `image.nii.gz` and `mask.nii.gz`."""
    matrix = affine(orientation)
    voxels = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(voxels @ matrix[:3, :3].T + matrix[:3, 3], -1, 0)
    image = np.full(SHAPE, -1000, np.int16)
    image[(x / 80) ** 2 + (y / 65) ** 2 + (z / 75) ** 2 < 1] = 40
    for side in (-1, 1):
        image[((x - side * 40) / 28) ** 2 + (y / 40) ** 2 + (z / 60) ** 2 < 1] = -850
    place = TUMOUR_RAS_MM
    mask = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2 < TUMOUR_RADIUS_MM**2
    image[mask] = 40
    folder.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(image, matrix), folder / "image.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), matrix), folder / "mask.nii.gz")


def _turn(axis: int, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix

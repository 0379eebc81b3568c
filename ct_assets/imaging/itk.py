"""Between the platform's volumes and SimpleITK images, both in LPS millimetres.

Belongs here: the exchange. Nothing is interpolated.
"""

import numpy as np
import SimpleITK

from ct_assets.imaging.volume import Grid, Volume


def image_of(volume: Volume) -> SimpleITK.Image:
    """Return a SimpleITK image of the same voxels and geometry; the grid's axes must be at right angles."""
    array = volume.array
    if array.dtype == np.float16 or array.dtype == np.bool_:
        array = array.astype(np.float32)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))
    image.SetSpacing([round(step, 9) for step in volume.grid.spacing_mm])
    image.SetOrigin(volume.grid.origin_lps_mm)
    image.SetDirection(_right_angled(volume.grid.direction).ravel().tolist())
    return image


def volume_of(image: SimpleITK.Image) -> Volume:
    """Return the volume of a SimpleITK image of three axes and one component."""
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(
            f"a grey-scale 3-D image is expected, got {image.GetDimension()} axes and "
            f"{image.GetNumberOfComponentsPerPixel()} components"
        )
    array = SimpleITK.GetArrayFromImage(image)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    return Volume(array, Grid.of(array.shape, image.GetSpacing(), image.GetOrigin(), direction))


def _right_angled(direction: np.ndarray) -> np.ndarray:
    """Return the nearest orthonormal matrix, so that rounded headers pass ITK's check."""
    left, _, right = np.linalg.svd(direction)
    nearest = left @ right
    return np.where(np.abs(nearest - np.rint(nearest)) < 1e-9, np.rint(nearest), nearest)

"""Turning a volume's axes towards the patient's, by flips and exchanges only.

Belongs here: canonical orientations. Does not: resampling (`imaging.resample`).
"""

import nibabel as nib
import numpy as np

from ct_assets.imaging.volume import Grid, Volume, from_ras, to_ras
from ct_assets.settings.conversion import AS_ACQUIRED


def orient(volume: Volume, towards: str) -> Volume:
    """Return `volume` with i, j and k running towards the three letters of `towards`, such as RAS.

    Oblique volumes keep their directions; the axes are matched to the nearest ones. Every voxel keeps its
    world position. `as_acquired` returns the volume as it is.
    """
    if towards == AS_ACQUIRED:
        return volume
    affine = to_ras(volume.grid.affine_lps)
    change = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(towards))
    )
    ijk = volume.array.transpose(2, 1, 0)
    turned = nib.orientations.apply_orientation(ijk, change)
    affine = affine @ nib.orientations.inv_ornt_aff(change, ijk.shape)
    array = np.ascontiguousarray(turned.transpose(2, 1, 0))
    return Volume(array, Grid(array.shape, from_ras(affine)))

"""NIfTI files: volumes in and out, with fast gzip and both forms of the affine set and equal.

Belongs here: the file format. World coordinates inside the project are LPS; a NIfTI file holds RAS.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

from ct_assets import files
from ct_assets.imaging.volume import Grid, Volume, from_ras, to_ras

SCANNER_ANATOMICAL = 1
"""`NIFTI_XFORM_SCANNER_ANAT`, https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h."""
COMPRESSION_LEVEL = 1


def write(path: Path, volume: Volume) -> None:
    """Write `volume` as `.nii.gz` (gzip by isal) or `.nii`, atomically; the same voxels give the same bytes.

    Voxels are stored as they are (no scaling); sform and qform are both set to the grid's affine in RAS.
    A sheared grid has no qform: it then stays unset, and the sform alone holds.
    """
    affine = to_ras(volume.grid.affine_lps)
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=SCANNER_ANATOMICAL)
    columns = volume.grid.direction
    if np.allclose(columns.T @ columns, np.eye(3), atol=1e-4):
        image.set_qform(affine, code=SCANNER_ANATOMICAL)
    else:
        image.set_qform(None, code=0)
    content = image.to_bytes()
    if path.suffix == ".gz":
        content = igzip.compress(content, compresslevel=COMPRESSION_LEVEL, mtime=0)
    files.write_bytes(path, content)


def read(path: Path) -> Volume:
    """Read a 3-D NIfTI file as it is stored, array (k, j, i), scaled only where the header scales.

    Raises `ValueError` for files of other dimensions or without a spatial affine.
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = igzip.decompress(content)
    image = nib.Nifti1Image.from_bytes(content)
    if len(image.shape) != 3:
        raise ValueError(f"{path.name}: a 3-D image is expected, this one is {image.shape}")
    array = np.asanyarray(image.dataobj).transpose(2, 1, 0)
    return Volume(array, Grid(array.shape, from_ras(image.affine)))

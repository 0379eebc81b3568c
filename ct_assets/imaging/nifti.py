"""NIfTI files: volumes in and out, with fast gzip and both forms of the affine set and equal.

Belongs here: the file format. World coordinates inside the project are LPS; a NIfTI file holds RAS.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
from isal import isal_zlib

from ct_assets import files
from ct_assets.imaging import nifti_read
from ct_assets.imaging.volume import Grid, Volume, from_ras, to_ras

SCANNER_ANATOMICAL = 1
"""`NIFTI_XFORM_SCANNER_ANAT`, https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h."""
EQUAL_MM = 0.01
COMPRESSION_LEVEL = 1
GZIP_FORMAT = 16 + 15
"""zlib's window bits for a gzip header without name and time."""
NO_EXTENSIONS = bytes(4)
BYTES_AT_ONCE = 1 << 24


def write(path: Path, volume: Volume) -> None:
    """Write `volume` as `.nii.gz` (gzip by isal) or `.nii`, atomically; the same voxels give the same bytes.

    Voxels are stored as they are (no scaling); sform and qform are both set to the grid's affine in RAS,
    unless the qform cannot say the same within `EQUAL_MM`: it knows no shear, and its quaternion of single
    precision loses rotations of less than about 0.3 degrees within an axial plane. It then stays unset, and
    the sform alone holds. Nothing of the volume is copied, if its array is contiguous.
    """
    array = volume.array.astype(volume.array.dtype.newbyteorder("<"), copy=False)
    content = np.ascontiguousarray(array).data.cast("B")  # slices outermost: NIfTI's own order
    head = _header(volume).binaryblock + NO_EXTENSIONS
    with files.atomic_path(path) as partial, partial.open("wb") as opened:
        if path.suffix != ".gz":
            opened.write(head)
            opened.write(content)
            return
        gzip = isal_zlib.compressobj(COMPRESSION_LEVEL, wbits=GZIP_FORMAT)
        opened.write(gzip.compress(head))
        for start in range(0, len(content), BYTES_AT_ONCE):
            opened.write(gzip.compress(content[start : start + BYTES_AT_ONCE]))
        opened.write(gzip.flush())


def _header(volume: Volume) -> nib.Nifti1Header:
    affine = to_ras(volume.grid.affine_lps)
    header = nib.Nifti1Header(endianness="<")
    header.set_data_shape(volume.grid.shape[::-1])
    header.set_data_dtype(volume.array.dtype)
    header.set_xyzt_units("mm")
    header.set_sform(affine, code=SCANNER_ANATOMICAL)
    header.set_qform(affine, code=SCANNER_ANATOMICAL)
    stored = Grid(volume.grid.shape, from_ras(header.get_qform()))
    if not stored.same_as(volume.grid, EQUAL_MM):
        header.set_qform(None, code=0)
        header["pixdim"][1:4] = volume.grid.spacing_mm
    header["magic"] = b"n+1"
    header["vox_offset"] = header.sizeof_hdr + len(NO_EXTENSIONS)
    header["scl_slope"], header["scl_inter"] = 1, 0
    return header


def read(path: Path) -> Volume:
    """Read a 3-D NIfTI file as it is stored, array (k, j, i), scaled only where the header scales, in millimetres.

    Raises `nifti_read.NiftiRefused`, a `ValueError`, for what is no such file. Of files that others made, take
    `values.read_ct` or `values.read_labels`: they prove the values and say what is not proven.
    """
    return nifti_read.read(path).volume

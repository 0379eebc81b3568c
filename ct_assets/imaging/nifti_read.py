"""NIfTI files of any origin: a 3-D volume in millimetres with warnings, or a refusal that says the cause.

Belongs here: telling the file formats apart by content, the rules for units of length and for the two affines.
Does not: writing (`imaging.nifti`), what the values mean (`imaging.values`).

A file is what its content says, not its name: gzip or not, NIfTI-1 or NIfTI-2, one file or a pair `.hdr`/`.img`.
The rule for the affine is that of the format (nifti1.h, methods 2 and 3): the sform where its code is above 0, else
the qform; where the two contradict each other, the sform holds and a warning says so. xyzt_units tells the unit of
length: metre and micron become millimetres. Where no unit is stated, millimetres are taken: for pixels between 0.1
and 5 they are the only unit that gives a body's size, for others a warning says that the unit is not proven.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from nibabel.fileholders import FileHolder

from ct_assets.imaging.volume import Grid, Volume, from_ras

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".hdr.gz", ".img.gz")
"""File names that may be NIfTI, in lower case; upper case counts as well."""
GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = 560
"""NIfTI-2 has 540, NIfTI-1 348."""
MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}
"""NIFTI_UNITS_METER, NIFTI_UNITS_MM, NIFTI_UNITS_MICRON (nifti1.h)."""
SPATIAL_UNIT_BITS = 0x07
FORMS_AGREE = 0.1
"""sform and qform agree where the corners differ by at most this share of the smallest voxel side."""
PIXDIM_AGREES = 0.01
"""How far pixdim may be from the steps of the sform, as a share."""
QUATERNION_SLACK = 1e-6
RIGHT_ANGLE = 0.005
"""Cosine between two axes up to which they are at right angles: 0.3 degrees."""
PIXELS_SURELY_MM = (0.1, 5.0)
"""Smallest step of an image that fits a body in millimetres, and in no other unit of the format."""
SPACING_LIMITS_MM = (0.005, 100.0)
LARGEST_EXTENT_MM = (1000.0, 1000.0, 2500.0)
"""No bore is wider than a metre, no table travels further than 2.5 m; extents in ascending order."""


class NiftiRefused(ValueError):  # noqa: N818 - a decision, not a failure
    """A file that is not used; `code` is one of `ct_assets.reasons`, `detail` says the cause in words."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, eq=False)
class NiftiImage:
    """A volume as its file has it, on a grid in LPS millimetres."""

    volume: Volume
    warnings: tuple[str, ...]
    """Codes of `ct_assets.reasons`: what the header does not prove."""


def is_nifti_name(name: str) -> bool:
    """Tell whether a file's name is one of NIfTI's, in upper or lower case."""
    return name.lower().endswith(SUFFIXES)


def is_nifti(path: Path) -> bool:
    """Tell whether a path is NIfTI by its name; `.img` (a DICOM file may bear it) only beside its `.hdr`."""
    is_data = path.name.lower().endswith((".img", ".img.gz"))
    return is_nifti_name(path.name) and (not is_data or is_nifti_data(path))


def name_without_suffix(name: str) -> str:
    """Return a NIfTI file's name without its suffix."""
    lower = name.lower()
    return name[: -len(next((one for one in SUFFIXES if lower.endswith(one)), "")) or None]


def find_images(folder: Path) -> list[Path]:
    """Return the NIfTI files directly in `folder`, sorted; of a pair `.hdr`/`.img` the header alone."""
    named = sorted(path for path in folder.iterdir() if path.is_file() and is_nifti_name(path.name))
    return [path for path in named if not is_nifti_data(path)]


def read(path: Path) -> NiftiImage:
    """Read a 3-D image, array (k, j, i), scaled where its header scales.

    Further axes of length 1 (one time point) are dropped. Raises `NiftiRefused`, and `OSError` where the file
    cannot be opened.
    """
    image = _opened(path)
    header = image.header
    shape = _three_dimensions(header)
    affine, warnings = _affine_mm(header, shape)
    try:
        array = np.asanyarray(image.dataobj)
    except Exception as error:
        raise NiftiRefused("unreadable_image", f"its voxels cannot be read ({_cause(error)})") from None
    array = array.reshape(shape).transpose(2, 1, 0)
    return NiftiImage(Volume(array, Grid(shape[::-1], from_ras(affine))), warnings)


def check_extent(grid: Grid) -> None:
    """Refuse a grid that is no CT's: its unit of length is another than the header says, or its header is broken."""
    steps = np.array(grid.spacing_mm)
    extents = sorted(float(step * size) for step, size in zip(steps, grid.shape[::-1], strict=True))
    least, most = SPACING_LIMITS_MM
    if steps.min() < least or steps.max() > most or np.any(np.array(extents) > LARGEST_EXTENT_MM):
        told = " x ".join(f"{step:g}" for step in steps)
        raise NiftiRefused(
            "implausible_extent",
            f"steps of {told} mm, {extents[-1]:g} mm long: xyzt_units and affine are no CT's",
        )


def check_header(path: Path) -> None:
    """Refuse, by its header alone, a file that is no grey-scale 3-D image. Raises `NiftiRefused`, `OSError`."""
    with path.open("rb") as opened:
        is_gzip = opened.read(2) == GZIP_MAGIC
        opened.seek(0)
        try:
            content = (igzip.GzipFile(fileobj=opened) if is_gzip else opened).read(HEADER_BYTES)
        except (EOFError, ValueError, zlib.error, igzip.BadGzipFile) as error:
            raise NiftiRefused("unreadable_image", f"its gzip is damaged ({_cause(error)})") from None
    if is_nifti_data(path):
        return
    version, _ = _format(content)
    kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    try:
        header = kind(content[: kind.sizeof_hdr], check=False)
        _check_type(header)
    except NiftiRefused:
        raise
    except Exception as error:
        raise NiftiRefused("unreadable_image", f"its header is damaged ({_cause(error)})") from None
    _three_dimensions(header)


def is_nifti_data(path: Path) -> bool:
    """Tell whether a file is the voxels of a pair `.hdr`/`.img`."""
    return path.name.lower().endswith((".img", ".img.gz")) and _sibling(path, ".hdr") is not None


# The file


def _sibling(path: Path, suffix: str) -> Path | None:
    """Return the file beside `path` with the same stem and `suffix` (or with .gz), in upper or lower case."""
    stem = name_without_suffix(path.name)
    wanted = {f"{stem}{one}{gz}" for one in (suffix, suffix.upper()) for gz in ("", ".gz", ".GZ")}
    for name in sorted(wanted):
        if (path.parent / name).is_file():
            return path.parent / name
    return None


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return bytes(igzip.decompress(content))
    except (OSError, EOFError, ValueError, zlib.error, igzip.BadGzipFile) as error:
        raise NiftiRefused("unreadable_image", f"its gzip is damaged ({_cause(error)})") from None


def _opened(path: Path) -> Any:
    """Return nibabel's image of a file, its voxels not read yet."""
    head_path: Path | None = path
    if path.name.lower().endswith((".img", ".img.gz")) and (head_path := _sibling(path, ".hdr")) is None:
        raise NiftiRefused("nifti_part_missing", f"{path.name}: its header (.hdr) is not beside it")
    assert head_path is not None
    content = _content(head_path)
    version, is_pair = _format(content)
    _check_raw_forms(content, version)
    parts = {"image": FileHolder(fileobj=io.BytesIO(content))}
    kinds = {(1, False): nib.Nifti1Image, (2, False): nib.Nifti2Image, (1, True): nib.Nifti1Pair}
    kind = kinds.get((version, is_pair), nib.Nifti2Pair)
    voxels = content
    if is_pair:
        if (data_path := _sibling(head_path, ".img")) is None:
            raise NiftiRefused("nifti_part_missing", f"{path.name}: its voxels (.img) are not beside it")
        voxels = _content(data_path)
        parts = {"header": parts["image"], "image": FileHolder(fileobj=io.BytesIO(voxels))}
    try:
        image = kind.from_file_map(parts, mmap=False)
        header = image.header
        dtype, shape = header.get_data_dtype(), header.get_data_shape()
        needed = int(np.prod([max(size, 0) for size in shape], dtype=object)) * dtype.itemsize
        offset = int(header.get_data_offset())
    except Exception as error:
        raise NiftiRefused("unreadable_image", f"its header is damaged ({_cause(error)})") from None
    _check_type(header)
    if len(voxels) < offset + needed:
        raise NiftiRefused(
            "unreadable_image", f"it ends {offset + needed - len(voxels)} bytes before its last voxel"
        )
    return image


def _format(content: bytes) -> tuple[int, bool]:
    """Return the version of NIfTI, 1 or 2, and whether the voxels are in a file of their own."""
    if len(content) < 348:
        raise NiftiRefused("unreadable_image", "it is too short for a NIfTI header")
    sizes = {struct.unpack_from(order + "i", content)[0] for order in "<>"}
    if 540 in sizes:
        magic = content[4:7]
        if magic in (b"n+2", b"ni2"):
            return 2, magic == b"ni2"
    elif 348 in sizes:
        magic = content[344:347]
        if magic in (b"n+1", b"ni1"):
            return 1, magic == b"ni1"
        raise NiftiRefused(
            "analyze_format", "it is Analyze 7.5, not NIfTI: nothing says where left and right are"
        )
    raise NiftiRefused("unreadable_image", "it does not begin like NIfTI-1 or NIfTI-2")


def _check_raw_forms(content: bytes, version: int) -> None:
    """Refuse a header without sform whose pixdim holds no steps (nibabel would put 1 mm there), or no rotation."""
    kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    try:
        header = kind(content[: kind.sizeof_hdr], check=False)
        steps, has_sform = header["pixdim"][1:4], int(header["sform_code"]) > 0
        turn = [float(header[name]) for name in ("quatern_b", "quatern_c", "quatern_d")]
    except Exception as error:
        raise NiftiRefused("unreadable_image", f"its header is damaged ({_cause(error)})") from None
    if not has_sform and (not np.isfinite(steps).all() or np.any(steps == 0)):
        raise NiftiRefused("singular_affine", "pixdim holds a step of 0 or no number, and there is no sform")
    if (
        not has_sform
        and int(header["qform_code"]) > 0
        and not sum(one**2 for one in turn) <= 1 + QUATERNION_SLACK
    ):
        raise NiftiRefused("singular_affine", "its qform is no rotation, and there is no sform")


def _check_type(header: Any) -> None:
    dtype = header.get_data_dtype()
    if dtype.fields is not None or np.issubdtype(dtype, np.complexfloating):
        raise NiftiRefused("not_monochrome", "its voxels are colours or complex numbers")


def _three_dimensions(header: Any) -> tuple[int, int, int]:
    shape = tuple(int(size) for size in header.get_data_shape())
    if len(shape) < 3 or min(shape) < 1 or any(size != 1 for size in shape[3:]):
        raise NiftiRefused("not_three_dimensional", f"a 3-D image is expected, its shape is {shape}")
    return shape[0], shape[1], shape[2]


def _cause(error: Exception) -> str:
    return type(error).__name__


# Units and forms


def _affine_mm(header: Any, shape: tuple[int, int, int]) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Return the affine to RAS millimetres, and what is not proven about it."""
    warnings = []
    factor = MILLIMETRES.get(int(header["xyzt_units"]) & SPATIAL_UNIT_BITS)
    sform, qform, is_qform_broken = _forms(header)
    if sform is not None:
        affine = sform
        if is_qform_broken or (qform is not None and not _agree(sform, qform, shape)):
            warnings.append("nifti_forms_disagree")
        steps, pixdim = (
            np.linalg.norm(sform[:3, :3], axis=0),
            np.abs(header["pixdim"][1:4].astype(np.float64)),
        )
        if np.any(np.abs(steps - pixdim) > PIXDIM_AGREES * steps):
            warnings.append("nifti_spacing_disagrees")
    elif qform is not None:
        affine = qform
    else:
        warnings.append("nifti_orientation_unknown")
        affine = np.diag([*np.abs(header["pixdim"][1:4].astype(np.float64)), 1.0])
        affine[0] *= -1  # as nibabel and ITK read such a file: the first axis runs to the patient's left
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    known = 1.0 if factor is None else factor
    affine = np.diag([known, known, known, 1.0]) @ affine
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if factor is None and not PIXELS_SURELY_MM[0] <= steps.min() <= PIXELS_SURELY_MM[1]:
        warnings.append("length_unit_not_stated")
    if not np.isfinite(affine).all() or steps.min() <= 0:
        raise NiftiRefused("singular_affine", "its affine spans no space (zeros, or no numbers)")
    units = affine[:3, :3] / steps
    if abs(np.linalg.det(units)) < 1e-3:
        raise NiftiRefused("singular_affine", "its affine spans no space (two axes run the same way)")
    cosines = units.T @ units
    if np.abs(cosines - np.eye(3)).max() > RIGHT_ANGLE:
        warnings.append("sheared_grid")
    return affine, tuple(warnings)


def _forms(header: Any) -> tuple[Any, Any, bool]:
    """Return sform and qform, None where their code is 0, and whether a qform is stated that is no rotation."""
    sform = header.get_sform(coded=True)[0]
    try:
        return sform, header.get_qform(coded=True)[0], False
    except Exception:  # nibabel raises several kinds for quaternions and steps that are none
        return sform, None, True


def _agree(sform: Any, qform: Any, shape: tuple[int, int, int]) -> bool:
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape], [1], indexing="ij"), float).reshape(
        4, -1
    )
    tolerance = FORMS_AGREE * np.linalg.norm(sform[:3, :3], axis=0).min()
    return bool(np.abs((sform - qform) @ corners).max() <= tolerance)

"""Loading any head image: NIfTI, one DICOM file, or a folder of DICOM files.

Belongs here: telling the formats apart, the checks that hold for all of them, and the public `load_image`.
Does not: resampling (`neuro.preprocess`), reading DICOM (`neuro.dicom_source`) and NIfTI (`imaging.nifti_read`).

One rule for what cannot be used: a path that does not exist raises `FileNotFoundError`, everything else
raises `ImageRefusedError` with a reason code; nothing is returned in its place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ct_assets.imaging import nifti_read
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.settings.neuro import Mode, PreprocessingSettings
from ct_assets.systems.neuro.refusal import ImageRefusedError

if TYPE_CHECKING:
    import SimpleITK

NIFTI_SUFFIXES = (".nii", ".nii.gz")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""A DICOM file on a medium has no suffix at all (PS3.10 8.2), one named by its UID something like one."""
PREAMBLE_BYTES, PREFIX = 128, b"DICM"
"""How every DICOM file begins (PS3.10 7.1)."""
LARGEST_SHEAR = 1e-3
"""Cosine between two axes up to which they count as at right angles: 0.2 mm over a head."""
SMALLEST_EXTENT_MM, LARGEST_EXTENT_MM = 2.0, 3000.0
"""Longest side of an image: below are micrometres taken for millimetres, above metres or nonsense."""
WARNINGS_KEY = "ct_assets.warnings"
"""Metadata of the SimpleITK image that lists the codes of what was corrected or looks odd."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """One image as its file has it."""

    volume: Volume
    mode: Mode | None
    """What the header says; NIfTI says nothing."""
    warnings: tuple[str, ...] = ()
    """Codes of `ct_assets.reasons`."""


def load_image(
    path: str | Path,
    preprocess: bool = True,
    *,
    mode: Mode | None = None,
    series: str | None = None,
    settings: PreprocessingSettings | None = None,
) -> "SimpleITK.Image":
    """Load an image from `.nii`, `.nii.gz`, a DICOM file or a folder of DICOM files.

    With `preprocess` it is turned to RPI, resampled to 1 x 1 x 4 mm (4 mm along its slice axis) and cropped
    about its centre to whole tokens; without, voxels and geometry are those of the file. `mode` decides what
    lies outside the scan (CT: air); by default the header, then the values tell. `series` chooses from a
    folder of several by its identifier. The image's metadata key `ct_assets.warnings` lists what was
    corrected, as codes.

    Raises `FileNotFoundError` for a path that does not exist, `ImageRefusedError` for anything that is no
    grey-scale 3-D image, `ValueError` for a mode other than `ct` and `mri`.
    """
    from ct_assets.imaging import itk
    from ct_assets.systems.neuro import preprocess as steps
    from ct_assets.systems.neuro.prepare import check_mode

    path = Path(path)
    loaded = read(path, series=series)
    warnings = list(loaded.warnings)
    volume = loaded.volume
    if preprocess:
        known = loaded.mode if mode is None else check_mode(mode)
        volume = steps.preprocess(volume, known, settings or PreprocessingSettings())
    elif is_sheared(volume.grid):
        raise ImageRefusedError("sheared_grid", path.name)
    image = itk.image_of(volume)
    image.SetMetaData(WARNINGS_KEY, " ".join(warnings))
    return image


def read(path: Path, *, series: str | None = None) -> Loaded:
    """Return an image as its file has it, finite everywhere. Raises as `load_image`."""
    if not path.exists():
        raise FileNotFoundError(f"{path.name}: no such file or folder")
    name = path.name.lower()
    if path.is_file() and name.endswith(NIFTI_SUFFIXES):
        with _damage_refused(path.name):
            image = nifti_read.read(path)
        loaded = Loaded(image.volume, None, tuple(code for code in image.warnings if code != "sheared_grid"))
    elif path.is_dir() or name.endswith(DICOM_SUFFIXES) or not path.suffix or _has_dicom_prefix(path):
        from ct_assets.systems.neuro import dicom_source

        with _damage_refused(path.name):
            loaded = dicom_source.read(path, series=series)
    else:
        raise ImageRefusedError("unsupported_format", path.name)
    return _checked(path.name, loaded)


def _has_dicom_prefix(path: Path) -> bool:
    with _damage_refused(path.name), path.open("rb") as opened:
        return opened.read(PREAMBLE_BYTES + len(PREFIX))[PREAMBLE_BYTES:] == PREFIX


def check_nifti_header(path: Path) -> None:
    """Raise `ImageRefusedError` where the header alone tells that `path` is no grey-scale 3-D image."""
    with _damage_refused(path.name):
        nifti_read.check_header(path)


@contextmanager
def _damage_refused(name: str) -> Iterator[None]:
    try:
        yield
    except ImageRefusedError:
        raise
    except nifti_read.NiftiRefused as refusal:
        raise ImageRefusedError(refusal.code, name, refusal.detail) from None
    except Exception:
        # Whatever a broken file raises in a reader, it is one image with a code.
        raise ImageRefusedError("unreadable_image", name) from None


def _checked(name: str, loaded: Loaded) -> Loaded:
    """Replace what is not finite, name a sheared grid, refuse one that is no part of a body."""
    array, grid, warnings = loaded.volume.array, loaded.volume.grid, list(loaded.warnings)
    extent_mm = max(n * step for n, step in zip(grid.shape[::-1], grid.spacing_mm, strict=True))
    if not SMALLEST_EXTENT_MM <= extent_mm <= LARGEST_EXTENT_MM:
        raise ImageRefusedError("implausible_extent", name, f"Its longest side is {extent_mm:.4g} mm.")
    if np.issubdtype(array.dtype, np.floating):
        finite = np.isfinite(array)
        if not finite.any():
            raise ImageRefusedError("no_finite_voxels", name)
        if not finite.all():
            array = np.where(finite, array, array[finite].min())
            warnings.append("non_finite_voxels")
    if is_sheared(grid):
        warnings.append("sheared_grid")
    return Loaded(Volume(array, grid), loaded.mode, tuple(dict.fromkeys(warnings)))


def is_sheared(grid: Grid) -> bool:
    """Tell whether two axes of a grid are not at right angles."""
    cosines = grid.direction.T @ grid.direction
    return bool(np.abs(cosines - np.eye(3)).max() > LARGEST_SHEAR)

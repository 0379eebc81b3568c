"""One way to load any image: a DICOM series or file, NIfTI, MetaImage, NRRD.

Belongs here: telling the formats apart and bringing each to a `Volume` in LPS millimetres. Does not: grouping
and converting DICOM (`dicom.series`, `imaging.convert`), the NIfTI format (`imaging.nifti`), resampling.

One rule for what cannot be used: a path that is not there raises `FileNotFoundError`, everything else
`ImageRefused` with a reason code. Nothing is guessed: several series need a choice, and a colour image or one
with a time axis is no volume.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ct_assets import progress, tables
from ct_assets.dicom import index as headers
from ct_assets.dicom.series import Series, group
from ct_assets.dicom.uids import Kind
from ct_assets.imaging import nifti_read
from ct_assets.imaging.convert import ConversionRefused, load_series
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.settings import Settings
from ct_assets.tables.audits import MetadataAudit

ITK_SUFFIXES = (".mhd", ".mha", ".nrrd", ".nhdr")
"""MetaImage with its data beside or inside, NRRD likewise; read by ITK, whose world is LPS."""


class ImageRefused(Exception):  # noqa: N818 - a decision, not a failure
    """An image that is not taken; `reasons` are codes of `ct_assets.reasons`."""

    def __init__(self, reasons: tuple[str, ...], detail: str = "") -> None:
        super().__init__(", ".join(reasons) + (f": {detail}" if detail else ""))
        self.reasons = reasons


@dataclass(frozen=True, eq=False)
class Loaded:
    """An image as its file has it."""

    volume: Volume
    """CT from DICOM in HU; elsewhere the values of the file."""
    warnings: tuple[str, ...] = ()
    series_id: str | None = None
    """Which series of the folder it is; None for formats without series."""


def load(path: Path, *, series: str | None = None, settings: Settings | None = None) -> Loaded:
    """Load a folder of DICOM (files of any name), a DICOM file, NIfTI (version 1 or 2, also a pair),
    `.mhd`, `.mha`, `.nrrd`, `.nhdr`.

    `series` chooses among several CT series by `series_id` (a SeriesInstanceUID, with a suffix where one UID
    holds several volumes); `settings` say which corrections of DICOM geometry are allowed. Raises
    `FileNotFoundError`, `ImageRefused`.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path.name}: no such file or folder")
    name = path.name.lower()
    if path.is_file() and nifti_read.is_nifti(path):
        return _nifti(path)
    if path.is_file() and name.endswith(ITK_SUFFIXES):
        return Loaded(_itk(path))
    return _dicom(path, series, settings or Settings())


def series_of(path: Path, settings: Settings | None = None) -> list[Series]:
    """Return the CT series of a folder or file, refused ones too, so that one can be chosen."""
    index, _ = _index(path)
    return [one for one in group(index, (settings or Settings()).audit) if one.kind is Kind.CT]


def _dicom(path: Path, wanted: str | None, settings: Settings) -> Loaded:
    index, root = _index(path)
    if index.is_empty() or not index["is_dicom"].any():
        raise ImageRefused(("unsupported_format",))
    found = group(index, settings.audit)
    cts = [one for one in found if one.kind is Kind.CT]
    if wanted is not None:
        cts = [one for one in cts if one.series_id == wanted]
    if not cts:
        scouts = () if wanted else tuple(sorted({code for one in found for code in one.reasons}))
        raise ImageRefused(scouts or ("no_image_series",))
    usable = [one for one in cts if one.decision != "refuse"]
    if len(usable) > 1:
        raise ImageRefused(("several_series",), "; ".join(sorted(one.series_id for one in usable)))
    chosen = usable[0] if usable else cts[0]
    try:
        converted = load_series(chosen, root, settings.conversion, index)
    except ConversionRefused as refusal:
        raise ImageRefused(refusal.reasons) from None
    warnings = (*converted.corrections, *converted.warnings)
    return Loaded(converted.volume, warnings, chosen.series_id)


def _index(path: Path) -> tuple[pl.DataFrame, Path]:
    """Return the header index of a folder or of one file, and the root of its paths."""
    if path.is_dir():
        with progress.lines_to(lambda _: None):  # one image of many: whoever called shows the progress
            return headers.scan(path, root=path, workers=1), path
    row = headers.read_file(path) | {"path": path.name}
    return pl.DataFrame([row], schema=tables.dtypes(MetadataAudit)), path.parent


def _nifti(path: Path) -> Loaded:
    try:
        image = nifti_read.read(path)
    except nifti_read.NiftiRefused as refusal:
        raise ImageRefused((refusal.code,), refusal.detail) from None
    except OSError:
        raise ImageRefused(("unreadable_image",)) from None
    return Loaded(image.volume, image.warnings)


def _itk(path: Path) -> Volume:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise ImageRefused(("unreadable_image",)) from None
    size = reader.GetSize()
    if len(size) < 3 or 0 in size or any(count > 1 for count in size[3:]):
        raise ImageRefused(("not_three_dimensional",), f"its size is {tuple(size)}")
    if reader.GetNumberOfComponents() != 1:
        raise ImageRefused(("not_monochrome",), f"{reader.GetNumberOfComponents()} values a voxel")
    spacing = reader.GetSpacing()[:3]
    reader.SetExtractSize([*size[:3], *[0] * (len(size) - 3)])
    try:
        image = reader.Execute()
        direction = np.asarray(image.GetDirection()).reshape(3, 3)
        array = SimpleITK.GetArrayFromImage(image)
        grid = Grid.of(array.shape, tuple(spacing), image.GetOrigin(), direction)
    except (RuntimeError, ValueError):
        raise ImageRefused(("unreadable_image",)) from None
    return Volume(array, grid)

"""DICOM of head CT and MR, by the platform's own header index, grouping and conversion.

Belongs here: which series a file or folder holds, and reading one. Does not: the grouping and its geometry
(`dicom.series`), decoding and positions (`imaging.convert`).

The grouping proves where the slices of a CT lie. MR slices lie in space by the same elements (PS3.3
C.7.6.2), so they are handed to it as CT slices; their values are no Hounsfield units and have no such claim.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from ct_assets import progress, tables
from ct_assets.dicom import index as headers
from ct_assets.dicom.series import Series, group
from ct_assets.dicom.uids import CT_IMAGE, ENHANCED_CT_IMAGE, Kind
from ct_assets.files import digest_of
from ct_assets.imaging.convert import ConversionRefused, load_series
from ct_assets.settings.audit import AuditSettings
from ct_assets.settings.conversion import ConversionSettings
from ct_assets.settings.neuro import Mode
from ct_assets.systems.neuro.load import DICOM_SUFFIXES, Loaded
from ct_assets.systems.neuro.refusal import ImageRefusedError
from ct_assets.tables.audits import MetadataAudit

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
MULTI_FRAME_MR_IMAGES = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
"""Enhanced MR and legacy converted enhanced MR (PS3.4 B.5)."""
HEAD_SERIES = AuditSettings(
    tilt="correct", exact_duplicates="correct", uneven_spacing="correct", oblique="convert"
)
"""Head CT is often scanned along a tilted gantry or in two slice widths, and MR along the anatomy; all is
resampled to tokens anyway, so what resampling can set right is corrected and named."""
IDENTIFIER_DIGITS = 8


@dataclass(frozen=True)
class Found:
    """One image series of a folder."""

    identifier: str
    """Eight hex digits of a digest: names the series without telling its UID."""
    series: Series
    mode: Mode
    paths: tuple[str, ...]
    """Its files relative to the folder, sorted."""


@dataclass(frozen=True, eq=False)
class Scan:
    """The series of a folder, and the header index behind them."""

    root: Path
    index: pl.DataFrame
    found: tuple[Found, ...]
    others: dict[str, str]
    """Files that belong to no series, relative to the folder, with the code that says what they are."""


def scan(path: Path) -> Scan:
    """Return the CT and MR series of a folder and all below it, or of one file, ordered by identifier."""
    if path.is_dir():
        with progress.lines_to(lambda _: None):  # one image of many: whoever called shows the progress
            root, index = path, headers.scan(path, root=path, workers=1)
    else:
        row = headers.read_file(path) | {"path": path.name}
        root, index = path.parent, pl.DataFrame([row], schema=tables.dtypes(MetadataAudit))
    others = {name: _no_dicom(name) for name in index.filter(~pl.col("is_dicom"))["path"]}
    index = index.filter(pl.col("is_dicom"))
    colour = set(index.filter(pl.col("samples_per_pixel").fill_null(1) > 1)["path"])
    parts: tuple[tuple[Mode, pl.DataFrame], ...] = (
        ("ct", index.filter(~_is_mr())),
        ("mri", _standing_in_as_ct(index.filter(_is_mr()))),
    )
    found = []
    for mode, part in parts:
        for series in group(part, HEAD_SERIES):
            paths = tuple(sorted({instance.path for instance in series.instances}))
            others |= {left.path: left.reason for left in series.left_out}
            if series.kind is Kind.CT:
                found.append(Found(digest_of(series.series_id)[:IDENTIFIER_DIGITS], series, mode, paths))
                continue
            code = "localizer" if series.kind is Kind.LOCALIZER else "no_image_series"
            others |= {name: "not_monochrome" if name in colour else code for name in paths}
    return Scan(
        root,
        pl.concat([part for _, part in parts]),
        tuple(sorted(found, key=lambda one: one.identifier)),
        others,
    )


def _no_dicom(name: str) -> str:
    return "unreadable_image" if name.lower().endswith(DICOM_SUFFIXES) else "unsupported_format"


def read(path: Path, *, series: str | None = None) -> Loaded:
    """Return the one series of a file or folder, or the one that `series` names.

    Raises `ImageRefusedError`: of several series none is taken silently.
    """
    scanned = scan(path)
    found = [one for one in scanned.found if series is None or one.identifier == series]
    if not found:
        codes = set(scanned.others.values())
        raise ImageRefusedError(codes.pop() if len(codes) == 1 else "no_image_series", path.name)
    if len(found) > 1:
        names = ", ".join(one.identifier for one in found)
        raise ImageRefusedError("several_series", path.name, f"They are {names}.")
    return _load(path.name, scanned, found[0])


def _load(name: str, scanned: Scan, one: Found) -> Loaded:
    series = _usable(name, one.series, single_slice=True)
    try:
        converted = load_series(series, scanned.root, ConversionSettings(padding="air"), scanned.index)
    except ConversionRefused as refused:
        raise ImageRefusedError(refused.reasons[0], name) from None
    told = {*converted.warnings, *converted.corrections, *(set(one.series.reasons) - set(series.reasons))}
    return Loaded(converted.volume, one.mode, tuple(sorted(told)))


def check(name: str, one: Found) -> None:
    """Raise `ImageRefusedError` where the headers alone tell that a series is no volume."""
    _usable(name, one.series, single_slice=False)


def _usable(name: str, series: Series, *, single_slice: bool) -> Series:
    """Return the series with the decision that holds here, where nobody needs its identity.

    One slice alone is loaded where it is asked for (as thick as a pixel is wide would be a guess: 1 mm), and
    is no image of a data set.
    """
    ignored = _IDENTITY | ({"single_slice"} if single_slice else set())
    reasons = tuple(code for code in series.reasons if code not in ignored)
    refusing = [code for code in reasons if code not in _CORRECTED]
    if series.geometry is None or refusing:
        raise ImageRefusedError((refusing or list(series.reasons))[0], name)
    return replace(series, decision="correct" if reasons else "convert", reasons=reasons)


_IDENTITY = frozenset(
    f"missing_{name}"
    for name in (
        "patient_id",
        "study_instance_uid",
        "series_instance_uid",
        "sop_instance_uid",
        "sop_class_uid",
    )
)
_CORRECTED = frozenset(("gantry_tilt", "exact_duplicate_positions", "uneven_spacing"))


def _is_mr() -> pl.Expr:
    sop_class = pl.col("sop_class_uid")
    by_class = sop_class.is_in([MR_IMAGE, *MULTI_FRAME_MR_IMAGES])
    return (by_class | (sop_class.is_null() & (pl.col("modality") == "MR"))).fill_null(False)


def _standing_in_as_ct(index: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of MR slices in the form in which the grouping takes slices."""
    is_multi_frame = pl.col("sop_class_uid").is_in(MULTI_FRAME_MR_IMAGES).fill_null(False)
    return index.with_columns(
        pl.when(is_multi_frame)
        .then(pl.lit(ENHANCED_CT_IMAGE))
        .otherwise(pl.lit(CT_IMAGE))
        .alias("sop_class_uid"),
        pl.lit("CT").alias("modality"),
        pl.col("rescale_slope").fill_null(1.0),
        pl.col("rescale_intercept").fill_null(0.0),
        pl.lit(None, dtype=pl.String).alias("rescale_type"),
    )

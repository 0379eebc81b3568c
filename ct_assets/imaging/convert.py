"""One CT series as a volume in Hounsfield units, every voxel where the headers put it.

Belongs here: loading, ordering, rescaling, proving positions, applying allowed corrections; no statistics.
Does not: grouping and judging (`dicom.series`), masks (`imaging.masks`), files (`imaging.convert_tree`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ct_assets.dicom import units
from ct_assets.dicom.pixels import (
    FrameReader,
    PixelError,
    PixelFormat,
    Stored,
    clear_unused_bits,
    read_native,
)
from ct_assets.dicom.series import Instance, Series
from ct_assets.imaging import correct, hu
from ct_assets.imaging.hu import Rescale
from ct_assets.imaging.orient import orient
from ct_assets.imaging.target import Target
from ct_assets.imaging.volume import Array, Grid, Volume
from ct_assets.settings.conversion import ConversionSettings

PROVEN_MM = 0.01
"""Corners of exact headers lie this near to the grid; farther ones (rounded positions) are reported."""

BLOCK_BYTES = 1 << 22
"""So many bytes of slices are read and rescaled at a time: they stay in the processor's cache."""

UNEXPECTED = "unexpected_failure"
"""The code of what failed on one object in a way that has no name."""
DEBUG = "CT_ASSETS_DEBUG"
"""Environment variable: with it, such a failure is raised instead of being a row."""

PIXEL_COLUMNS = (
    "transfer_syntax_uid",
    "rows",
    "columns",
    "bits_allocated",
    "bits_stored",
    "high_bit",
    "pixel_representation",
    "samples_per_pixel",
    "number_of_frames",
    "rescale_slope",
    "rescale_intercept",
    "rescale_type",
    "pixel_padding_value",
    "pixel_padding_range_limit",
    "frame_rescale_slopes",
    "frame_rescale_intercepts",
    "frame_rescale_types",
)
"""Columns of the header index that the voxels follow from."""

Row = Mapping[str, Any]


class ConversionRefused(Exception):  # noqa: N818 - a decision, not a failure
    """A series that is not converted; `reasons` are codes of `ct_assets.reasons`."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__(", ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True, eq=False)
class Converted:
    """A series as a volume, and what masks need to follow it."""

    volume: Volume
    """HU; int16 where that is exact, else float32."""
    target: Target
    """The slices as their headers place them, before any correction: what masks are put onto."""
    corrections: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: dict[str, Any]
    """What the record of the conversion tells."""
    stack_grid: Grid
    """The regular grid of the stack; for a corrected series that of its first slice's step."""
    orientation: str
    correction: correct.Correction | None = field(default=None, repr=False)

    def labels_on_volume(self, labels: Array) -> Volume:
        """Take labels on the stack, (slice, row, column), to the volume's grid as the image was taken."""
        if self.correction is not None:
            labels_there = self.correction.apply(labels, nearest=True, outside=0)
        else:
            labels_there = Volume(labels, self.stack_grid)
        return orient(labels_there, self.orientation)


def load_series(
    series: Series, root: Path, settings: ConversionSettings, index: pl.DataFrame | None = None
) -> Converted:
    """Load a CT series in HU on its grid.

    `index` is the header index the series was grouped from; without it the headers are read again. Raises
    `ConversionRefused` with the codes of the series, or with those found in its pixels.
    """
    if series.decision == "refuse" or series.geometry is None:
        raise ConversionRefused(series.reasons)
    rows = _rows(series, root, index)
    slices = [_slice(instance, rows[instance.path]) for instance in series.instances]
    warnings = set(series.warnings) | _check_intensity(slices, root, settings)
    target = Target.of(series)
    stack = target.stack
    array, facts = _read(slices, stack.shape, root, settings, warnings)
    faults = series.reasons if series.decision == "correct" else ()
    needs_resampling = {correct.SHEAR, *correct.UNEVEN} & set(faults)
    correction = None
    if needs_resampling:
        step = series.geometry.spacing_mm
        correction = correct.plan(stack, series.geometry.affine_lps, tuple(faults), step)
        volume = correction.apply(array, nearest=False, outside=settings.air_hu)
        facts["resampled"] = "linear"
    else:
        volume = Volume(array, Grid(stack.shape, series.geometry.affine_lps))
        error = stack.distance_from(volume.grid)
        facts["max_position_error_mm"] = round(error, 6)
        if error > PROVEN_MM:
            warnings.add("positions_rounded")
    facts["dtype"] = str(array.dtype)
    return Converted(
        volume=orient(volume, settings.orientation),
        target=target,
        corrections=tuple(faults),
        warnings=tuple(sorted(warnings)),
        facts=facts,
        stack_grid=Grid(stack.shape, series.geometry.affine_lps),
        orientation=settings.orientation,
        correction=correction,
    )


@dataclass(frozen=True, slots=True)
class _Slice:
    path: str
    frame: int | None
    form: PixelFormat
    rescale: Rescale | None
    rescale_type: str | None
    padding: tuple[int, int] | None
    """First and last stored value that means padding."""

    def is_read_as(self, other: "_Slice") -> bool:
        """Tell whether the stored values of both become HU in the same way."""
        return (
            self.form is other.form
            and self.rescale == other.rescale
            and self.padding == other.padding
            and (self.frame is None) == (other.frame is None)
        )


def _rows(series: Series, root: Path, index: pl.DataFrame | None) -> dict[str, Row]:
    paths = sorted({instance.path for instance in series.instances})
    if index is not None:
        found = index if len(index) == len(paths) else index.filter(pl.col("path").is_in(paths))
        return {row["path"]: row for row in found[["path", *PIXEL_COLUMNS]].iter_rows(named=True)}
    from ct_assets.dicom.index import read_file

    return {path: read_file(root / path) for path in paths}


def _slice(instance: Instance, row: Row) -> _Slice:
    slope, intercept, unit = row["rescale_slope"], row["rescale_intercept"], row["rescale_type"]
    if instance.frame is not None:
        slope = _of_frame(row["frame_rescale_slopes"], instance.frame, slope)
        intercept = _of_frame(row["frame_rescale_intercepts"], instance.frame, intercept)
        unit = _of_frame(row["frame_rescale_types"], instance.frame, unit)
    try:
        stored = int(row["bits_stored"] or row["bits_allocated"])
        form = _form(
            row["transfer_syntax_uid"] or "",
            int(row["rows"]),
            int(row["columns"]),
            int(row["bits_allocated"]),
            stored,
            stored - 1 if row["high_bit"] is None else int(row["high_bit"]),
            row["pixel_representation"] == 1,
            int(row["samples_per_pixel"] or 1),
            int(row["number_of_frames"] or 1),
        )
    except (TypeError, ValueError):
        raise ConversionRefused(("pixel_format_invalid",)) from None
    except PixelError as error:
        raise ConversionRefused((error.code,)) from None
    padding = None
    if (value := row["pixel_padding_value"]) is not None:
        limit = row["pixel_padding_range_limit"]
        ends = [_as_stored(value, form), _as_stored(value if limit is None else limit, form)]
        padding = (min(ends), max(ends))
    return _Slice(
        path=instance.path,
        frame=instance.frame,
        form=form,
        rescale=None if slope is None or intercept is None else Rescale(float(slope), float(intercept)),
        rescale_type=unit,
        padding=padding,
    )


@lru_cache(maxsize=256)
def _form(*values: Any) -> PixelFormat:
    """Return one object for equal forms, checked. Raises `PixelError`."""
    form = PixelFormat(*values)
    form.check_gray()
    return form


def _of_frame(values: list[Any] | None, frame: int, otherwise: Any) -> Any:
    """Return a frame's value, None where others have one and this frame has none; `otherwise` where none has."""
    if not values:
        return otherwise
    if len(values) == 1:
        return values[0]
    return values[frame] if frame < len(values) else None


def _as_stored(value: int, form: PixelFormat) -> int:
    """Read a padding value with the pixels' own sign: writers mix up US and SS (PS3.3 C.7.5.1.1.2)."""
    wrapped = value % (1 << form.bits_allocated)
    if form.is_signed and wrapped >= 1 << (form.bits_allocated - 1):
        return wrapped - (1 << form.bits_allocated)
    return wrapped


def _check_intensity(slices: list[_Slice], root: Path, settings: ConversionSettings) -> set[str]:
    """Refuse what is not in Hounsfield units; return the warnings.

    Slope and intercept are Type 1 in the CT Image module (PS3.3 C.8.2.1), and a Modality LUT may not stand
    beside them (C.11.1): a LUT alone maps to whatever unit its maker meant, so it is refused by a name of its
    own.
    """
    warnings = set()
    if units.not_hu({one.rescale_type for one in slices}, settings.rescale_types):
        raise ConversionRefused(("rescale_type_not_hu",))
    without = [one for one in slices if one.rescale is None]
    if without:
        has_lut = _has_modality_lut(root / without[0].path)
        raise ConversionRefused(("modality_lut_instead_of_rescale" if has_lut else "missing_rescale",))
    rescales = {one.rescale for one in slices}
    if any(not np.isfinite((r.slope, r.intercept)).all() or r.slope == 0 for r in rescales if r):
        raise ConversionRefused(("invalid_rescale",))
    if len(rescales) > 1:
        warnings.add("several_rescales")
    return warnings


def _has_modality_lut(path: Path) -> bool:
    from pydicom import dcmread

    try:
        header = dcmread(path, stop_before_pixels=True)
        groups = [*(header.get("SharedFunctionalGroupsSequence") or ()), header]
        return any("ModalityLUTSequence" in group for group in groups)
    except Exception:  # the header index read it; what is broken beyond that has a code of its own
        return False


def _read(
    slices: list[_Slice],
    shape: tuple[int, int, int],
    root: Path,
    settings: ConversionSettings,
    warnings: set[str],
) -> tuple[Array, dict[str, Any]]:
    """Read all slices in HU; int16 first, again as float32 when a slice does not fit."""
    can_be_int16 = all(one.rescale is not None and one.rescale.is_integer for one in slices)
    for dtype in (np.int16, np.float32) if can_be_int16 else (np.float32,):
        array = np.empty(shape, dtype=dtype)
        padding = _fill(array, slices, root, settings, warnings)
        if padding is not None:
            break
    facts: dict[str, Any] = {}
    if any(one.padding is not None for one in slices):
        facts["padding_voxels"] = padding
        if padding:
            warnings.add("padding_replaced_by_air" if settings.padding == "air" else "padding_kept")
    return array, facts


def _fill(
    array: Array, slices: list[_Slice], root: Path, settings: ConversionSettings, warnings: set[str]
) -> int | None:
    """Fill `array` in place; return the number of padding voxels, or None when int16 does not hold them."""
    padding = 0
    for part, one, stored, had_unused_bits in _stored(slices, array.shape[1:], root):
        if had_unused_bits:
            warnings.add("unused_bits_ignored")
        assert one.rescale is not None
        if array.dtype == np.int16 and not hu.fits_int16(stored, one.rescale):
            return None
        hu.rescale_into(array[part], stored, one.rescale)
        if one.padding is not None:
            is_padding = (stored >= one.padding[0]) & (stored <= one.padding[1])
            padding += int(np.count_nonzero(is_padding))
            if settings.padding == "air":
                array[part][is_padding] = settings.air_hu
    return padding


def _stored(
    slices: list[_Slice], matrix: tuple[int, ...], root: Path
) -> Iterator[tuple[slice, _Slice, Stored, bool]]:
    """Yield stored values in blocks of slices that are read alike: which slices, one of them, (slices, rows, columns)."""
    reader = FrameReader()
    most = max(1, BLOCK_BYTES // (2 * int(np.prod(matrix))))
    start = 0
    try:
        while start < len(slices):
            one = slices[start]
            if (one.form.rows, one.form.columns) != matrix:
                raise ConversionRefused(("mixed_matrix",))
            end = start + 1
            while end < min(len(slices), start + most) and slices[end].is_read_as(one):
                end += 1
            block = None
            if one.frame is None:
                block = read_native([f"{root}/{each.path}" for each in slices[start:end]], one.form)
            if block is not None:
                yield slice(start, end), one, *clear_unused_bits(block, one.form)
            else:
                for at in range(start, end):
                    stored, had_unused_bits = reader.read(root / slices[at].path, one.form, slices[at].frame)
                    yield slice(at, at + 1), one, stored[np.newaxis], had_unused_bits
            start = end
    except PixelError as error:
        raise ConversionRefused((error.code,)) from None
    except OSError:
        raise ConversionRefused(("pixel_data_unreadable",)) from None

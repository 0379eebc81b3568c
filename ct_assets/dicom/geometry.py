"""Where the slices of a series lie, and whether a regular grid holds them.

Belongs here: measuring positions, orientations and spacings of slices (plain arrays in, a `SeriesGeometry`
and reason codes out). Does not: which instances belong together (`dicom.series`), pixels.

Coordinates are DICOM patient coordinates, LPS millimetres (PS3.3 C.7.6.2.1.1). The direction of the slices
is the normal, row direction x column direction; slices are ordered along it. Tilt, spacing and gaps follow
from the positions alone, never from GantryDetectorTilt, SpacingBetweenSlices or SliceThickness.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Vector3 = tuple[float, float, float]

DUPLICATE_TOLERANCE_MM = 0.01
"""Slices nearer to each other along the normal lie at one place; no CT reconstructs so densely."""
UNIT_TOLERANCE = 1e-3
"""How far ImageOrientationPatient may be from two orthogonal unit vectors; three decimals are common."""
PIXEL_SPACING_LIMITS_MM = (0.01, 10.0)
"""Micro-CT begins below, no CT pixel is larger."""
FLOAT_SLACK_MM = 1e-6
"""Rounding of binary fractions, so that a limit of 0.1 admits a difference of 0.1."""
SPACING_SHARE = 0.4
"""A slice may be out of place by no more than this share of the spacing, however large the tolerance: at a
half, order and gaps would no longer be told."""
PROVEN_MM = 0.01
"""Positions that headers tell in full have to be met so well; only their rounding may explain more."""
ROUNDING_ERRORS = 1.5
"""A coordinate misses a line through two others by at most so many units of their last decimal: half a unit
each for itself and the line, a quarter more where the normal is oblique."""
MOST_DECIMALS = 6
SKIPPED_STEP = 1.5
"""A step so many times the usual one skips a slice, even where thin slices keep it within the tolerance."""
STEP_ROUNDING_ERRORS = 3.5
"""Two steps differ by at most so many units of the positions' last decimal through rounding: four positions,
half a unit each in three coordinates, along an oblique normal 4 x 0.5 x sqrt(3)."""
WHOLE_STEP_SHARE = 0.1
"""A gap is a number of missing slices where it is a whole multiple of the spacing up to this share of it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A place where the next slice is further away than the usual spacing."""

    after_slice: int
    """Index of the slice before the gap, counted from 0 along the normal."""
    gap_mm: float
    missing_slices: int | None
    """How many slices fit in; None where no whole number does."""


@dataclass(frozen=True, slots=True)
class SeriesGeometry:
    """The geometry of slices that were measured together; ordered along the normal."""

    rows: int
    columns: int
    slices: int
    """Distinct places along the normal."""
    pixel_spacing_mm: tuple[float, float]
    """Between rows (down a column), between columns (along a row): the order of PixelSpacing."""
    row_direction: Vector3
    """Unit vector of increasing column index (the first three values of ImageOrientationPatient)."""
    column_direction: Vector3
    """Unit vector of increasing row index."""
    normal: Vector3
    plane: str
    """'axial', 'coronal' or 'sagittal': the patient axis nearest to the normal."""
    obliqueness_deg: float
    """Largest angle between an image axis and the patient axis nearest to it."""
    origin_lps_mm: Vector3
    """Position of the first slice."""
    spacing_mm: float
    """Between slices along the normal: mean where even, else the usual step; 0 for one slice."""
    step_min_mm: float
    step_max_mm: float
    coverage_mm: float
    """From the first slice's centre to the last's, along the normal."""
    gaps: tuple[Gap, ...]
    duplicate_positions: int
    """Slices beyond the first at a place."""
    tilt_deg: float
    """Angle between the way from the first to the last slice and the normal."""
    shear_mm_per_slice: tuple[float, float]
    """How far a slice lies from the one before along the rows' and the columns' direction."""
    max_corner_error_mm: float
    """Largest distance, in any coordinate, of any slice's corner from the regular grid; inf for no grid."""
    orientation_spread_deg: float
    pixel_spacing_spread_mm: float

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return self.slices, self.rows, self.columns

    @property
    def affine_lps(self) -> Floats:
        """4 x 4, from (i, j, k, 1), column, row, slice, to LPS millimetres; orthogonal."""
        affine = np.eye(4)
        affine[:3, 0] = np.multiply(self.row_direction, self.pixel_spacing_mm[1])
        affine[:3, 1] = np.multiply(self.column_direction, self.pixel_spacing_mm[0])
        affine[:3, 2] = np.multiply(self.normal, self.spacing_mm or 1.0)
        affine[:3, 3] = self.origin_lps_mm
        return affine


@dataclass(frozen=True, slots=True)
class Measured:
    """A geometry, the order of the slices, and what keeps them from being a regular grid."""

    geometry: SeriesGeometry | None
    order: tuple[int, ...]
    """Indices of the given slices along the normal; as given where there is no common normal."""
    faults: tuple[str, ...]
    """Reason codes, the most basic first."""
    duplicates: tuple[tuple[int, ...], ...]
    """Groups of given indices that lie at one place."""


def measure(
    positions: Floats,
    orientations: Floats,
    pixel_spacings: Floats,
    matrix: npt.NDArray[np.int64],
    *,
    tolerance_mm: float,
    oblique_tolerance_deg: float,
    max_position_mm: float,
) -> Measured:
    """Measure slices given by position (n, 3), orientation (n, 6), spacing (n, 2) and rows, columns (n, 2).

    NaN stands for what a header does not tell. The result does not depend on the order of the slices,
    except for `order` and `duplicates`, which index the given arrays.
    """
    faults = _basic_faults(positions, orientations, pixel_spacings, matrix, max_position_mm)
    as_given = tuple(range(len(positions)))
    if faults:
        return Measured(None, as_given, faults, ())
    rows, columns = (int(size) for size in np.median(matrix, axis=0))
    if (matrix != matrix[0]).any():
        return Measured(None, as_given, ("mixed_matrix",), ())

    typical = _orthonormal(np.median(orientations, axis=0))
    if typical is None:
        return Measured(None, as_given, ("mixed_orientation",), ())
    row_direction, column_direction, normal = typical
    spacing = np.median(pixel_spacings, axis=0)
    orientation_error = float(np.abs(orientations - np.concatenate([row_direction, column_direction])).max())
    extent_mm = float(max((columns - 1) * spacing[1], (rows - 1) * spacing[0]))
    spacing_error = float(np.abs(pixel_spacings - spacing).max())
    found = []
    if orientation_error * extent_mm > tolerance_mm + FLOAT_SLACK_MM:
        found.append("mixed_orientation")
    if spacing_error * max(rows - 1, columns - 1) > tolerance_mm + FLOAT_SLACK_MM:
        found.append("mixed_pixel_spacing")

    along = positions @ normal
    order = np.lexsort((*positions.T, along))
    first = positions[order[0]]
    heights = (along - along[order[0]])[order]
    is_new = np.concatenate([[True], np.diff(heights) > DUPLICATE_TOLERANCE_MM])
    place = np.cumsum(is_new) - 1
    groups = tuple(
        tuple(int(index) for index in order[place == at]) for at in np.flatnonzero(np.bincount(place) > 1)
    )
    distinct = heights[is_new]
    if groups:
        found.append("duplicate_positions")
    steps = np.diff(distinct)
    usual = _usual_step(steps)
    tolerance = min(tolerance_mm, SPACING_SHARE * usual) if len(steps) else tolerance_mm
    mean_step = float(distinct[-1] / len(steps)) if len(steps) else 0.0

    in_plane = (positions[order] - first) @ np.stack([row_direction, column_direction]).T
    shear = _shear(in_plane, heights)
    ideal_heights = place * mean_step
    # Tolerances are of coordinates, as rounding is: along an oblique normal three of them add up.
    height_errors = np.abs(heights - ideal_heights) * np.abs(normal).max()
    skips = _skips_a_slice(steps, _last_unit(positions))
    is_even = bool(height_errors.max() <= tolerance + FLOAT_SLACK_MM) and not skips
    drift = in_plane @ np.stack([row_direction, column_direction])
    drift_tolerance = min(
        tolerance,
        PROVEN_MM + ROUNDING_ERRORS * _last_unit(positions) + float(distinct[-1]) * _last_unit(orientations),
    )
    if np.abs(drift).max() > drift_tolerance + FLOAT_SLACK_MM:
        straight = np.abs(in_plane - heights[:, None] * shear).max() <= tolerance + FLOAT_SLACK_MM
        found.append("gantry_tilt" if straight and len(steps) else "slices_off_line")
    gaps: tuple[Gap, ...] = ()
    if not is_even:
        gaps = _gaps(steps, usual, tolerance)
        found.append("missing_slices" if _are_missing_slices(steps, usual, tolerance) else "uneven_spacing")
    if len(steps) == 0:
        found.append("single_slice")
    obliqueness = _obliqueness_deg(row_direction, column_direction, normal)
    lean = obliqueness
    if "gantry_tilt" in found:
        # The planes of a tilted gantry lean against the table, which runs along the patient all the same.
        way = positions[order[-1]] - first
        across = np.cross(normal, way)
        lean = min(lean, _obliqueness_deg(way / np.linalg.norm(way), across / np.linalg.norm(across)))
    if lean > oblique_tolerance_deg:
        found.append("oblique_orientation")

    step = mean_step if is_even else usual
    corner_error = _corner_error(
        positions[order],
        orientations[order],
        pixel_spacings[order],
        (rows, columns),
        first + np.outer(place * step, normal),
        np.concatenate([row_direction, column_direction]),
        spacing,
    )
    geometry = SeriesGeometry(
        rows=rows,
        columns=columns,
        slices=int(place[-1]) + 1,
        pixel_spacing_mm=(float(spacing[0]), float(spacing[1])),
        row_direction=_vector(row_direction),
        column_direction=_vector(column_direction),
        normal=_vector(normal),
        plane=("sagittal", "coronal", "axial")[int(np.argmax(np.abs(normal)))],
        obliqueness_deg=obliqueness,
        origin_lps_mm=_vector(first),
        spacing_mm=step,
        step_min_mm=float(steps.min()) if len(steps) else 0.0,
        step_max_mm=float(steps.max()) if len(steps) else 0.0,
        coverage_mm=float(distinct[-1]),
        gaps=gaps,
        duplicate_positions=len(positions) - len(distinct),
        tilt_deg=math.degrees(math.atan(float(np.hypot(*shear)))),
        shear_mm_per_slice=(float(shear[0] * step), float(shear[1] * step)),
        max_corner_error_mm=corner_error,
        orientation_spread_deg=math.degrees(orientation_error),
        pixel_spacing_spread_mm=spacing_error,
    )
    return Measured(geometry, tuple(int(index) for index in order), tuple(found), groups)


def _basic_faults(
    positions: Floats,
    orientations: Floats,
    pixel_spacings: Floats,
    matrix: npt.NDArray[np.int64],
    max_position_mm: float,
) -> tuple[str, ...]:
    faults = []
    if np.isnan(positions).any():
        faults.append("missing_position")
    elif np.abs(positions).max() > max_position_mm:
        faults.append("absurd_position")
    if np.isnan(orientations).any():
        faults.append("missing_orientation")
    elif any(_orthonormal(orientation) is None for orientation in np.unique(orientations, axis=0)):
        faults.append("invalid_orientation")
    least, most = PIXEL_SPACING_LIMITS_MM
    if np.isnan(pixel_spacings).any():
        faults.append("missing_pixel_spacing")
    elif pixel_spacings.min() < least or pixel_spacings.max() > most:
        faults.append("invalid_pixel_spacing")
    if (matrix < 1).any():
        faults.append("missing_matrix")
    return tuple(faults)


def _orthonormal(orientation: Floats) -> tuple[Floats, Floats, Floats] | None:
    """Return unit row, column and normal directions; None where the six numbers are no such pair."""
    row, column = orientation[:3], orientation[3:]
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(row @ column))) > UNIT_TOLERANCE:
        return None
    row = row / lengths[0]
    column = column - row * float(row @ column)
    column = column / np.linalg.norm(column)
    return row, column, np.cross(row, column)


def _usual_step(steps: Floats) -> float:
    """Return the median step, or the least one where the median is a whole multiple of it."""
    if not len(steps):
        return 0.0
    median, least = float(np.median(steps)), float(steps.min())
    ratio = median / least
    if round(ratio) > 1 and abs(ratio - round(ratio)) <= WHOLE_STEP_SHARE:
        return least
    return median


def _skips_a_slice(steps: Floats, last_unit: float) -> bool:
    """Whether a step is so much longer than the others that neither jitter nor rounding explains it."""
    if len(steps) < 2:
        return False
    usual = float(np.median(steps)) if len(steps) > 2 else float(steps.min())
    excess = float(steps.max()) - usual
    return excess > max((SKIPPED_STEP - 1) * usual, STEP_ROUNDING_ERRORS * last_unit) + FLOAT_SLACK_MM


def _multiples(steps: Floats, usual: float, tolerance: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    times = np.maximum(np.round(steps / usual), 1)
    allowed = max(2 * tolerance, WHOLE_STEP_SHARE * usual) + FLOAT_SLACK_MM
    return times, np.abs(steps - times * usual) <= allowed


def _are_missing_slices(steps: Floats, usual: float, tolerance: float) -> bool:
    times, fits = _multiples(steps, usual, tolerance)
    return bool(fits.all() and times.max() > 1)


def _gaps(steps: Floats, usual: float, tolerance: float) -> tuple[Gap, ...]:
    times, fits = _multiples(steps, usual, tolerance)
    return tuple(
        Gap(int(at), float(steps[at]), int(times[at]) - 1 if fits[at] else None)
        for at in np.flatnonzero((times > 1) | ~fits)
        if steps[at] > usual
    )


def _last_unit(values: Floats) -> float:
    """Return the unit of the last decimal that any of the values has; 0 for whole and for full numbers."""
    if not (values % 1).any():
        return 0.0
    for decimals in range(1, MOST_DECIMALS + 1):
        if np.abs(values - np.round(values, decimals)).max() < 10.0 ** -(MOST_DECIMALS + 3):
            return 10.0**-decimals
    return 0.0


def _shear(in_plane: Floats, heights: Floats) -> Floats:
    """Return the shift along rows and columns for each millimetre along the normal, first to last slice."""
    return in_plane[-1] / heights[-1] if heights[-1] > DUPLICATE_TOLERANCE_MM else np.zeros(2)


def _obliqueness_deg(*axes: Floats) -> float:
    return max(math.degrees(math.acos(min(1.0, float(np.abs(axis).max())))) for axis in axes)


def _corner_error(
    positions: Floats,
    orientations: Floats,
    pixel_spacings: Floats,
    matrix: tuple[int, int],
    grid_positions: Floats,
    grid_orientation: Floats,
    grid_spacing: Floats,
) -> float:
    """Return the largest coordinate by which a slice's corner, after its own header, misses the grid's."""
    rows, columns = matrix
    worst = 0.0
    for i, j in ((0, 0), (columns - 1, 0), (0, rows - 1), (columns - 1, rows - 1)):
        corner = positions + orientations[:, :3] * pixel_spacings[:, 1:] * i
        corner = corner + orientations[:, 3:] * pixel_spacings[:, :1] * j
        ideal = grid_positions + grid_orientation[:3] * grid_spacing[1] * i
        ideal = ideal + grid_orientation[3:] * grid_spacing[0] * j
        worst = max(worst, float(np.abs(corner - ideal).max()))
    return worst


def _vector(values: Floats) -> Vector3:
    x, y, z = (float(value) for value in values)
    return x, y, z

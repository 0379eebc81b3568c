"""The images of one CT series as planes in the patient: known by SOPInstanceUID, numbered along the normal.

Belongs here: from the header index to planes, and pixels of planes to LPS millimetres. Does not: pixels' values.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SAME_PLACE_MM = 1e-3
PARALLEL = 1e-3
COLUMNS = (
    "series_instance_uid",
    "sop_instance_uid",
    "image_position_patient_mm",
    "image_orientation_patient",
    "pixel_spacing_mm",
    "rows",
    "columns",
    "slice_thickness_mm",
)


@dataclass(frozen=True, eq=False)
class Planes:
    """The planes of a series that share orientation, pixel spacing and size, by position along the normal."""

    number_of: dict[str, int]
    """Plane of each SOPInstanceUID; several images at one place share it."""
    origins: Floats
    """(planes, 3), LPS centre of the first pixel."""
    along_row: Floats
    """Step to the next column, mm."""
    along_column: Floats
    """Step to the next row, mm."""
    rows: int
    columns: int
    step_mm: float | None
    """Distance of neighbouring planes (median); null where there is one, without a thickness."""
    unusable: frozenset[str]
    """Images of the series that have no place among the planes."""

    @property
    def voxel_mm3(self) -> float | None:
        """Volume of a voxel."""
        area = float(np.linalg.norm(np.cross(self.along_row, self.along_column)))
        return None if self.step_mm is None else area * self.step_mm

    def world(self, plane: Integers | int, pixel: Integers) -> Floats:
        """Return the LPS position of pixels, given as row * columns + column."""
        row, column = np.divmod(pixel, self.columns)
        return np.asarray(
            self.origins[plane] + column[..., None] * self.along_row + row[..., None] * self.along_column
        )

    def positions(self, voxels: Integers) -> Floats:
        """Return the LPS positions (voxels, 3) of voxels, given as plane * rows * columns + pixel."""
        plane, pixel = np.divmod(voxels, self.rows * self.columns)
        return self.world(plane, pixel)

    def centre(self, voxels: Integers) -> Floats:
        """Return the mean LPS position of voxels."""
        return np.asarray(self.positions(voxels).mean(axis=0))


def of_index(index: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the images of each series of a header index."""
    images = index.filter(
        pl.col("is_dicom")
        & pl.col("series_instance_uid").is_not_null()
        & pl.col("sop_instance_uid").is_not_null()
    ).select(COLUMNS)
    return {str(key[0]): part for key, part in images.group_by("series_instance_uid")}


def of_series(images: pl.DataFrame) -> Planes | None:
    """Return the planes of a series, or None where no image tells its place.

    The geometry that most images share counts; an image that differs from it, or that contradicts another of its UID,
    is unusable.
    """
    uids = set(images["sop_instance_uid"].to_list())
    rows = [row for row in images.unique().sort("sop_instance_uid").to_dicts() if _is_complete(row)]
    seen: dict[str, int] = {}
    for row in rows:
        seen[row["sop_instance_uid"]] = seen.get(row["sop_instance_uid"], 0) + 1
    rows = [row for row in rows if seen[row["sop_instance_uid"]] == 1]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_shape(row), []).append(row)
    if not groups:
        return None
    members = max(groups.values(), key=len)
    first = members[0]
    direction = np.asarray(first["image_orientation_patient"], dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = first["pixel_spacing_mm"]
    normal = np.cross(direction[0], direction[1])
    origins = np.array([row["image_position_patient_mm"] for row in members], dtype=np.float64)
    along = origins @ normal
    order = np.argsort(along, kind="stable")
    number = np.zeros(len(order), dtype=np.int64)
    number[order] = np.concatenate([[0], np.cumsum(np.diff(along[order]) > SAME_PLACE_MM)])
    first_of = np.unique(number, return_index=True)[1]
    steps = np.diff(along[first_of])
    step = float(np.median(steps)) if len(steps) else first["slice_thickness_mm"]
    number_of = {row["sop_instance_uid"]: int(at) for row, at in zip(members, number, strict=True)}
    return Planes(
        number_of,
        origins[first_of],
        direction[0] * between_columns,
        direction[1] * between_rows,
        first["rows"],
        first["columns"],
        step if step else None,
        frozenset(uids - number_of.keys()),
    )


def _is_complete(row: dict[str, Any]) -> bool:
    position, direction = row["image_position_patient_mm"], row["image_orientation_patient"]
    spacing = row["pixel_spacing_mm"]
    if not (position and direction and spacing and row["rows"] and row["columns"]):
        return False
    if len(position) != 3 or len(direction) != 6 or len(spacing) != 2 or min(spacing) <= 0:
        return False
    if not np.isfinite([*position, *direction, *spacing]).all():
        return False
    axes = np.asarray(direction).reshape(2, 3)
    return bool(np.abs(axes @ axes.T - np.eye(2)).max() < 10 * PARALLEL)


def _shape(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["rows"],
        row["columns"],
        *(round(value / PARALLEL) for value in row["image_orientation_patient"]),
        *(round(value / SAME_PLACE_MM) for value in row["pixel_spacing_mm"]),
    )

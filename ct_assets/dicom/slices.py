"""Slices of CT images as the header index tells them: a row a slice, frames of enhanced images unrolled.

Belongs here: the way from index rows to `splitting.Slice`. Does not: what follows from slices.
"""

from functools import lru_cache
from typing import Any

from ct_assets.dicom.splitting import Slice
from ct_assets.dicom.uids import MULTI_FRAME_CT_IMAGES

Row = dict[str, Any]

FRAME_ATTRIBUTES = {
    "convolution_kernel": "frame_kernels",
    "kvp": "frame_kvps_kv",
    "slice_thickness": "frame_slice_thicknesses_mm",
    "cardiac_phase": "frame_cardiac_phases_percent",
    "trigger_time": "frame_trigger_delays_ms",
    "respiratory_phase": "frame_respiratory_phases_percent",
    "stack": "frame_stack_ids",
    "contrast_bolus_agent": "frame_contrast_phases",
    "acquisition_time": "frame_acquisition_times",
    "acquisition_number": "frame_acquisition_numbers",
    "temporal_position": "frame_temporal_position_indices",
}
"""Attributes of a slice that a frame may have of its own, and the columns that tell them."""

COLUMNS = (
    "path",
    "sop_instance_uid",
    "sop_class_uid",
    "pixel_sha256",
    "image_position_patient_mm",
    "image_orientation_patient",
    "pixel_spacing_mm",
    "rows",
    "columns",
    "number_of_frames",
    "image_type",
    "convolution_kernel",
    "acquisition_number",
    "temporal_position_identifier",
    "temporal_position_index",
    "nominal_percentage_of_cardiac_phase",
    "trigger_time_ms",
    "contrast_bolus_agent",
    "frame_of_reference_uid",
    "acquisition_time_s",
    "rescale_slope",
    "rescale_intercept",
    "rescale_type",
    "frame_rescale_types",
    "reconstruction_diameter_mm",
    "slice_thickness_mm",
    "transfer_syntax_uid",
    "frame_positions_mm",
    "frame_orientations",
    "frame_pixel_spacings_mm",
    "frame_types",
    "frame_rescale_slopes",
    "frame_rescale_intercepts",
    "kvp_kv",
    "filter_type",
    "series_number",
    "acquisition_date",
    *FRAME_ATTRIBUTES.values(),
)
"""What of the header index slices are made of."""

_NAN = float("nan")
_PER_FRAME = {
    "position": ("frame_positions_mm", 3),
    "orientation": ("frame_orientations", 6),
    "pixel_spacing": ("frame_pixel_spacings_mm", 2),
}
_ORIENTATION_DECIMALS = 2
_SPACING_DECIMALS = 4


def slices_of(rows: list[Row]) -> tuple[list[Slice], list[Slice]]:
    """Return the slices of CT images, and those without place that are no slices.

    A derived or secondary image without position and orientation (a screen shot, a dose page) shares the
    series and not its space; an original one without them is a slice whose place is unknown.
    """
    placed: list[Slice] = []
    without_place: list[Slice] = []
    for row in rows:
        for one in _frames(row) if row["sop_class_uid"] in MULTI_FRAME_CT_IMAGES else [_single(row)]:
            types = one.attributes["image_type"] or ("", "")
            is_made = "DERIVED" in types[:1] or "SECONDARY" in types[1:2]
            if is_made and one.position[0] != one.position[0] and one.orientation[0] != one.orientation[0]:
                without_place.append(one)
            else:
                placed.append(one)
    if not placed:
        return without_place, []
    return placed, without_place


def _single(row: Row) -> Slice:
    return _slice(
        row,
        None,
        row["image_position_patient_mm"],
        row["image_orientation_patient"],
        row["pixel_spacing_mm"],
    )


def _frames(row: Row) -> list[Slice]:
    count = max(row["number_of_frames"] or 1, 1)
    found = []
    for frame in range(count):
        values = {
            name: _of_frame(row[column], frame, size, count) for name, (column, size) in _PER_FRAME.items()
        }
        found.append(
            _slice(
                row,
                frame,
                values["position"],
                values["orientation"],
                values["pixel_spacing"],
                image_type=_one_of_frame(row["frame_types"], frame),
                **{name: _one_of_frame(row[column], frame) for name, column in FRAME_ATTRIBUTES.items()},
                rescale=(
                    _one_of_frame(row["frame_rescale_slopes"], frame),
                    _one_of_frame(row["frame_rescale_intercepts"], frame),
                ),
            )
        )
    return found


def _of_frame(values: list[Any] | None, frame: int, size: int, count: int) -> list[Any] | None:
    """Return the `size` values of one frame out of a flat list, or those that hold for all frames."""
    if values is None or len(values) not in (size, size * count):
        return None
    return values if len(values) == size else values[frame * size : (frame + 1) * size]


def _one_of_frame(values: list[Any] | None, frame: int) -> Any:
    if not values:
        return None
    return values[0] if len(values) == 1 else values[frame] if frame < len(values) else None


def _slice(
    row: Row,
    frame: int | None,
    position: list[float] | None,
    orientation: list[float] | None,
    pixel_spacing: list[float] | None,
    **of_frame: Any,
) -> Slice:
    matrix = (row["rows"] or 0, row["columns"] or 0)
    image_type = of_frame.pop("image_type", None)
    types = tuple(image_type.split("/")) if image_type else tuple(row["image_type"] or ())
    attributes: dict[str, Any] = {
        "image_type": types,
        "convolution_kernel": row["convolution_kernel"],
        "matrix": matrix,
        "orientation": _rounded(tuple(orientation or ()), _ORIENTATION_DECIMALS),
        "pixel_spacing": _rounded(tuple(pixel_spacing or ()), _SPACING_DECIMALS),
        "acquisition_number": row["acquisition_number"],
        "temporal_position": row["temporal_position_identifier"] or row["temporal_position_index"],
        "cardiac_phase": row["nominal_percentage_of_cardiac_phase"],
        "trigger_time": row["trigger_time_ms"],
        "respiratory_phase": None,
        "stack": None,
        "contrast_bolus_agent": row["contrast_bolus_agent"],
        "frame_of_reference_uid": row["frame_of_reference_uid"],
        "acquisition_time": row["acquisition_time_s"],
        "acquisition_date": row["acquisition_date"],
        "kvp": row["kvp_kv"],
        "filter_type": row["filter_type"],
        "series_number": row["series_number"],
        "rescale": (row["rescale_slope"], row["rescale_intercept"]),
        "rescale_type": row["rescale_type"],
        "reconstruction_diameter": row["reconstruction_diameter_mm"],
        "slice_thickness": row["slice_thickness_mm"],
        "transfer_syntax_uid": row["transfer_syntax_uid"],
    }
    attributes |= {name: value for name, value in of_frame.items() if value not in (None, (None, None))}
    if frame is not None and row["frame_rescale_types"]:
        # Where frames tell a unit of their own, one without it has none: no other frame's holds for it.
        attributes["rescale_type"] = _one_of_frame(row["frame_rescale_types"], frame)
    return Slice(
        path=row["path"],
        sop_instance_uid=row["sop_instance_uid"],
        frame=frame,
        position=tuple(position) if position else (_NAN,) * 3,
        orientation=tuple(orientation) if orientation else (_NAN,) * 6,
        pixel_spacing=tuple(pixel_spacing) if pixel_spacing else (_NAN,) * 2,
        matrix=matrix,
        attributes=attributes,
        pixel_sha256=row["pixel_sha256"],
    )


@lru_cache(maxsize=1024)
def _rounded(values: tuple[float, ...], decimals: int) -> tuple[float, ...] | None:
    return tuple(round(value, decimals) + 0.0 for value in values) if values else None

"""What the headers of a series' slices say together: the usual value, and whether there are several.

Belongs here: one row of `tables.audits.SeriesAudit` for each series. Does not: decisions.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl

from ct_assets.cohort.principal_series import Choice
from ct_assets.dicom.series import Series

Row = dict[str, Any]

CROPPED_MM = 1.0
"""A matrix smaller than ReconstructionDiameter by more was cropped; one pixel's rounding is less."""

USUAL = (
    "slice_thickness_mm",
    "reconstruction_diameter_mm",
    "data_collection_diameter_mm",
    "rescale_slope",
    "rescale_intercept",
    "rescale_type",
    "pixel_padding_value",
    "bits_stored",
    "pixel_representation",
    "transfer_syntax_uid",
    "image_type",
    "convolution_kernel",
    "kvp_kv",
    "exposure_mas",
    "xray_tube_current_ma",
    "ctdi_vol_mgy",
    "spiral_pitch_factor",
    "filter_type",
    "body_part_examined",
    "patient_position",
    "manufacturer",
    "manufacturer_model_name",
    "software_versions",
    "institution_name",
    "patient_age_years",
    "patient_sex",
    "acquisition_date",
)
"""Columns of the header index of which the audit keeps the value that most slices have."""
COUNTED = ("lossy_image_compression", "contrast_bolus_agent")


def collect(found: Sequence[Series], index: pl.DataFrame) -> dict[str, Row]:
    """Return, by `series_id`, the usual value of each column of `USUAL` and what the slices say together."""
    names = pl.DataFrame(
        [(one.path, series.series_id) for series in found for one in series.instances],
        schema={"path": pl.String, "series_id": pl.String},
        orient="row",
    ).unique(maintain_order=True)
    members = names.join(index.select("path", *USUAL, *COUNTED), on="path", maintain_order="left")
    facts: dict[str, Row] = {}
    # One series' rows are Python objects at a time: memory follows a series, not the cohort.
    for (series_id,), rows in members.group_by("series_id", maintain_order=True):
        facts[str(series_id)] = _facts(rows)
    empty = _facts(members.clear())
    return {series.series_id: facts.get(series.series_id, empty) for series in found}


def _facts(members: pl.DataFrame) -> Row:
    rescales = (
        members.select("rescale_slope", "rescale_intercept")
        .unique()
        .filter(~pl.all_horizontal(pl.all().is_null()))
    )
    return {
        **{name: _usual(members[name].to_list()) for name in USUAL},
        "rescales": rescales.height,
        "is_lossy": "01" in members["lossy_image_compression"].to_list(),
        "kernels": members["convolution_kernel"].drop_nulls().n_unique(),
        "has_contrast": members["contrast_bolus_agent"].null_count() < members.height,
    }


def is_original(image_type: list[str] | None) -> bool:
    """Tell whether ImageType begins ORIGINAL and PRIMARY (PS3.3 C.7.6.1.1.2)."""
    return [value.upper() for value in (image_type or [])[:2]] == ["ORIGINAL", "PRIMARY"]


def row_of(series: Series, facts: Row, choice: Choice | None) -> Row:
    """Return one series' row of the audit; `choice` is its patient's choice of the principal series."""
    return {
        "series_id": series.series_id,
        "series_instance_uid": series.series_instance_uid,
        "study_instance_uid": series.study_instance_uid,
        "patient_id": series.patient_id,
        "kind": series.kind.value,
        "decision": series.decision,
        "reasons": list(series.reasons),
        "warnings": list(series.warnings),
        "split_by": list(series.split_by),
        "instances": len(series.instances),
        "left_out": len(series.left_out),
        **_choice_columns(series, choice),
        **_geometry_columns(series, facts),
        **facts,
        "frames_of_reference": len(series.frame_of_reference_uids),
        "rescales": facts["rescales"] if series.geometry else None,
        "is_original": is_original(facts["image_type"]),
    }


def _choice_columns(series: Series, choice: Choice | None) -> Row:
    is_principal = bool(choice and choice.series and choice.series.series_id == series.series_id)
    whys = {one.series_id: one.why for one in choice.runners_up} if choice else {}
    return {"is_principal": is_principal, "not_principal_because": whys.get(series.series_id)}


def _geometry_columns(series: Series, usual: Row) -> Row:
    geometry = series.geometry
    if geometry is None:
        return dict.fromkeys(_GEOMETRY)
    thickness, diameter = usual["slice_thickness_mm"], usual["reconstruction_diameter_mm"]
    field_of_view = geometry.columns * geometry.pixel_spacing_mm[1]
    gaps = [gap.missing_slices for gap in geometry.gaps]
    values = (
        geometry.plane,
        geometry.slices,
        geometry.rows,
        geometry.columns,
        *geometry.pixel_spacing_mm,
        geometry.spacing_mm or None,
        geometry.step_min_mm,
        geometry.step_max_mm,
        geometry.step_max_mm - geometry.step_min_mm,
        geometry.spacing_mm - thickness if thickness and geometry.spacing_mm else None,
        geometry.coverage_mm,
        len(gaps),
        sum(missing or 0 for missing in gaps),
        geometry.duplicate_positions,
        geometry.tilt_deg,
        *geometry.shear_mm_per_slice,
        geometry.obliqueness_deg,
        geometry.orientation_spread_deg,
        geometry.pixel_spacing_spread_mm,
        geometry.max_corner_error_mm,
        field_of_view,
        None if diameter is None else field_of_view < diameter - CROPPED_MM,
    )
    return dict(zip(_GEOMETRY, values, strict=True))


_GEOMETRY = (
    "plane",
    "slices",
    "rows",
    "columns",
    "row_spacing_mm",
    "column_spacing_mm",
    "slice_spacing_mm",
    "slice_step_min_mm",
    "slice_step_max_mm",
    "slice_step_spread_mm",
    "spacing_minus_thickness_mm",
    "coverage_mm",
    "gaps",
    "missing_slices",
    "duplicate_positions",
    "tilt_deg",
    "shear_row_mm_per_slice",
    "shear_column_mm_per_slice",
    "obliqueness_deg",
    "orientation_spread_deg",
    "pixel_spacing_spread_mm",
    "max_corner_error_mm",
    "field_of_view_mm",
    "is_field_of_view_cropped",
)


def _usual(values: list[Any]) -> Any:
    """Return the value that most have, the least of several; None where none has one."""
    counts = Counter(
        tuple(value) if isinstance(value, list) else value for value in values if value is not None
    )
    if not counts:
        return None
    found = min(counts, key=lambda value: (-counts[value], str(value)))
    return list(found) if isinstance(found, tuple) else found

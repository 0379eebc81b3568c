"""What stands beside a converted volume: header facts, geometry, and the segments of its masks, as JSON.

Belongs here: the content of `image.json` and `segments.json`. Does not: writing volumes
(`imaging.convert_tree`), the audit of the whole cohort (`cohort.ct_prepro_audit`).
"""

from typing import Any

import numpy as np
import polars as pl

from ct_assets.dicom.seg import Segment
from ct_assets.dicom.series import Series
from ct_assets.imaging.convert import PIXEL_COLUMNS, Converted
from ct_assets.imaging.masks import Mask
from ct_assets.imaging.volume import Grid, to_ras

HEADER_COLUMNS = (
    "image_type",
    "acquisition_number",
    "body_part_examined",
    "lossy_image_compression",
    "slice_thickness_mm",
    "spacing_between_slices_mm",
    "gantry_detector_tilt_deg",
    "patient_position",
    "reconstruction_diameter_mm",
    "rescale_slope",
    "rescale_intercept",
    "rescale_type",
    "pixel_padding_value",
    "pixel_padding_range_limit",
    "bits_stored",
    "pixel_representation",
    "transfer_syntax_uid",
    "kvp_kv",
    "convolution_kernel",
    "filter_type",
    "contrast_bolus_agent",
    "exposure_mas",
    "xray_tube_current_ma",
    "spiral_pitch_factor",
    "ctdi_vol_mgy",
    "manufacturer",
    "manufacturer_model_name",
    "software_versions",
)
"""Technical facts of the header index that are worth having beside a volume; no identity, no date."""

INDEX_COLUMNS = tuple(dict.fromkeys(("path", *PIXEL_COLUMNS, *HEADER_COLUMNS)))
"""What converting one series needs of the header index."""


def grid_facts(grid: Grid) -> dict[str, Any]:
    """Return shape (i, j, k), spacing (i, j, k) and affine (RAS) as the NIfTI file has them."""
    return {
        "shape": list(grid.shape[::-1]),
        "spacing": [round(step, 6) for step in grid.spacing_mm],
        "affine": (np.round(to_ras(grid.affine_lps), 6) + 0.0).tolist(),
    }


def image_record(series: Series, converted: Converted, index: pl.DataFrame) -> dict[str, Any]:
    """Return the content of `image.json`; `index` holds the rows of the series' instances."""
    geometry = series.geometry
    assert geometry is not None
    header, varies = _header(index)
    return {
        "series_id": series.series_id,
        "series_instance_uid": series.series_instance_uid,
        "study_instance_uid": series.study_instance_uid,
        "frame_of_reference_uids": list(series.frame_of_reference_uids),
        "unit": "HU",
        **grid_facts(converted.volume.grid),
        "corrections": list(converted.corrections),
        "warnings": list(converted.warnings),
        **converted.facts,
        "hu_min": float(converted.volume.array.min()),
        "hu_max": float(converted.volume.array.max()),
        "geometry": {
            "plane": geometry.plane,
            "obliqueness_deg": round(geometry.obliqueness_deg, 4),
            "tilt_deg": round(geometry.tilt_deg, 4),
            "step_min_mm": round(geometry.step_min_mm, 6),
            "step_max_mm": round(geometry.step_max_mm, 6),
            "coverage_mm": round(geometry.coverage_mm, 6),
        },
        "header": header,
        "header_varies": varies,
        "slices": [
            {
                "sop_instance_uid": one.sop_instance_uid,
                "frame": one.frame,
                "position_lps_mm": one.position_lps_mm,
            }
            for one in series.instances
        ],
        "slices_left_out": left_out(series),
    }


def left_out(series: Series) -> list[dict[str, Any]]:
    """Return the instances that shared the series and are no slices of it, with the reason of each."""
    return [
        {"sop_instance_uid": one.sop_instance_uid, "frame": one.frame, "reason": one.reason}
        for one in series.left_out
    ]


def segment_records(mask: Mask, voxel_volume_ml: float, paths: dict[int, str]) -> list[dict[str, Any]]:
    """Return a line a segment: what it is, how large it is, and in which file its label stands."""
    return [
        {
            **segment_facts(voxels.segment),
            "label_value": voxels.label or None,
            "status": "refused" if voxels.reasons else "converted",
            "reasons": list(voxels.reasons),
            "voxels": int(voxels.flat.size),
            "volume_ml": round(voxels.flat.size * voxel_volume_ml, 4),
            "path": None if voxels.reasons else paths.get(voxels.segment.number),
        }
        for voxels in mask.segments
    ]


def segment_facts(segment: Segment) -> dict[str, Any]:
    """Return number, names and codes of a segment."""
    return {
        "number": segment.number,
        "label": segment.label,
        "description": segment.description,
        "category": segment.category.as_dict() if segment.category else None,
        "type": segment.type_code.as_dict() if segment.type_code else None,
        "algorithm_type": segment.algorithm_type or None,
        "interpreted_type": segment.interpreted_type or None,
    }


def _header(index: pl.DataFrame) -> tuple[dict[str, Any], list[str]]:
    """Return the values that all slices share, and the names of those that vary."""
    header, varies = {}, []
    for name in HEADER_COLUMNS:
        values = index[name].to_list()
        if values.count(values[0]) == len(values):
            header[name] = values[0]
        else:
            varies.append(name)
    return header, varies

"""The audit of mask objects: what a SEG or RTSTRUCT refers to, whether it lies on that CT, what it holds.

Belongs here: `audit`, from an index row and its decision to one row a mask object. Whether a mask can be used
is decided by conversion itself (`cohort.mask_decisions`), which segment is the tumour by `dicom.tumour`. Does
not: voxels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ct_assets.cohort import mask_geometry
from ct_assets.cohort.mask_decisions import Decision
from ct_assets.dicom import tumour
from ct_assets.dicom.series import Series
from ct_assets.dicom.uids import Kind
from ct_assets.imaging.convert_masks import MaskObject, stated_of
from ct_assets.imaging.masks_reference import Candidates
from ct_assets.settings.audit import AuditSettings

Row = dict[str, Any]

GEOMETRY = frozenset(
    (
        "mask_grid_differs",
        "mask_outside_volume",
        "mask_exceeds_volume",
        "mask_position_missing",
        "mask_in_other_frame_of_reference",
        "contours_between_slices",
        "contours_not_in_slices",
    )
)
"""Reasons that say that a mask does not lie on its image."""
UNREADABLE = "unreadable_mask_pixels"
"""The header index could not count the voxels; what conversion says of them is more exact."""


def audit(
    row: Row,
    mask: MaskObject,
    cts: Candidates,
    decision: Decision | None,
    principal_id: str | None,
    settings: AuditSettings,
) -> Row:
    """Return the row of `tables.audits.MaskAudit` for one mask object of the header index.

    `decision` is what conversion makes of it (None where it means no series that becomes a volume),
    `principal_id` the patient's principal CT series, if any.
    """
    kind, meant = mask.kind, mask.meant
    stated = stated_of(row, kind)
    series = cts.series[meant.series_id] if meant else None
    fit = mask_geometry.compare(row, kind, series, settings.mask_position_tolerance_mm)
    frame_matches = None
    if series is not None and stated.frame_of_reference_uids and series.frame_of_reference_uids:
        frame_matches = bool(stated.frame_of_reference_uids & set(series.frame_of_reference_uids))
    reasons = list(mask.reasons)
    warnings = [*(meant.warnings if meant else ())]
    if decision is not None:
        reasons += decision.reasons
        warnings += decision.warnings
        warnings += [] if reasons else [code for code in row["problems"] if code != UNREADABLE]
    else:
        reasons += row["problems"]
        if series is not None:
            reasons.append("referenced_series_refused")
    is_usable = not reasons
    content = _content(row, kind, series, decision)
    choice = tumour.choose(
        [one for one in _segment_facts(row) if one.number in content.voxels], settings.tumour
    )
    reasons += choice.reasons
    warnings += choice.warnings
    voxels = None if choice.number is None else content.voxels[choice.number]
    if content.is_empty:
        reasons.append("mask_empty")
    elif choice.number is not None and voxels == 0:
        left_out = decision.segment_reasons.get(choice.number) if decision else None
        reasons.append(left_out or "tumour_segment_empty")
    named = sorted(stated.series_uids)
    return {
        "sop_instance_uid": row["sop_instance_uid"],
        "path": row["path"],
        "patient_id": row["patient_id"],
        "series_instance_uid": row["series_instance_uid"],
        "kind": kind.value,
        "segmentation_type": row["segmentation_type"],
        "reasons": list(dict.fromkeys(reasons)),
        "warnings": list(dict.fromkeys(warnings)),
        "is_usable": is_usable,
        "referenced_series_instance_uid": (
            series.series_instance_uid if series else named[0] if named else None
        ),
        "referenced_series_id": meant.series_id if meant else None,
        "referenced_by": meant.by if meant else None,
        "references_principal_series": (
            None if principal_id is None else bool(meant and meant.series_id == principal_id)
        ),
        "is_referenced_series_present": series is not None,
        "referenced_instances": len(stated.sop_uids),
        "referenced_instances_present": (
            len(stated.sop_uids & cts.by_id[meant.series_id].sop_uids) if meant else 0
        ),
        "frame_of_reference_matches": frame_matches,
        "orientation_matches": fit.orientation_matches,
        "pixel_spacing_matches": fit.pixel_spacing_matches,
        "pixels_coincide": fit.pixels_coincide,
        "positions_match": fit.positions_match,
        "is_inside_volume": fit.is_inside_volume,
        "geometry_fits": _geometry_fits(decision, fit),
        "max_plane_offset_mm": fit.max_plane_offset_mm,
        "planes": fit.planes,
        "planes_on_slices": fit.planes_on_slices,
        "segments": len(row["segment_numbers"] or []),
        "segment_labels": [label or "" for label in row["segment_labels"] or []],
        "has_overlap": decision.has_overlap if decision and is_usable else row["has_overlap"],
        "is_empty": content.is_empty,
        "tumour_segment_number": choice.number,
        "tumour_segment_label": _label(row, choice.number),
        "tumour_rank": choice.rank,
        "tumour_candidates": len(choice.candidates),
        "is_tumour_ambiguous": len(choice.candidates) > 1,
        "tumour_voxels": voxels,
        "tumour_volume_ml": (
            None if voxels is None or content.voxel_volume_ml is None else voxels * content.voxel_volume_ml
        ),
    }


def _geometry_fits(decision: Decision | None, fit: mask_geometry.Fit) -> bool | None:
    if decision is None or set(decision.reasons) - GEOMETRY:
        return fit.fits
    return not decision.reasons


@dataclass(frozen=True)
class _Content:
    """What the segments hold: on the image where the mask was put there, else as its own frames tell."""

    voxels: dict[int, int | None]
    is_empty: bool | None
    voxel_volume_ml: float | None


def _content(row: Row, kind: Kind, series: Series | None, decision: Decision | None) -> _Content:
    if decision is not None and not decision.reasons and series is not None and series.geometry is not None:
        geometry = series.geometry
        volume_ml = geometry.pixel_spacing_mm[0] * geometry.pixel_spacing_mm[1] * geometry.spacing_mm / 1000
        return _Content(dict(decision.voxels), False, volume_ml)
    numbers = [number for number in row["segment_numbers"] or [] if number is not None]
    counts = row["segment_contours"] if kind is Kind.RTSTRUCT else row["segment_voxels"]
    is_empty = None if counts is None else sum(counts) == 0
    if decision is not None and "mask_empty" in decision.reasons:
        is_empty = True
    if kind is Kind.RTSTRUCT or counts is None or len(counts) != len(numbers):
        return _Content(dict.fromkeys(numbers), is_empty, None)
    return _Content(dict(zip(numbers, counts, strict=True)), is_empty, mask_geometry.voxel_volume_ml(row))


def _label(row: Row, number: int | None) -> str | None:
    if number is None:
        return None
    label: str | None = row["segment_labels"][row["segment_numbers"].index(number)]
    return label


def _segment_facts(row: Row) -> Iterator[tumour.SegmentFacts]:
    columns = ("segment_numbers", "segment_labels", "segment_types", "segment_categories")
    for number, label, type_code, category in zip(*(row[name] or [] for name in columns), strict=True):
        if number is not None:
            yield tumour.SegmentFacts(
                number, label or "", (type_code or "").split(" ")[0], (category or "").split(" ")[0]
            )

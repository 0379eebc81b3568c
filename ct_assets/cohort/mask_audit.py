"""The audit of mask objects: what a SEG or RTSTRUCT refers to, whether it lies on that CT, what it holds.

Belongs here: `audit`, from index rows and series to one row a mask object, header facts only. Which series
is meant follows the same rules as conversion (`imaging.masks_reference`), which segment is the tumour those
of `dicom.tumour`. Does not: voxels; they were counted when the header index was made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ct_assets.cohort import mask_geometry
from ct_assets.dicom import tumour
from ct_assets.dicom.seg import MaskError
from ct_assets.dicom.series import Series
from ct_assets.dicom.uids import Kind
from ct_assets.imaging import masks_reference
from ct_assets.imaging.masks_reference import Candidate, Meant, Stated
from ct_assets.settings.audit import AuditSettings

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CtSeries:
    """The CT series of the cohort, found by what masks refer to."""

    candidates: dict[str, Candidate]
    series: dict[str, Series]
    by_sop: dict[str, list[str]] = field(default_factory=dict)
    by_uid: dict[str, list[str]] = field(default_factory=dict)
    by_patient: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Sequence[Series]) -> "CtSeries":
        """Collect the CT series among `found`."""
        collected = cls({}, {})
        for series in found:
            if series.kind is not Kind.CT:
                continue
            name = series.series_id
            sop_uids = frozenset(one.sop_instance_uid for one in series.instances if one.sop_instance_uid)
            collected.series[name] = series
            collected.candidates[name] = Candidate(
                series_id=name,
                series_instance_uid=series.series_instance_uid,
                study_instance_uid=series.study_instance_uid,
                patient_id=series.patient_id,
                sop_uids=sop_uids,
                frame_of_reference_uids=frozenset(series.frame_of_reference_uids),
                is_usable=series.decision != "refuse",
            )
            for uid in sop_uids:
                collected.by_sop.setdefault(uid, []).append(name)
            if series.series_instance_uid:
                collected.by_uid.setdefault(series.series_instance_uid, []).append(name)
            collected.by_patient.setdefault(series.patient_id or "", []).append(name)
        return collected

    def near(self, stated: Stated) -> list[Candidate]:
        """Return the series that a mask could mean: those it names, and its patient's."""
        names = set(self.by_patient.get(stated.patient_id or "", []))
        for uid in stated.sop_uids:
            names.update(self.by_sop.get(uid, []))
        for uid in stated.series_uids:
            names.update(self.by_uid.get(uid, []))
        return [self.candidates[name] for name in sorted(names)]


def audit(row: Row, own: Series, cts: CtSeries, principal_id: str | None, settings: AuditSettings) -> Row:
    """Return the row of `tables.audits.MaskAudit` for one mask object of the header index.

    `own` is the series that the mask object itself is in, `principal_id` the patient's principal CT series,
    where there is one.
    """
    kind = own.kind
    reasons = [*own.reasons, *row["problems"]]
    warnings: list[str] = []
    stated = _stated(row, kind)
    meant = _meant(stated, cts, reasons, warnings)
    series = cts.series[meant.series_id] if meant else None
    fit = mask_geometry.compare(row, kind, series, settings.mask_position_tolerance_mm)
    frame_matches = None
    if series is not None and stated.frame_of_reference_uids and series.frame_of_reference_uids:
        frame_matches = bool(stated.frame_of_reference_uids & set(series.frame_of_reference_uids))
        if not frame_matches:
            warnings.append("mask_in_other_frame_of_reference")
    if series is not None and series.decision == "refuse":
        reasons.append("referenced_series_refused")
    reasons += fit.reasons
    choice = tumour.choose(list(_segment_facts(row)), settings.tumour)
    reasons += choice.reasons
    warnings += choice.warnings
    content = _content(row, kind, choice.number)
    if content["is_empty"]:
        reasons.append("mask_empty")
    elif choice.number is not None and content["tumour_is_empty"]:
        reasons.append("tumour_segment_empty")
    if row["segmentation_type"] == "FRACTIONAL":
        warnings.append("fractional_mask_thresholded")
    references_principal = None if principal_id is None else bool(meant and meant.series_id == principal_id)
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
        "is_usable": not reasons,
        "referenced_series_instance_uid": (
            series.series_instance_uid if series else named[0] if named else None
        ),
        "referenced_series_id": meant.series_id if meant else None,
        "referenced_by": meant.by if meant else None,
        "references_principal_series": references_principal,
        "is_referenced_series_present": series is not None,
        "referenced_instances": len(stated.sop_uids),
        "referenced_instances_present": (
            len(stated.sop_uids & cts.candidates[meant.series_id].sop_uids) if meant else 0
        ),
        "frame_of_reference_matches": frame_matches,
        "orientation_matches": fit.orientation_matches,
        "pixel_spacing_matches": fit.pixel_spacing_matches,
        "pixels_coincide": fit.pixels_coincide,
        "positions_match": fit.positions_match,
        "is_inside_volume": fit.is_inside_volume,
        "geometry_fits": fit.fits,
        "max_plane_offset_mm": fit.max_plane_offset_mm,
        "planes": fit.planes,
        "planes_on_slices": fit.planes_on_slices,
        "segments": len(row["segment_numbers"] or []),
        "segment_labels": [label or "" for label in row["segment_labels"] or []],
        "has_overlap": row["has_overlap"],
        "is_empty": content["is_empty"],
        "tumour_segment_number": choice.number,
        "tumour_segment_label": content["tumour_label"],
        "tumour_rank": choice.rank,
        "tumour_candidates": len(choice.candidates),
        "is_tumour_ambiguous": len(choice.candidates) > 1,
        "tumour_voxels": content["tumour_voxels"],
        "tumour_volume_ml": content["tumour_volume_ml"],
    }


def _stated(row: Row, kind: Kind) -> Stated:
    return Stated(
        patient_id=row["patient_id"],
        study_instance_uid=row["study_instance_uid"],
        series_uids=frozenset(row["referenced_series_instance_uids"] or ()),
        sop_uids=frozenset(row["referenced_sop_instance_uids"] or ()),
        frame_of_reference_uids=frozenset(row["referenced_frame_of_reference_uids"] or ()),
        may_go_by_position=kind is Kind.RTSTRUCT,
    )


def _meant(stated: Stated, cts: CtSeries, reasons: list[str], warnings: list[str]) -> Meant | None:
    try:
        meant = masks_reference.resolve(stated, cts.near(stated))
    except MaskError as error:
        reasons.append(error.code)
        return None
    warnings.extend(meant.warnings)
    return meant


def _segment_facts(row: Row) -> Iterator[tumour.SegmentFacts]:
    columns = ("segment_numbers", "segment_labels", "segment_types", "segment_categories")
    for number, label, type_code, category in zip(*(row[name] or [] for name in columns), strict=True):
        if number is not None:
            yield tumour.SegmentFacts(
                number, label or "", (type_code or "").split(" ")[0], (category or "").split(" ")[0]
            )


def _content(row: Row, kind: Kind, number: int | None) -> dict[str, Any]:
    counts = row["segment_contours"] if kind is Kind.RTSTRUCT else row["segment_voxels"]
    numbers = row["segment_numbers"] or []
    found: dict[str, Any] = {
        "is_empty": None if counts is None else sum(counts) == 0,
        "tumour_label": None,
        "tumour_voxels": None,
        "tumour_volume_ml": None,
        "tumour_is_empty": False,
    }
    if number is None:
        return found
    at = numbers.index(number)
    found["tumour_label"] = row["segment_labels"][at]
    if counts is not None:
        found["tumour_is_empty"] = counts[at] == 0
    if kind is Kind.SEG and counts is not None:
        found["tumour_voxels"] = counts[at]
        volume_ml = mask_geometry.voxel_volume_ml(row)
        found["tumour_volume_ml"] = None if volume_ml is None else counts[at] * volume_ml
    return found

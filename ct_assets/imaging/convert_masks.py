"""Mask objects of a header index: which series each means, and its voxels on that series.

Belongs here: the way from a mask object's row to a `Mask` on a converted series. Does not: the placing itself
(`imaging.masks`, `imaging.rtstruct`), files (`imaging.convert_tree`), which segment is the tumour
(`dicom.tumour`).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets.dicom import rtstruct as structure_sets
from ct_assets.dicom import seg
from ct_assets.dicom.pixels import PixelError
from ct_assets.dicom.seg import MaskError
from ct_assets.dicom.series import Series
from ct_assets.dicom.uids import Kind
from ct_assets.imaging.convert import Converted
from ct_assets.imaging.masks import Mask, place_seg
from ct_assets.imaging.masks_reference import Candidate, Meant, Stated, resolve
from ct_assets.imaging.rtstruct import place_structures
from ct_assets.settings.conversion import MaskSettings

MASK_KINDS = frozenset((Kind.SEG, Kind.RTSTRUCT))


@dataclass(frozen=True, slots=True)
class MaskObject:
    """One SEG or structure set, and the CT series it means."""

    kind: Kind
    path: str
    sop_instance_uid: str
    meant: Meant | None
    reasons: tuple[str, ...]
    """Why no series is meant; empty otherwise."""


def mask_objects(found: list[Series], index: pl.DataFrame) -> list[MaskObject]:
    """Return every mask object among the series with the CT series it means, by path.

    `index` is the header index that the series were grouped from.
    """
    candidates = [
        Candidate(
            series_id=series.series_id,
            series_instance_uid=series.series_instance_uid,
            study_instance_uid=series.study_instance_uid,
            patient_id=series.patient_id,
            sop_uids=frozenset(one.sop_instance_uid for one in series.instances if one.sop_instance_uid),
            frame_of_reference_uids=frozenset(series.frame_of_reference_uids),
            is_usable=series.decision != "refuse",
        )
        for series in found
        if series.kind is Kind.CT
    ]
    kinds = {
        one.path: (series.kind, series.reasons)
        for series in found
        if series.kind in MASK_KINDS
        for one in series.instances
    }
    rows = index.filter(pl.col("path").is_in(list(kinds))).sort("path")
    return [_mask_object(row, *kinds[row["path"]], candidates) for row in rows.iter_rows(named=True)]


def _mask_object(
    row: dict[str, Any], kind: Kind, reasons: tuple[str, ...], candidates: list[Candidate]
) -> MaskObject:
    stated = Stated(
        patient_id=row["patient_id"],
        study_instance_uid=row["study_instance_uid"],
        series_uids=frozenset(row["referenced_series_instance_uids"] or ()),
        sop_uids=frozenset(row["referenced_sop_instance_uids"] or ()),
        frame_of_reference_uids=frozenset(row["referenced_frame_of_reference_uids"] or ()),
        may_go_by_position=kind is Kind.RTSTRUCT,
    )
    meant = None
    faults = list(reasons)
    if not faults:
        try:
            meant = resolve(stated, candidates)
        except MaskError as refusal:
            faults.append(refusal.code)
    return MaskObject(kind, row["path"], row["sop_instance_uid"] or "", meant, tuple(faults))


def load_mask(
    mask: MaskObject, converted: Converted, root: Path, settings: MaskSettings, tolerance_mm: float
) -> Mask:
    """Return the mask object's voxels on the slices of the series it means.

    `tolerance_mm` is how far pixel centres may be apart and still count as one. A mask of another frame of
    reference is taken only where its own references to slices agree with its positions. Raises `MaskError`,
    `PixelError`.
    """
    assert mask.meant is not None
    if mask.kind is Kind.SEG:
        placed = place_seg(
            seg.read(root / mask.path), converted.stack, converted.slices_of_sop, settings, tolerance_mm
        )
    else:
        structures = structure_sets.read(root / mask.path)
        placed = place_structures(
            structures, converted.stack, converted.slices_of_sop, settings, tolerance_mm
        )
    warnings = {*placed.warnings, *mask.meant.warnings}
    if mask.meant.has_other_frame_of_reference:
        proven = mask.meant.by == "sop_instance" and not warnings & {
            "mask_source_elsewhere",
            "mask_sop_references_stale",
        }
        if not proven:
            raise MaskError("mask_in_other_frame_of_reference")
        warnings.add("mask_in_other_frame_of_reference")
    if converted.correction is not None:
        warnings.add("mask_corrected_with_image")
    facts = placed.facts | {"found_by": mask.meant.by}
    return replace(placed, warnings=tuple(sorted(warnings)), facts=facts)


def reasons_of(refusal: MaskError | PixelError) -> tuple[str, ...]:
    """Return the reason codes of a refusal."""
    return (refusal.code,)

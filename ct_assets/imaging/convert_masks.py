"""Mask objects of a header index: which series each means, and its voxels on that series.

Belongs here: the way from a mask object's row to a `Mask` on a converted series. Does not: the placing itself
(`imaging.masks`, `imaging.rtstruct`), files (`imaging.convert_tree`), which segment is the tumour
(`dicom.tumour`).
"""

from collections.abc import Iterable, Mapping
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
from ct_assets.imaging.masks import Mask, place_seg
from ct_assets.imaging.masks_reference import Candidates, Meant, Stated, resolve
from ct_assets.imaging.rtstruct import place_structures
from ct_assets.imaging.target import Target
from ct_assets.settings.conversion import MaskSettings

MASK_KINDS = frozenset((Kind.SEG, Kind.RTSTRUCT))
CONTRADICTING = "contradicting_instances"


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

    `index` is the header index that the series were grouped from. Objects that share their SOPInstanceUID with
    unequal ones are returned too, with that reason.
    """
    candidates = Candidates.of(found)
    kinds = mask_files(found)
    rows = index.filter(pl.col("path").is_in(list(kinds))).sort("path")
    return [_mask_object(row, *kinds[row["path"]], candidates) for row in rows.iter_rows(named=True)]


def mask_files(found: Iterable[Series]) -> dict[str, tuple[Kind, tuple[str, ...]]]:
    """Return path to kind, and to why the object cannot be used as such, of every mask object."""
    kinds: dict[str, tuple[Kind, tuple[str, ...]]] = {}
    for series in found:
        if series.kind not in MASK_KINDS:
            continue
        contested = {left.path for left in series.left_out if left.reason == CONTRADICTING}
        # That others of the series contradict each other is no fault of those that do not.
        fatal = tuple(reason for reason in series.reasons if reason != CONTRADICTING)
        kinds |= {one.path: (series.kind, fatal) for one in series.instances}
        kinds |= dict.fromkeys(contested, (series.kind, (CONTRADICTING, *fatal)))
    return kinds


def stated_of(row: Mapping[str, Any], kind: Kind) -> Stated:
    """Return what a mask object of the header index says about itself and its image."""
    return Stated(
        patient_id=row["patient_id"],
        study_instance_uid=row["study_instance_uid"],
        series_uids=frozenset(row["referenced_series_instance_uids"] or ()),
        sop_uids=frozenset(row["referenced_sop_instance_uids"] or ()),
        frame_of_reference_uids=frozenset(row["referenced_frame_of_reference_uids"] or ()),
        may_go_by_position=kind is Kind.RTSTRUCT,
    )


def _mask_object(
    row: Mapping[str, Any], kind: Kind, reasons: tuple[str, ...], candidates: Candidates
) -> MaskObject:
    stated = stated_of(row, kind)
    meant = None
    faults = list(reasons)
    if not row["sop_instance_uid"]:
        faults.append("missing_sop_instance_uid")
    if not faults:
        try:
            meant = resolve(stated, candidates.near(stated))
        except MaskError as refusal:
            faults.append(refusal.code)
    return MaskObject(kind, row["path"], row["sop_instance_uid"] or "", meant, tuple(dict.fromkeys(faults)))


def load_mask(
    mask: MaskObject,
    target: Target,
    root: Path,
    settings: MaskSettings,
    tolerance_mm: float,
    *,
    is_corrected: bool = False,
) -> Mask:
    """Return the mask object's voxels on the slices of the series it means.

    This is the one decision whether a mask can be used: conversion, audit and the cohort's cases all ask it.
    `tolerance_mm` is how far pixel centres may be apart and still count as one. A mask of another frame of
    reference is taken only where its own references to slices prove its place. `is_corrected` tells that the
    image is resampled, and the mask with it. Raises `MaskError`, `PixelError`.
    """
    assert mask.meant is not None
    if mask.kind is Kind.SEG:
        placed = place_seg(seg.read(root / mask.path), target, settings, tolerance_mm)
    else:
        placed = place_structures(structure_sets.read(root / mask.path), target, settings, tolerance_mm)
    warnings = {*placed.warnings, *mask.meant.warnings}
    if mask.kind is Kind.SEG and mask.meant.has_other_frame_of_reference:
        if not placed.is_place_proven:
            raise MaskError("mask_in_other_frame_of_reference")
        warnings.add("mask_in_other_frame_of_reference")
    if is_corrected:
        warnings.add("mask_corrected_with_image")
    facts = placed.facts | {"found_by": mask.meant.by}
    return replace(placed, warnings=tuple(sorted(warnings)), facts=facts)


def reasons_of(refusal: MaskError | PixelError) -> tuple[str, ...]:
    """Return the reason codes of a refusal."""
    return (refusal.code,)

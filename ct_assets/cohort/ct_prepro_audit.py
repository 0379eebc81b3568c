"""The CT preprocessing audit of the cohort: every patient, series, mask object and file, judged together.

Belongs here: `build`, which brings grouping, principal series and mask audit together, and the audit's
tables. Its JSON form is in `cohort.ct_prepro_json`. Does not: who is eligible (SQL over these tables).
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files, tables
from ct_assets.cohort import ct_prepro_json, mask_audit, mask_decisions, principal_series, series_facts
from ct_assets.cohort.principal_series import Choice
from ct_assets.dicom import index as header_index
from ct_assets.dicom.series import Series, group
from ct_assets.dicom.uids import Kind
from ct_assets.imaging.convert_masks import mask_objects
from ct_assets.imaging.masks_reference import Candidates
from ct_assets.settings.audit import AuditSettings
from ct_assets.settings.conversion import MaskSettings
from ct_assets.tables.audits import MaskAudit, MaskDecisions, PatientAudit, SeriesAudit

Row = dict[str, Any]

JSON_NAME = "ct_prepro_audit.json"
DECISIONS = "mask_decisions.parquet"


@dataclass(frozen=True)
class CtPreproAudit:
    """The audit: three tables and the same as one self-explaining JSON."""

    series: pl.DataFrame
    """Schema `SeriesAudit`."""
    masks: pl.DataFrame
    """Schema `MaskAudit`."""
    patients: pl.DataFrame
    """Schema `PatientAudit`."""
    found: tuple[Series, ...]
    """The series as value objects."""
    index: pl.DataFrame
    choices: dict[str, Choice]
    """Principal series by PatientID."""
    settings: AuditSettings
    decisions: pl.DataFrame
    """Schema `MaskDecisions`: what the next audit need not decide again."""

    @cached_property
    def document(self) -> dict[str, Any]:
        """The JSON document of `ct_prepro_audit.json`."""
        return ct_prepro_json.document(self)

    @property
    def digest(self) -> str:
        """Changes when anything that the audit says changes."""
        return files.digest_of(self.document)

    def write(self, folder: Path) -> None:
        """Write `ct_prepro_audit.json`, `series.parquet`, `masks.parquet`, `patients.parquet` and what
        `remembered` reads."""
        tables.write_table(folder / "series.parquet", self.series, SeriesAudit)
        tables.write_table(folder / "masks.parquet", self.masks, MaskAudit)
        tables.write_table(folder / "patients.parquet", self.patients, PatientAudit)
        tables.write_table(folder / DECISIONS, self.decisions, MaskDecisions)
        files.write_json(folder / JSON_NAME, self.document)


def remembered(folder: Path) -> pl.DataFrame | None:
    """Return the mask decisions of an earlier audit in `folder`; None where there is none that can be read."""
    try:
        return tables.read_table(folder / DECISIONS, MaskDecisions)
    except (OSError, pl.exceptions.PolarsError):  # none yet, or of an older version of this code
        return None


def build(
    index: pl.DataFrame,
    dicom_root: Path,
    settings: AuditSettings,
    mask_settings: MaskSettings | None = None,
    *,
    before: pl.DataFrame | None = None,
    workers: int = 1,
) -> CtPreproAudit:
    """Audit all series, masks and patients of a header index; paths in it are relative to `dicom_root`.

    `mask_settings` are those of the conversion (`conversion.masks`), `before` what `remembered` returns.
    """
    index = header_index.with_content_digests(header_index.by_path(index), dicom_root)
    found = group(index, settings)
    facts = series_facts.collect(found, index)
    choices = _principal_series(found, facts, settings)
    principal = {patient: one.series.series_id for patient, one in choices.items() if one.series}
    cts = Candidates.of(found)
    objects = mask_objects(found, index)
    decided, decisions = mask_decisions.decide(
        objects,
        cts.series,
        dicom_root,
        mask_settings or MaskSettings(),
        settings.mask_position_tolerance_mm,
        before=before,
        workers=workers,
    )
    by_path = {one.path: one for one in objects}
    rows = index.filter(pl.col("path").is_in(list(by_path))).iter_rows(named=True)
    masks = [
        mask_audit.audit(
            row,
            by_path[row["path"]],
            cts,
            decided.get(row["path"]),
            principal.get(row["patient_id"] or ""),
            settings,
        )
        for row in rows
    ]
    series_rows = [
        series_facts.row_of(one, facts[one.series_id], choices.get(one.patient_id or "")) for one in found
    ]
    patients = _patients(found, facts, masks, choices)
    return CtPreproAudit(
        series=tables.frame(series_rows, SeriesAudit).sort("series_id"),
        masks=tables.frame(masks, MaskAudit).sort("path"),
        patients=tables.frame(patients, PatientAudit).sort("patient_id"),
        found=tuple(found),
        index=index,
        choices=choices,
        settings=settings,
        decisions=decisions,
    )


def _principal_series(
    found: list[Series], facts: dict[str, Row], settings: AuditSettings
) -> dict[str, Choice]:
    candidates: dict[str, list[principal_series.Candidate]] = {}
    for series in found:
        if not series.patient_id:
            continue
        several = candidates.setdefault(series.patient_id, [])
        if series.kind is Kind.CT:
            told = facts[series.series_id]
            several.append(
                principal_series.Candidate(
                    series,
                    series_facts.is_original(told["image_type"]),
                    told["convolution_kernel"],
                    principal_series.unfit(series, settings),
                )
            )
    return {
        patient: principal_series.choose(several, settings.principal)
        for patient, several in sorted(candidates.items())
    }


def _patients(
    found: list[Series], facts: dict[str, Row], masks: list[Row], choices: dict[str, Choice]
) -> list[Row]:
    series_of: dict[str, list[Series]] = {patient: [] for patient in choices}
    for series in found:
        if series.patient_id:
            series_of[series.patient_id].append(series)
    segs_of: dict[str, list[Row]] = {}
    for mask in masks:
        if mask["kind"] == "seg":
            segs_of.setdefault(mask["patient_id"] or "", []).append(mask)
    return [
        _patient(patient, several, segs_of.get(patient, []), choices[patient], facts)
        for patient, several in sorted(series_of.items())
    ]


def _patient(
    patient: str, several: list[Series], segs: list[Row], choice: Choice, facts: dict[str, Row]
) -> Row:
    kinds = Counter(series.kind for series in several)
    objects = Counter(dict.fromkeys(Kind, 0))
    for series in several:
        objects[series.kind] += len(series.instances)
    contradicting = {
        left.sop_instance_uid
        for series in several
        for left in series.left_out
        if left.reason == "contradicting_instances"
    }
    counted = {one.path for series in several for one in series.instances} | {
        left.path for series in several for left in series.left_out if left.reason != "delivered_twice"
    }
    chosen = choice.series
    geometry = chosen.geometry if chosen else None
    told = facts[chosen.series_id] if chosen else {}
    seg = segs[0] if len(segs) == 1 else None
    return {
        "patient_id": patient,
        "files": len(counted),
        "studies": len({series.study_instance_uid for series in several if series.study_instance_uid}),
        "ct_series": kinds[Kind.CT],
        "ct_series_not_refused": sum(
            series.kind is Kind.CT and series.decision != "refuse" for series in several
        ),
        "localizer_series": kinds[Kind.LOCALIZER],
        "seg_objects": objects[Kind.SEG],
        "rtstruct_objects": objects[Kind.RTSTRUCT],
        "contradicting_instances": len(contradicting),
        "has_principal_series": chosen is not None,
        "principal_series_id": chosen.series_id if chosen else None,
        "principal_series_instance_uid": chosen.series_instance_uid if chosen else None,
        "principal_why": choice.why,
        "is_principal_a_tie": choice.is_tie,
        "principal_decision": choice.decision,
        "principal_reasons": choice.reasons,
        "principal_slices": geometry.slices if geometry else None,
        "principal_slice_spacing_mm": geometry.spacing_mm if geometry else None,
        "principal_slice_thickness_mm": told.get("slice_thickness_mm"),
        "has_exactly_one_seg": len(segs) == 1,
        "seg_sop_instance_uid": seg["sop_instance_uid"] if seg else None,
        "seg_references_principal_series": seg["references_principal_series"] if seg else None,
        "seg_geometry_fits": seg["geometry_fits"] if seg else None,
        "seg_has_tumour": (
            seg["tumour_segment_number"] is not None and seg["tumour_voxels"] != 0 if seg else None
        ),
        "seg_reasons": seg["reasons"] if seg else [],
    }

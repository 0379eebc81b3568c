"""Made audit tables: what the audits would say of patients without a fault, for tests of what follows."""

from typing import Any

import polars as pl

from ct_assets import tables
from ct_assets.tables.audits import MaskAudit, PatientAudit, SeriesAudit
from ct_assets.tables.cohort import LabelReport, Labels

_EMPTY = {pl.Int64: 0, pl.Boolean: False, pl.String: "", pl.Float64: 0.0}


def rows_of(schema: Any, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Fill rows with what a schema demands beside them: null, nothing, no."""
    filled = []
    for row in rows:
        unknown = set(row) - set(schema.column_names())
        assert not unknown, unknown
        full = {}
        for name, column in schema.columns().items():
            if name in row:
                full[name] = row[name]
            elif column.nullable:
                full[name] = None
            else:
                full[name] = [] if isinstance(column.dtype, pl.List) else _EMPTY[type(column.dtype)]
        filled.append(full)
    return tables.frame(filled, schema)


def label(patient: str, **facts: Any) -> dict[str, Any]:
    return {"patient_id": patient, "stage": "II", "site": "site_a", "rows": 1, "label_version": "1", **facts}


def patient(name: str, **facts: Any) -> dict[str, Any]:
    """A patient with one good CT and one good SEG."""
    return {
        "patient_id": name,
        "files": 30,
        "studies": 1,
        "ct_series": 1,
        "ct_series_not_refused": 1,
        "seg_objects": 1,
        "has_principal_series": True,
        "principal_series_id": f"2.25.1.{name}",
        "principal_series_instance_uid": f"2.25.1.{name}",
        "principal_why": "only_candidate",
        "principal_decision": "convert",
        "principal_slices": 40,
        "principal_slice_spacing_mm": 3.0,
        "principal_slice_thickness_mm": 3.0,
        "has_exactly_one_seg": True,
        "seg_sop_instance_uid": f"2.25.2.{name}",
        "seg_references_principal_series": True,
        "seg_geometry_fits": True,
        "seg_has_tumour": True,
        **facts,
    }


def series(name: str, **facts: Any) -> dict[str, Any]:
    return {
        "series_id": f"2.25.1.{name}",
        "series_instance_uid": f"2.25.1.{name}",
        "patient_id": name,
        "kind": "ct",
        "decision": "convert",
        "is_principal": True,
        **facts,
    }


def mask(name: str, **facts: Any) -> dict[str, Any]:
    return {
        "path": f"b1/{name}/seg.dcm",
        "sop_instance_uid": f"2.25.2.{name}",
        "patient_id": name,
        "kind": "seg",
        "tumour_segment_number": 1,
        **facts,
    }


def cohort_of(*names: str, **changes: dict[str, Any]) -> dict[str, pl.DataFrame]:
    """The tables that the query of the eligibility sees, for patients without a fault.

    `changes` are facts of the patients of that name: `{"patient": {...}, "label": {...} or None, ...}`.
    """
    of = {name: changes.get(name, {}) for name in names}

    def made(kind: str, make: Any) -> list[dict[str, Any]]:
        told = ((name, given.get(kind, {})) for name, given in of.items())
        return [make(name, **facts) for name, facts in told if facts is not None]

    return {
        "patients": rows_of(PatientAudit, made("patient", patient)),
        "series": rows_of(SeriesAudit, made("series", series)),
        "masks": rows_of(MaskAudit, made("mask", mask)),
        "labels": rows_of(Labels, made("label", label)),
        "label_report": tables.frame([], LabelReport),
    }

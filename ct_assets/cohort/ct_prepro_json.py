"""The CT preprocessing audit as one JSON that explains itself.

Belongs here: the document's shape: `by_patient_id` -> `patient_id` -> PatientID -> `principal_series`,
`series`, `files`, with the meaning of every code that occurs. Does not: any judgement.
"""

from typing import TYPE_CHECKING, Any

from ct_assets import reasons
from ct_assets.cohort.principal_series import Choice
from ct_assets.dicom.series import Series

if TYPE_CHECKING:
    from ct_assets.cohort.ct_prepro_audit import CtPreproAudit

Row = dict[str, Any]

FORMAT_VERSION = 1

ABOUT = {
    "what": "Header audit of CT series and mask objects before preprocessing. No pixels were judged, except "
    "that the voxels of SEG objects were counted and repeated instances were compared.",
    "coordinates": "DICOM patient coordinates: LPS, millimetres; arrays are (slice, row, column).",
    "units": "Names end in their unit: _mm, _deg, _kv, _ma, _mas, _mgy, _ml, _years.",
    "null": "Not told by the headers, or not applicable; never zero.",
    "decision": "convert: as it is; correct: a setting allows the correction that `reasons` names; refuse: "
    "for `reasons`.",
}

PRINCIPAL_RULES = {
    "only_candidate": "The only CT series that meets the requirements.",
    "geometry_not_refused": "Its geometry is not refused.",
    "original": "Its images are ORIGINAL\\PRIMARY.",
    "thinner_slices": "Its slices are nearer to each other.",
    "preferred_kernel": "Its kernel stands earlier among the preferred ones.",
    "more_coverage": "It reaches further along the patient.",
    "more_slices": "It has more slices.",
    "smaller_identifier": "A tie: nothing else differs, so the smaller identifier is taken.",
    "no_ct_series": "The patient has no CT series.",
    "no_ct_series_meets_the_requirements": "No CT series is axial with a measured geometry and enough slices.",
    "no_geometry": "Its geometry could not be measured.",
    "not_axial": "Its slices are not axial.",
    "too_few_slices": "It has fewer slices than `audit.principal.min_slices`.",
}

FILE_COLUMNS = (
    "path",
    "sop_instance_uid",
    "sop_class_uid",
    "series_instance_uid",
    "modality",
    "instance_number",
    "image_position_patient_mm",
    "problems",
    "oddities",
)
"""What the document tells of each file; the whole header suite is in metadata_audit.parquet."""


def document(audit: "CtPreproAudit") -> dict[str, Any]:
    """Return the whole audit as JSON-ready values, every patient and every file in it."""
    series_rows = {row["series_id"]: row for row in audit.series.iter_rows(named=True)}
    masks = {row["path"]: row for row in audit.masks.iter_rows(named=True)}
    patient_rows = {row["patient_id"]: row for row in audit.patients.iter_rows(named=True)}
    series_of: dict[str | None, list[Series]] = {}
    for series in audit.found:
        series_of.setdefault(series.patient_id, []).append(series)
    places = _places(audit.found)
    files_of: dict[str | None, list[Row]] = {}
    for row in audit.index.select(*FILE_COLUMNS, "patient_id", "is_dicom").iter_rows(named=True):
        files_of.setdefault(row["patient_id"], []).append(_file(row, places, masks))
    by_patient = {
        patient: {
            "summary": patient_rows[patient],
            "principal_series": _principal(choice, series_rows),
            "series": {one.series_id: _series(one, series_rows) for one in series_of.get(patient, [])},
            "files": files_of.get(patient, []),
        }
        for patient, choice in audit.choices.items()
    }
    return {
        "format": "ct_prepro_audit",
        "format_version": FORMAT_VERSION,
        "about": ABOUT,
        "settings": audit.settings.model_dump(mode="json"),
        "by_patient_id": {"patient_id": by_patient},
        "without_patient_id": {
            "series": {one.series_id: _series(one, series_rows) for one in series_of.get(None, [])},
            "files": files_of.get(None, []),
        },
        "principal_series_rules": PRINCIPAL_RULES,
        "reason_codes": _meanings(audit),
    }


def _principal(choice: Choice, series_rows: dict[str, Row]) -> Row:
    chosen = choice.series
    return {
        "has_principal_series": chosen is not None,
        "series_instance_uid": chosen.series_instance_uid if chosen else None,
        "series_id": chosen.series_id if chosen else None,
        "study_instance_uid": chosen.study_instance_uid if chosen else None,
        "why": choice.why,
        "why_in_words": PRINCIPAL_RULES[choice.why],
        "is_tie": choice.is_tie,
        "decision": choice.decision,
        "reasons": choice.reasons,
        "runners_up": [
            {
                "series_id": one.series_id,
                "series_instance_uid": series_rows[one.series_id]["series_instance_uid"],
                "why_not": one.why,
                "why_not_in_words": PRINCIPAL_RULES[one.why],
            }
            for one in choice.runners_up
        ],
    }


def _series(series: Series, series_rows: dict[str, Row]) -> Row:
    row = dict(series_rows[series.series_id])
    row["acquisition_date"] = row["acquisition_date"].isoformat() if row["acquisition_date"] else None
    row["frame_of_reference_uids"] = list(series.frame_of_reference_uids)
    row["left_out"] = [
        {
            "path": left.path,
            "sop_instance_uid": left.sop_instance_uid,
            "frame": left.frame,
            "reason": left.reason,
        }
        for left in series.left_out
    ]
    if series.geometry:
        row["gaps"] = [
            {
                "after_slice": gap.after_slice,
                "gap_mm": gap.gap_mm,
                "missing_slices": gap.missing_slices,
            }
            for gap in series.geometry.gaps
        ]
        row["affine_lps_mm"] = series.geometry.affine_lps.tolist()
    return row


def _places(found: tuple[Series, ...]) -> dict[str, Row]:
    """Return path to the series a file became part of, or why it was left out of it."""
    places: dict[str, Row] = {}
    for series in found:
        for left in series.left_out:
            places[left.path] = {
                "series_id": series.series_id,
                "use": "left_out",
                "left_out_reason": left.reason,
            }
        for one in series.instances:
            places[one.path] = {
                "series_id": series.series_id,
                "use": series.kind.value,
                "left_out_reason": None,
            }
    return places


def _file(row: Row, places: dict[str, Row], masks: dict[str, Row]) -> Row:
    nowhere = {"series_id": None, "use": "not_dicom", "left_out_reason": None}
    if row["is_dicom"]:
        nowhere |= {"use": "left_out", "left_out_reason": "delivered_twice"}
    told = {name: row[name] for name in FILE_COLUMNS}
    return {**told, **places.get(row["path"], nowhere), "mask_audit": _mask(masks.get(row["path"]))}


def _mask(row: Row | None) -> Row:
    if row is None:
        return {"is_seg": False, "is_rtstruct": False}
    told = {name: value for name, value in row.items() if name not in ("path", "patient_id", "kind")}
    return {"is_seg": row["kind"] == "seg", "is_rtstruct": row["kind"] == "rtstruct", **told}


def _meanings(audit: "CtPreproAudit") -> dict[str, dict[str, str]]:
    """Return the meaning of every reason code that occurs in the audit."""
    lists = [
        *(audit.series[name] for name in ("reasons", "warnings")),
        *(audit.masks[name] for name in ("reasons", "warnings")),
        audit.index["problems"],
    ]
    codes: set[str] = set()
    for column in lists:
        codes.update(column.explode().drop_nulls().to_list())
    codes.update(left.reason for series in audit.found for left in series.left_out)
    found: dict[str, dict[str, str]] = {}
    for code in sorted(codes):
        known = reasons.reason(code)
        found[code] = {"meaning": known.meaning, "what_to_do": known.mend}
    return found

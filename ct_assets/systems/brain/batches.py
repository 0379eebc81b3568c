"""Head CT of the platform's own batches as slices: which series, whose label, what is left out and why.

Belongs here: from the header audit and the labels to items of the feature table. Does not: reading pixels
(`brain.features`); grouping and judging series (`dicom.series`).

A label stands for a patient, so each slice of theirs carries it; figures a study count then, not figures a slice.
Series are judged slice by slice: a tilted gantry or a gap is a warning here and no refusal.
"""

from collections.abc import Sequence

import polars as pl

from ct_assets.dicom.series import Series, group
from ct_assets.dicom.uids import Kind
from ct_assets.errors import UsageError
from ct_assets.settings.audit import AuditSettings
from ct_assets.systems.brain.features import Item

TEXT_OF_LABEL = {"0": 0, "1": 1}


def items(
    index: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    label_column: str,
    body_parts: Sequence[str],
    audit: AuditSettings,
) -> list[Item]:
    """Return the slices of every labelled patient's CT series, those that are no head with their reason.

    `index` is the header audit of all batches, `labels` the platform's labels with the kept column of values
    0 and 1. Raises `UsageError` where that column is not there, or nobody has a label.
    """
    if label_column not in labels.columns:
        raise UsageError(
            f"brain.label_column: {label_column!r} is no column of the labels; declare it under labels.keep with "
            "the values 0 and 1"
        )
    label_of = {
        patient: TEXT_OF_LABEL[str(value)]
        for patient, value in labels.select("patient_id", label_column).iter_rows()
        if value is not None and str(value) in TEXT_OF_LABEL
    }
    if not label_of:
        raise UsageError(f"brain.label_column: no patient has a 0 or 1 in {label_column!r}")
    body_of = dict(index.select("path", "body_part_examined").iter_rows())
    found = []
    for series in group(index.filter(pl.col("patient_id").is_in(list(label_of))), audit):
        if series.kind != Kind.CT or series.patient_id not in label_of:
            continue
        found += _of_series(series, label_of[series.patient_id], body_of, body_parts)
    return sorted(found, key=lambda item: item.id)


def _of_series(
    series: Series, label: int, body_of: dict[str, str | None], body_parts: Sequence[str]
) -> list[Item]:
    identity = {
        "patient": series.patient_id or "",
        "study": series.study_instance_uid or "",
        "series": series.series_id,
    }
    warnings = tuple(dict.fromkeys((*series.reasons, *series.warnings)))
    made = []
    for instance in series.instances:
        body = (body_of.get(instance.path) or "").upper()
        error = None
        if instance.frame is not None:
            error = "slice_multi_frame"
        elif body and not any(part in body for part in body_parts):
            error = "not_head"
        name = instance.sop_instance_uid or instance.path
        if instance.frame is not None:
            name = f"{name}.{instance.frame}"
        made.append(Item(name, instance.path, label, error, warnings, identity))
    return made

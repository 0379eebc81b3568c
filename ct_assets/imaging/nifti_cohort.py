"""The hard NIfTI cache: image and tumour label of every case of the manifest, in the layout of nnU-Net.

Belongs here: which cases are made again, their files, `dataset.json` and the MONAI datalist. Does not: who is a
case and with which number (`cohort.manifest`), the voxels (`imaging.convert`, `imaging.masks`), pages
(`reports.cases`).

A case is made again when the files it was made from, the settings or `CODE_VERSION` changed; all others are
left alone, so that the cost follows what is new.
"""

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files, parallel, tables
from ct_assets.dicom import tumour
from ct_assets.dicom.pixels import PixelError
from ct_assets.dicom.seg import MaskError, Segment
from ct_assets.dicom.series import Series, group
from ct_assets.dicom.uids import Kind
from ct_assets.imaging import nifti
from ct_assets.imaging.convert import DEBUG, UNEXPECTED, ConversionRefused, Converted, load_series
from ct_assets.imaging.convert_masks import MaskObject, load_mask, mask_objects
from ct_assets.imaging.convert_record import INDEX_COLUMNS, grid_facts, image_record, segment_facts
from ct_assets.imaging.masks import Mask
from ct_assets.layout import Layout
from ct_assets.progress import track
from ct_assets.settings.audit import AuditSettings
from ct_assets.settings.conversion import ConversionSettings
from ct_assets.tables.volumes import NiftiDigests

CODE_VERSION = "2"
"""Raised whenever the same input may give other voxels; every case is then made again."""
TUMOUR_LABEL = 1
LABELS = {"background": 0, "tumour": TUMOUR_LABEL}

Row = dict[str, Any]


@dataclass(frozen=True)
class NiftiSummary:
    """What became of the cache."""

    cases: int
    """Cases whose image and label are there."""
    made: int
    """Cases that were made in this run."""
    unchanged: int
    refused: int
    removed: int
    """Cases that left the manifest; their numbers stay theirs."""
    digests: pl.DataFrame
    """`tables.volumes.NiftiDigests`."""
    made_cases: tuple[str, ...]
    contact_sheet: Path
    """Where `reports.cases` puts the cohort's pictures."""


@dataclass(frozen=True)
class Case:
    """One case to be made."""

    row: Row
    series: Series | None
    mask: MaskObject | None
    index: pl.DataFrame
    root: Path
    layout: Layout
    conversion: ConversionSettings
    audit: AuditSettings
    input_digest: str
    settings_digest: str


def build(
    manifest: pl.DataFrame,
    index: pl.DataFrame,
    dicom_root: Path,
    layout: Layout,
    conversion: ConversionSettings,
    audit: AuditSettings,
    workers: int,
) -> NiftiSummary:
    """Bring the cache in line with the manifest; return what was done.

    `manifest` names for each case its series, mask object and files (relative to the data root); `index` is
    the header index of the whole cohort, its paths relative to `dicom_root`. A case that cannot be converted
    has a row with its reasons and no files. A killed run leaves every case either old or new.
    """
    before = _read_digests(layout)
    settings_digest = files.digest_of([conversion.model_dump(mode="json"), audit.model_dump(mode="json")])
    found, masks = _series_and_masks(manifest, index, audit)
    row_of = {path: row for row, path in enumerate(index["path"])}
    slim = index.select(list(dict.fromkeys((*INDEX_COLUMNS, *_DIGEST_COLUMNS))))
    rows: dict[str, Row] = {}
    cases = []
    for row in manifest.sort("case_id").iter_rows(named=True):
        series = found.get(row["image_series_id"])
        mask = masks.get(row["mask_sop_instance_uid"])
        paths = {one.path for one in series.instances} if series else set()
        inputs = sorted(paths | ({mask.path} if mask else set()))
        digest = _input_digest(row, slim[[row_of[path] for path in inputs]])
        old = before.get(row["case_id"])
        if old and _is_current(old, row, digest, settings_digest, layout, dicom_root, inputs):
            rows[row["case_id"]] = old
            continue
        own = slim[sorted(row_of[path] for path in paths)]
        cases.append(
            Case(row, series, mask, own, dicom_root, layout, conversion, audit, digest, settings_digest)
        )
    unchanged = len(rows)
    with track("cases", len(cases)) as advance:
        for made in parallel.map_surviving(
            make_case,
            cases,
            instead=failed_case,
            workers=min(workers, len(cases)),
            preload=("ct_assets.imaging.nifti_cohort",),
        ):
            rows[made["case_id"]] = made
            advance(1)
    removed = _remove_others(layout, before, rows)
    digests = tables.frame([rows[case_id] for case_id in sorted(rows)], NiftiDigests)
    _write_lists(layout, manifest, digests)
    tables.write_table(layout.nifti_digests, digests, NiftiDigests)
    converted = digests.filter(pl.col("status") == "converted").height
    return NiftiSummary(
        cases=converted,
        made=len(cases),
        unchanged=unchanged,
        refused=digests.height - converted,
        removed=removed,
        digests=digests,
        made_cases=tuple(case.row["case_id"] for case in cases),
        contact_sheet=layout.reports / "cases" / "index.html",
    )


def make_case(case: Case) -> Row:
    """Make one case's image and label; return its row of `NiftiDigests`."""
    row = _refused(case)
    try:
        row |= _make_files(case)
    except ConversionRefused as refusal:
        row["reasons"] = list(refusal.reasons)
    except (MaskError, PixelError) as refusal:
        row["reasons"] = [refusal.code]
    except OSError:
        raise  # a full or broken disk is nobody's case
    except Exception:
        if os.environ.get(DEBUG):
            raise
        row["reasons"] = [UNEXPECTED]
    if row["status"] == "refused":
        _remove_case(case.layout, row)
    return row


def failed_case(case: Case) -> Row:
    """Return the row of a case that took its worker process down."""
    row = _refused(case) | {"reasons": [UNEXPECTED]}
    _remove_case(case.layout, row)
    return row


def _refused(case: Case) -> Row:
    row = {
        name: case.row[name]
        for name in ("case_id", "patient_id", "image", "label", "image_series_id", "mask_sop_instance_uid")
    }
    row |= {name: None for name in tables.dtypes(NiftiDigests) if name not in row}
    row |= {
        "status": "refused",
        "reasons": [],
        "warnings": [],
        "input_digest": case.input_digest,
        "settings_digest": case.settings_digest,
        "code_version": CODE_VERSION,
        "made_at": datetime.now(UTC),
    }
    return row


def _make_files(case: Case) -> Row:
    if case.series is None:
        raise ConversionRefused(("image_series_missing",))
    if case.mask is None:
        raise MaskError("mask_object_missing")
    if case.mask.meant is None:
        raise MaskError(case.mask.reasons[0])
    if case.mask.meant.series_id != case.series.series_id:
        raise MaskError("mask_references_other_series")
    converted = load_series(case.series, case.root, case.conversion, case.index)
    mask = load_mask(
        case.mask,
        converted.target,
        case.root,
        case.conversion.masks,
        case.audit.mask_position_tolerance_mm,
        is_corrected=converted.correction is not None,
    )
    choice = tumour_of(mask, case.audit, case.row.get("tumour_segment_number"))
    voxels = next(one for one in mask.segments if one.segment.number == choice.number)
    if voxels.reasons:
        raise MaskError(voxels.reasons[0])
    if not voxels.flat.size:
        raise MaskError("tumour_segment_empty")
    label = converted.labels_on_volume(mask.label_map({voxels.segment.number: TUMOUR_LABEL}))
    image_path, label_path = (case.layout.root / case.row[name] for name in ("image", "label"))
    nifti.write(image_path, converted.volume)
    nifti.write(label_path, label)
    warnings = sorted({*converted.warnings, *mask.warnings, *choice.warnings})
    files.write_json(record_path(case.layout, case.row["case_id"]), _record(case, converted, mask, warnings))
    tumour_voxels = int((label.array == TUMOUR_LABEL).sum())
    facts = grid_facts(converted.volume.grid)
    return {
        "status": "converted",
        "reasons": list(converted.corrections),
        "warnings": warnings,
        "found_by": case.mask.meant.by,
        "tumour_segment_number": voxels.segment.number,
        "tumour_segment_label": voxels.segment.label,
        "image_sha256": files.sha256_file(image_path),
        "label_sha256": files.sha256_file(label_path),
        "shape": facts["shape"],
        "spacing_mm": facts["spacing"],
        "hu_min": float(converted.volume.array.min()),
        "hu_max": float(converted.volume.array.max()),
        "tumour_voxels": tumour_voxels,
        "tumour_volume_ml": tumour_voxels * label.grid.voxel_volume_ml,
        "max_position_error_mm": converted.facts.get("max_position_error_mm"),
    }


def tumour_of(mask: Mask, settings: AuditSettings, audited: int | None) -> tumour.TumourChoice:
    """Return which segment of a mask is the tumour: the one that the audit chose, where it chose one.

    Raises `MaskError` where none or several could be.
    """
    choice = tumour.choose([_segment_facts(voxels.segment) for voxels in mask.segments], settings.tumour)
    if audited is not None and any(voxels.segment.number == audited for voxels in mask.segments):
        return replace(choice, number=audited)
    if choice.number is None:
        raise MaskError(choice.reasons[0])
    return choice


def record_path(layout: Layout, case_id: str) -> Path:
    """Return where a case's JSON stands: header facts, geometry, segments."""
    return layout.nifti / "cases" / f"{case_id}.json"


def _segment_facts(segment: Segment) -> tumour.SegmentFacts:
    codes = [code and f"{code.scheme}:{code.value}" for code in (segment.type_code, segment.category)]
    return tumour.SegmentFacts(
        segment.number, segment.label, segment.interpreted_type or codes[0] or "", codes[1] or ""
    )


def _record(case: Case, converted: Converted, mask: Mask, warnings: list[str]) -> Row:
    assert case.series is not None
    return {
        "case_id": case.row["case_id"],
        "image": image_record(case.series, converted, case.index),
        "mask": {
            "sop_instance_uid": case.row["mask_sop_instance_uid"],
            "kind": mask.kind,
            "labels": LABELS,
            "segments": [segment_facts(voxels.segment) for voxels in mask.segments],
            **mask.facts,
        },
        "warnings": warnings,
    }


def _series_and_masks(
    manifest: pl.DataFrame, index: pl.DataFrame, settings: AuditSettings
) -> tuple[dict[str, Series], dict[str, MaskObject]]:
    """Group the instances of the manifest's patients; masks are resolved among all their series."""
    own = index.filter(pl.col("patient_id").is_in(manifest["patient_id"].unique().to_list()))
    grouped = group(own, settings)
    found = {series.series_id: series for series in grouped if series.kind is Kind.CT}
    wanted = set(manifest["mask_sop_instance_uid"].drop_nulls())
    masks = {mask.sop_instance_uid: mask for mask in mask_objects(grouped, own)}
    return found, {uid: mask for uid, mask in masks.items() if uid in wanted}


_DIGEST_COLUMNS = (
    "file_size_bytes",
    "content_sha256",
    "pixel_sha256",
    "sop_instance_uid",
    "image_position_patient_mm",
    "image_orientation_patient",
    "pixel_spacing_mm",
    "frame_positions_mm",
    "segment_numbers",
    "segment_labels",
    "segment_types",
    "segment_voxels",
    "segment_boxes_mm",
)


def _input_digest(row: Row, inputs: pl.DataFrame) -> str:
    """Digest what a case is made from: its files' headers and sizes, and the digests of the manifest."""
    stated = {name: value for name, value in row.items() if name.endswith(("_digest", "_sha256"))}
    names = ("image", "label", "image_series_id", "mask_sop_instance_uid")
    return files.digest_of([stated, {name: row[name] for name in names}, inputs.write_ndjson()])


def _is_current(
    old: Row,
    row: Row,
    input_digest: str,
    settings_digest: str,
    layout: Layout,
    root: Path,
    inputs: list[str],
) -> bool:
    """Tell whether a case stands as it would be made now; files changed since then count as new input."""
    told = (old["input_digest"], old["settings_digest"], old["code_version"])
    if told != (input_digest, settings_digest, CODE_VERSION) or UNEXPECTED in old["reasons"]:
        return False
    if old["status"] == "converted":
        wanted = [layout.root / row["image"], layout.root / row["label"], record_path(layout, row["case_id"])]
        if not all(path.is_file() for path in wanted):
            return False
    made_ns = int(old["made_at"].timestamp() * 1e9)
    return all(_changed_ns(root / path) <= made_ns for path in inputs)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # a file that is gone is found missing when it is read


def _read_digests(layout: Layout) -> dict[str, Row]:
    if not layout.nifti_digests.exists():
        return {}
    try:
        table = tables.read_table(layout.nifti_digests, NiftiDigests)
    except pl.exceptions.PolarsError:  # a table of an older version of this code
        return {}
    return {row["case_id"]: row for row in table.iter_rows(named=True)}


def _remove_others(layout: Layout, before: dict[str, Row], rows: dict[str, Row]) -> int:
    """Remove the files of cases that left the manifest, and files that a case left behind elsewhere."""
    gone = [row for case_id, row in before.items() if case_id not in rows]
    for row in gone:
        _remove_case(layout, row)
    expected = {row[name] for row in rows.values() for name in ("image", "label")}
    for folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        for path in (layout.nifti / folder).glob("*.nii.gz"):
            if layout.relative(path) not in expected:
                path.unlink()
    return len(gone)


def _remove_case(layout: Layout, row: Row) -> None:
    for path in (layout.root / row["image"], layout.root / row["label"]):
        path.unlink(missing_ok=True)
    record_path(layout, row["case_id"]).unlink(missing_ok=True)


def _write_lists(layout: Layout, manifest: pl.DataFrame, digests: pl.DataFrame) -> None:
    """Write `dataset.json` (nnU-Net v2, explicit file entries) and `datalist.json` (MONAI)."""
    converted = set(digests.filter(pl.col("status") == "converted")["case_id"])
    rows = [row for row in manifest.sort("case_id").iter_rows(named=True) if row["case_id"] in converted]
    training = [row for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] != "train"]

    def inside(path: str) -> str:
        return (layout.root / path).relative_to(layout.nifti).as_posix()

    dataset = {
        "name": "ct_assets",
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "file_ending": ".nii.gz",
        "numTraining": len(training),
        "dataset": {
            row["case_id"]: {"images": [inside(row["image"])], "label": inside(row["label"])}
            for row in training
        },
        "test": [{"image": inside(row["image"]), "label": inside(row["label"])} for row in test],
    }
    files.write_json(layout.nifti / "dataset.json", dataset)
    datalist = {
        "name": "ct_assets",
        "modality": {"0": "CT"},
        "labels": {str(number): name for name, number in LABELS.items()},
        "training": [
            {
                "case_id": row["case_id"],
                "image": inside(row["image"]),
                "label": inside(row["label"]),
                **({} if row.get("fold") is None else {"fold": row["fold"]}),
            }
            for row in training
        ],
        "testing": [
            {"case_id": row["case_id"], "image": inside(row["image"]), "label": inside(row["label"])}
            for row in test
        ],
    }
    files.write_json(layout.nifti / "datalist.json", datalist)

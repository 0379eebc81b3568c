"""A tree of DICOM files to a folder of NIfTI volumes and label maps, with a line for every object.

Belongs here: `ct-assets convert`: the jobs, their files, `conversion.jsonl`. Does not: the voxels
(`imaging.convert`, `imaging.masks`), the numbered cases of a cohort (`imaging.nifti_cohort`).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ct_assets import files, parallel
from ct_assets.dicom import index as headers
from ct_assets.dicom.pixels import PixelError
from ct_assets.dicom.seg import MaskError
from ct_assets.dicom.series import Series, group
from ct_assets.dicom.uids import Kind
from ct_assets.errors import UsageError
from ct_assets.imaging import convert_output, nifti
from ct_assets.imaging.convert import DEBUG, UNEXPECTED, ConversionRefused, Converted, load_series
from ct_assets.imaging.convert_masks import MASK_KINDS, MaskObject, load_mask, mask_objects
from ct_assets.imaging.convert_output import RECORD
from ct_assets.imaging.convert_record import (
    INDEX_COLUMNS,
    grid_facts,
    image_record,
    left_out,
    segment_records,
)
from ct_assets.imaging.masks import Mask
from ct_assets.progress import Timings, track
from ct_assets.settings import Settings

PRELOAD = ("ct_assets.imaging.convert_tree",)

Line = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One CT series with the masks that mean it."""

    series: Series
    masks: tuple[MaskObject, ...]
    index: pl.DataFrame
    root: Path
    output: Path
    settings: Settings


def convert(
    dicom_dir: Path, output_dir: Path, settings: Settings, *, workers: int, timings: Timings | None = None
) -> list[Line]:
    """Convert every CT series below `dicom_dir`, with the masks that mean it; return the lines of the record.

    Writes `<series>/image.nii.gz`, its `image.json`, `label_<SOPInstanceUID>.nii.gz` and `segments.json`, and
    `conversion.jsonl`. Series and objects that cannot be converted are lines with their reasons. Raises
    `UsageError` where there is no such folder or no file in it.
    """
    if not dicom_dir.is_dir():
        raise UsageError(f"{dicom_dir}: no such folder")
    timings = Timings() if timings is None else timings
    parallel.warm(workers, PRELOAD)
    with timings.step("headers") as step:
        index = headers.scan(dicom_dir, root=dicom_dir, workers=workers, mask_contents=False)
        step.items = len(index)
    if index.is_empty():
        raise UsageError(f"{dicom_dir}: there is no file in it")
    with timings.step("series") as step:
        found = group(index, settings.audit)
        masks = mask_objects(found, index)
        step.items = len(found)
    lines = [_other_line(series) for series in found if series.kind not in (Kind.CT, *MASK_KINDS)]
    lines += [_unreadable_line(row) for row in index.filter(~pl.col("is_dicom")).iter_rows(named=True)]
    lines += [mask_line(mask, mask.reasons) for mask in masks if mask.meant is None]
    jobs = _jobs(found, masks, index, dicom_dir, output_dir, settings)
    with timings.step("convert") as step, track("series", len(jobs)) as advance:
        for several in parallel.map_surviving(
            convert_job,
            jobs,
            instead=failed_lines,
            workers=min(workers, len(jobs)),
            preload=PRELOAD,
        ):
            lines += several
            advance(1)
        step.items = len(jobs)
    lines.sort(key=lambda line: (line["kind"], line["uid"] or "", line["path"] or "", line["file"] or ""))
    convert_output.remove_left_overs(output_dir, lines)
    files.write_jsonl(output_dir / RECORD, lines)
    return lines


def convert_job(job: Job) -> list[Line]:
    """Convert one series with its masks into its folder; return their lines of the record.

    Whatever fails is a line: nothing that one series holds may end the work on all others.
    """
    try:
        return _convert(job)
    except OSError:
        raise  # a full or broken disk is nobody's series
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        return failed_lines(job, error)


def failed_lines(job: Job, error: BaseException | None = None) -> list[Line]:
    """Return the lines of a series, and of its masks, on which something failed that has no code.

    `error` is None where a decoder took its whole process down.
    """
    convert_output.discard(job.output, job.series.series_id)
    lines = [series_line(job.series, "refused", (UNEXPECTED,))]
    lines += [mask_line(mask, ("referenced_series_refused",), job.series.series_id) for mask in job.masks]
    lines[0]["failure"] = type(error).__name__ if error else "process ended"
    return lines


def _convert(job: Job) -> list[Line]:
    folder = convert_output.series_folder(job.output, job.series.series_id)
    try:
        converted = load_series(job.series, job.root, job.settings.conversion, job.index)
    except ConversionRefused as refusal:
        return _refused_lines(job, refusal.reasons)
    lines: list[Line] = []

    def fill(partial: Path) -> None:
        nifti.write(partial / "image.nii.gz", converted.volume)
        files.write_json(partial / "image.json", image_record(job.series, converted, job.index))
        segments: dict[str, Any] = {}
        for mask in job.masks:
            line, record = _write_mask(mask, converted, job, partial)
            lines.append(line)
            if record:
                segments[mask.sop_instance_uid] = record
        if segments:
            files.write_json(partial / "segments.json", segments)

    try:
        convert_output.replace(folder, fill)
    except convert_output.OutputOccupiedError:
        return _refused_lines(job, ("output_occupied",))
    image = series_line(job.series, "converted", converted.corrections, converted.warnings)
    image |= {"path": f"{job.series.series_id}/image.nii.gz"} | grid_facts(converted.volume.grid)
    image |= converted.facts
    return [image, *lines]


def _refused_lines(job: Job, reasons: tuple[str, ...]) -> list[Line]:
    return [
        series_line(job.series, "refused", reasons),
        *(mask_line(mask, ("referenced_series_refused",), job.series.series_id) for mask in job.masks),
    ]


def series_line(
    series: Series, status: str, reasons: tuple[str, ...], warnings: tuple[str, ...] | None = None
) -> Line:
    """Return the line of a series; a converted one's place and grid are added by whoever wrote it."""
    used = [one.sop_instance_uid for one in series.instances] if status == "converted" else []
    return _line(
        kind=str(series.kind),
        uid=series.series_id,
        status=status,
        reasons=reasons,
        warnings=series.warnings if warnings is None else warnings,
    ) | {
        "patient_id": series.patient_id,
        "slices_used": used,
        "slices_left_out": left_out(series)
        if status == "converted"
        else left_out(series)
        + [
            {"sop_instance_uid": one.sop_instance_uid, "frame": one.frame, "reason": "series_refused"}
            for one in series.instances
        ],
    }


def mask_line(mask: MaskObject, reasons: tuple[str, ...], series_id: str | None = None) -> Line:
    """Return the line of a refused mask object."""
    warnings = mask.meant.warnings if mask.meant else ()
    line = _line(
        kind=str(mask.kind), uid=mask.sop_instance_uid, status="refused", reasons=reasons, warnings=warnings
    )
    return line | {"series_id": series_id}


def _write_mask(
    mask: MaskObject, converted: Converted, job: Job, partial: Path
) -> tuple[Line, dict[str, Any] | None]:
    """Write one mask's label maps; return its line and its record. Nothing in it may cost the image."""
    series_id = job.series.series_id
    try:
        loaded = load_mask(
            mask,
            converted.target,
            job.root,
            job.settings.conversion.masks,
            job.settings.audit.mask_position_tolerance_mm,
            is_corrected=converted.correction is not None,
        )
        names = _write_labels(loaded, mask.sop_instance_uid, converted, partial)
    except (MaskError, PixelError) as refusal:
        return mask_line(mask, (refusal.code,), series_id), None
    except OSError:
        raise
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        for path in partial.glob(f"label_{mask.sop_instance_uid}*"):
            path.unlink()
        return mask_line(mask, (UNEXPECTED,), series_id) | {"failure": type(error).__name__}, None
    record = {
        "kind": loaded.kind,
        "overlapping": len(set(names.values())) > 1,
        "warnings": list(loaded.warnings),
        **loaded.facts,
        "segments": segment_records(loaded, converted.stack_grid.voxel_volume_ml, names),
    }
    paths = [f"{series_id}/{name}" for name in dict.fromkeys(names.values())]
    line = _line(kind=str(mask.kind), uid=mask.sop_instance_uid, status="converted", warnings=loaded.warnings)
    line |= {"series_id": series_id, "path": paths[0], "paths": paths}
    return line | grid_facts(converted.volume.grid) | loaded.facts, record


def _write_labels(mask: Mask, uid: str, converted: Converted, folder: Path) -> dict[int, str]:
    """Write one label map, or one a segment where segments overlap; return the file of each segment."""
    labels = {voxels.segment.number: voxels.label for voxels in mask.segments if not voxels.reasons}
    if not mask.overlaps:
        name = f"label_{uid}.nii.gz"
        nifti.write(folder / name, converted.labels_on_volume(mask.label_map(labels)))
        return dict.fromkeys(labels, name)
    names = {number: f"label_{uid}_{label}.nii.gz" for number, label in labels.items()}
    for number, label in labels.items():
        labels_of_one = converted.labels_on_volume(mask.label_map({number: label}))
        nifti.write(folder / names[number], labels_of_one)
    return names


def _jobs(
    found: list[Series],
    masks: list[MaskObject],
    index: pl.DataFrame,
    root: Path,
    output: Path,
    settings: Settings,
) -> list[Job]:
    row_of = {path: row for row, path in enumerate(index["path"])}
    slim = index.select(INDEX_COLUMNS)
    jobs = []
    for series in found:
        if series.kind is not Kind.CT:
            continue
        own = tuple(mask for mask in masks if mask.meant and mask.meant.series_id == series.series_id)
        rows = sorted({row_of[one.path] for one in series.instances})
        jobs.append(Job(series, own, slim[rows], root, output, settings))
    return jobs


def _other_line(series: Series) -> Line:
    return series_line(series, "refused", series.reasons)


def _unreadable_line(row: dict[str, Any]) -> Line:
    line = _line(kind="file", uid=None, status="refused", reasons=tuple(row["problems"]))
    return line | {"file": row["path"]}


def _line(
    *,
    kind: str,
    uid: str | None,
    status: str,
    reasons: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Line:
    return {
        "kind": kind,
        "uid": uid,
        "status": status,
        "reasons": list(reasons),
        "warnings": list(warnings),
        "path": None,
        "shape": None,
        "spacing": None,
        "affine": None,
        "slices_used": [],
        "slices_left_out": [],
        "file": None,
    }

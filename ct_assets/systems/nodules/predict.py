"""`ct-assets predict` with a bundle of nodule detection: findings of every series, as JSON, DICOM and pictures.

Belongs here: from one input to its files. Does not: finding the bundle (`ct_assets.systems`) and the inputs
(`learning.models.inputs`), detecting (`network_detector`). What cannot be predicted is a line with its reasons, and
ends no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ct_assets import files, machine_faults, paths, progress
from ct_assets.imaging import nifti
from ct_assets.imaging.convert import ConversionRefused
from ct_assets.imaging.nifti_read import NiftiRefused
from ct_assets.imaging.resample import labels_onto, oriented
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.learning.models import inputs
from ct_assets.learning.models.predict import Input, find_inputs
from ct_assets.settings import Settings
from ct_assets.systems.nodules import bundle, clinician, findings, findings_json, lungs, quality, train
from ct_assets.systems.nodules.bundle import NoduleBundle
from ct_assets.systems.nodules.detector import Detection, Detections, Detector
from ct_assets.systems.nodules.findings import Filters, Finding

MODEL_NAME = "nodules"
MOST = 50
"""More findings than this a scan are left out, and counted."""


def predict(
    model: str | Path,
    input_path: Path,
    output_dir: Path,
    *,
    settings: Settings | None = None,
    workers: int = 1,
    timings: progress.Timings | None = None,
) -> list[dict[str, Any]]:
    """Predict every CT series or NIfTI image below `input_path`; return the lines of `prediction.jsonl`.

    Writes `findings.json`, `findings.txt`, `mask.nii.gz`, `overlay.png` and, for DICOM, `findings.dcm` (SR) and
    `mask.dcm` (SEG) below `<series>/`. Raises `UsageError` where model or input are not what they should be.
    """
    settings = settings or Settings()
    timings = timings or progress.Timings()
    with timings.step("model") as step:
        opened = bundle.load(Path(model))
        detector = train.open_detector(opened.config, Path(model) / opened.weights)
        step.items = 1
    with timings.step("inputs") as step:
        ready, refused = find_inputs(input_path, output_dir, settings, workers)
        step.items = len(ready)
    with (
        timings.step("predict") as step,
        progress.track("predictions", len(ready)) as advance,
        inputs.Record(output_dir) as record,
    ):
        for line in refused:
            record.add(_refused(str(line["series"]), line["reasons"][1:]))
        for one in ready:
            record.add(_predict_one(one, opened, detector, output_dir))
            advance(1)
        step.items = len(ready)
    return record.lines


@dataclass(frozen=True, eq=False)
class Reported:
    """The findings of a scan as they are written: on the scan's own grid."""

    findings: list[Finding]
    labels: Volume
    """n + 1 in finding n."""
    left_out: dict[str, int]
    """Findings that a filter took out, by reason code."""


def report(found: Detections, volume: Volume, opened: NoduleBundle, scan: str) -> Reported:
    """Return what is reported of a scan: findings at the operating point, calibrated, measured on its own grid.

    Where no lung was found nothing is.
    """
    decided = opened.decisions
    filters = Filters(least_confidence=decided.threshold, most=MOST)
    by_finding = {id(row.finding): row for row in found.rows}
    rows = () if found.lungs is None else found.rows
    kept, left_out = findings.select([row.finding for row in rows], filters, lungs=found.lungs)
    labels = labels_onto(_drawn(found, [by_finding[id(one)] for one in kept]), volume.grid)
    array = np.asarray(labels.array).copy()
    measured = []
    for number, one in enumerate(kept, start=1):
        voxel = np.rint(findings.on_grid(one, volume.grid)).astype(int)
        if not (array == number).any():  # a neighbour took all of its voxels
            array[tuple(np.clip(voxel, 0, np.array(array.shape) - 1))] = number
    boxes = ndimage.find_objects(array, max_label=len(kept))
    for number, (one, box) in enumerate(zip(kept, boxes, strict=True), start=1):
        k, j, i = (part.start for part in box)
        own = findings.measure(array[box] == number, volume, confidence=one.confidence, first=(k, j, i))
        measured.append(
            replace(
                own,
                centre_lps_mm=one.centre_lps_mm,
                centre_kji=findings.on_grid(one, volume.grid),
                confidence=decided.probability(one.confidence),
                triage=one.triage,
            )
        )
    counts: dict[str, int] = {}
    for other in left_out:
        counts[other.reason] = counts.get(other.reason, 0) + 1
    tracked = findings.with_tracking(measured, scan_id=scan, model=opened.digest)
    return Reported(tracked, Volume(array, volume.grid), dict(sorted(counts.items())))


def _drawn(found: Detections, kept: Sequence[Detection]) -> Volume:
    """Return the masks as one map; where two meet the more confident has the voxel."""
    array = np.zeros(found.volume.grid.shape, dtype=np.uint8)
    for number, row in reversed(list(enumerate(kept, start=1))):
        box = tuple(slice(low, low + size) for low, size in zip(row.first, row.part.shape, strict=True))
        array[box][row.part] = number
    return Volume(array, found.volume.grid)


def _predict_one(one: Input, opened: NoduleBundle, detector: Detector, output_dir: Path) -> dict[str, Any]:
    try:
        volume, warnings = one.load()
    except ConversionRefused as refusal:
        return _refused(one.name, refusal.reasons)
    except NiftiRefused as refusal:
        return _refused(one.name, (refusal.code,))
    except MemoryError:
        return _refused(one.name, ("image_too_large",))
    except Exception as error:
        # Whatever a broken file raises in a reader, it is one input with a code; a full disk is not the input's fault.
        if machine_faults.told(error):
            raise
        return _refused(one.name, ("unreadable_image",))
    checked = quality.of_volume(volume)
    if checked.refusals:
        return _refused(one.name, checked.refusals)
    try:
        reported = report(detector.detect(volume), volume, opened, one.name)
        segmented = lungs.segment(volume)
    except MemoryError:
        return _refused(one.name, ("image_too_large",))
    except (ValueError, TypeError, RuntimeError, ArithmeticError, IndexError):
        return _refused(one.name, ("prediction_failed",))
    folder = paths.below(output_dir, *one.name.split("/"))
    content = findings_json.form(
        reported.findings, volume.grid, scan_id=one.name, model=MODEL_NAME, version=opened.digest[:12]
    )
    findings_json.write(folder / "findings.json", content)
    text = clinician.text(
        reported.findings,
        volume,
        segmented,
        model=f"{MODEL_NAME} {opened.digest[:12]}",
        least_diameter_mm=Filters().least_diameter_mm or 0,
    )
    files.write_text(folder / "findings.txt", text)
    nifti.write(folder / "mask.nii.gz", reported.labels)
    _write_overlay(folder / "overlay.png", volume, reported.labels)
    all_warnings = [*warnings, *checked.warnings, *(() if segmented is not None else ("lungs_not_found",))]
    line: dict[str, Any] = _line(one.name) | {
        "status": "predicted",
        "warnings": all_warnings,
        "findings": len(reported.findings),
        "left_out": reported.left_out,
        "largest_diameter_mm": content.summary.largest_diameter_mm,
        "highest_confidence": max((finding.confidence for finding in reported.findings), default=None),
        "json": f"{one.name}/findings.json",
        "mask": f"{one.name}/mask.nii.gz",
        "model": opened.digest,
    }
    if one.sources:
        line |= _write_objects(folder, one, reported, opened, all_warnings)
    return line


def _write_overlay(path: Path, volume: Volume, labels: Volume) -> None:
    from ct_assets.reports import figures

    image, mask = oriented(volume), oriented(labels)
    files.write_bytes(path, figures.overlay(image.array, {"predicted": mask.array}, image.grid.spacing_mm))


def _write_objects(
    folder: Path, one: Input, reported: Reported, opened: NoduleBundle, warnings: Sequence[str]
) -> dict[str, Any]:
    """Write SR and SEG; a series that lacks what they must copy from it gets JSON and NIfTI alone, and says so."""
    from ct_assets.systems.nodules import report_objects

    masks, grid = _masks(reported)
    try:
        with (
            files.atomic_path(folder / "findings.dcm") as sr,
            files.atomic_path(folder / "mask.dcm") as seg,
        ):
            report_objects.write(seg, sr, reported.findings, masks, grid, one.sources, model=opened.digest)
            if not reported.findings:
                seg.touch()
    except (ValueError, AttributeError, TypeError, KeyError):
        return {"warnings": [*warnings, "seg_not_written"]}
    if not reported.findings:  # the Standard has no segmentation without a segment
        (folder / "mask.dcm").unlink()
        return {"sr": f"{one.name}/findings.dcm"}
    return {"sr": f"{one.name}/findings.dcm", "seg": f"{one.name}/mask.dcm"}


def _masks(reported: Reported) -> tuple[list[npt.NDArray[np.bool_]], Grid]:
    """Return the mask of each finding on the slices that any of them reaches, and that grid."""
    array, grid = np.asarray(reported.labels.array), reported.labels.grid
    slices = np.flatnonzero(array.any(axis=(1, 2)))
    if not len(slices):
        return [], grid
    first, last = int(slices[0]), int(slices[-1]) + 1
    affine = grid.affine_lps.copy()
    affine[:3, 3] = grid.world(np.array([0.0, 0.0, first]))
    part = array[first:last]
    masks = [part == number for number in range(1, len(reported.findings) + 1)]
    return masks, Grid((last - first, grid.shape[1], grid.shape[2]), affine)


def _refused(name: str, reasons: Sequence[str]) -> dict[str, Any]:
    return _line(name) | {"reasons": ["prediction_refused", *reasons]}


def _line(name: str) -> dict[str, Any]:
    return {
        "series": name,
        "status": "refused",
        "reasons": [],
        "warnings": [],
        "findings": None,
        "left_out": {},
        "largest_diameter_mm": None,
        "highest_confidence": None,
        "json": None,
        "sr": None,
        "seg": None,
        "mask": None,
        "model": None,
    }

"""`ct-assets predict`: a bundle on DICOM series or NIfTI images, and the files a reader wants.

Belongs here: finding the model and the inputs, and writing what was predicted. Does not: the prediction itself
(`learning.models.bundle`). A series or image that cannot be predicted is a line with its reasons, never a crash.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ct_assets import files, machine_faults, paths, progress
from ct_assets.dicom.series import Series, group
from ct_assets.dicom.uids import Kind
from ct_assets.errors import UsageError
from ct_assets.imaging import nifti, resample, values
from ct_assets.imaging.convert import ConversionRefused, load_series
from ct_assets.imaging.nifti_read import NiftiRefused
from ct_assets.imaging.volume import Volume
from ct_assets.layout import Layout
from ct_assets.learning.models import bundle, inputs, registry
from ct_assets.learning.models.bundle import Bundle, Member, Predicted
from ct_assets.learning.training import tracking
from ct_assets.settings import Settings

RECORD = inputs.RECORD
LOWEST_HU, HIGHEST_HU = -32768, 32767


@dataclass(frozen=True)
class Input:
    """One image to predict, not loaded yet."""

    name: str
    """Folder of its outputs: the series identifier, or the file's name without suffix."""
    load: Callable[[], tuple[Volume, tuple[str, ...]]]
    """Returns the volume in HU and warnings; raises `ConversionRefused` or `ValueError`."""
    sources: tuple[Path, ...] = ()
    """The DICOM files, for DICOM input."""


def predict(
    model: str | Path,
    input_path: Path,
    output_dir: Path,
    *,
    settings: Settings | None = None,
    tracking_uri: str | None = None,
    workers: int = 1,
    timings: progress.Timings | None = None,
) -> list[dict[str, Any]]:
    """Predict every CT series (or NIfTI image) of `input_path` and return the lines of `prediction.jsonl`.

    `model` is a bundle's folder or `models:/<name>@<alias>`. Writes `<name>/mask.nii.gz`, `mask.dcm` (DICOM
    input), `stage.json`, `overlay.png` under `output_dir`. Raises `UsageError` where model or input are not
    what they should be.
    """
    settings = settings or Settings()
    timings = progress.Timings() if timings is None else timings
    with tempfile.TemporaryDirectory() as fetched, timings.step("model") as step:
        folder = bundle_folder(model, settings.layout, tracking_uri or settings.tracking.uri, Path(fetched))
        opened = bundle.load(folder)
        members = bundle.open_members(folder, opened)
        step.items = len(members)
    with timings.step("inputs") as step:
        found, refused = find_inputs(input_path, output_dir, settings, workers)
        step.items = len(found)
    with (
        timings.step("predict") as step,
        progress.track("predictions", len(found)) as advance,
        inputs.Record(output_dir) as record,
    ):
        for line in refused:
            record.add(line)
        for one in found:
            record.add(_predict_one(one, opened, members, output_dir))
            advance(1)
        step.items = len(found)
    return record.lines


def bundle_folder(model: str | Path, layout: Layout, uri: str | None, into: Path) -> Path:
    """Return the folder of a bundle; a registered one is fetched into `into`. Raises `UsageError` without one."""
    if str(model).startswith(registry.SCHEME):
        return registry.fetch(str(model), uri or tracking.default_uri(layout), into)
    folder = Path(model)
    if not folder.is_dir():
        raise UsageError(
            f"{model}: no such bundle; give the folder of a final model (models/<experiment>/final) or a "
            "registered name (models:/lung@champion)"
        )
    return folder


# Inputs


def find_inputs(
    input_path: Path, output_dir: Path, settings: Settings, workers: int
) -> tuple[list[Input], list[dict[str, Any]]]:
    """Return what to predict, and lines of what cannot be (`inputs.find`)."""
    found = inputs.find(input_path, workers, output_dir)
    refused = [_refused_line(name, (reason,)) for name, reason in found.refused]
    ready = [_nifti_input(one) for one in found.nifti]
    for series in group(found.dicom, settings.audit) if not found.dicom.is_empty() else ():
        if series.kind in (Kind.SEG, Kind.RTSTRUCT):
            continue
        if series.kind != Kind.CT:
            refused.append(_refused_line(series.series_id, series.reasons or ("not_a_ct_volume",)))
        elif series.decision == "refuse" or series.geometry is None:
            refused.append(_refused_line(series.series_id, series.reasons))
        else:
            ready.append(_series_input(series, found.root, settings, found.dicom))
    if not ready and not refused:
        raise UsageError(f"{input_path}: neither a NIfTI image nor a CT series in it")
    return ready, refused


def _nifti_input(one: inputs.NiftiFile) -> Input:
    def load() -> tuple[Volume, tuple[str, ...]]:
        image = values.read_ct(one.path, not_finite="air")
        return image.volume, image.warnings

    return Input(one.name, load)


def _series_input(series: Series, root: Path, settings: Settings, index: Any) -> Input:
    def load() -> tuple[Volume, tuple[str, ...]]:
        converted = load_series(series, root, settings.conversion, index)
        return converted.volume, (*converted.corrections, *converted.warnings)

    sources = tuple(dict.fromkeys(root / instance.path for instance in series.instances))
    return Input(series.series_id, load, sources)


# One input


def _predict_one(one: Input, opened: Bundle, members: Sequence[Member], output_dir: Path) -> dict[str, Any]:
    """Predict one input; whatever is wrong with it is its own line."""
    try:
        volume, warnings = one.load()
    except ConversionRefused as refusal:
        return _refused_line(one.name, refusal.reasons)
    except NiftiRefused as refusal:
        return _refused_line(one.name, (refusal.code,))
    except MemoryError:
        return _refused_line(one.name, ("image_too_large",))
    except Exception as error:
        # Whatever a broken file raises in a reader, it is one input with a code; a full disk is not the input's fault.
        if machine_faults.told(error):
            raise
        return _refused_line(one.name, ("unreadable_image",))
    try:
        predicted = bundle.predict(members, _finite(volume), opened.config.inference.min_component_ml)
    except MemoryError:
        return _refused_line(one.name, ("image_too_large",))
    except (ValueError, TypeError, RuntimeError, ArithmeticError, IndexError):
        return _refused_line(one.name, ("prediction_failed",))
    folder = paths.below(output_dir, *one.name.split("/"))
    stage = stage_of(opened, predicted)
    nifti.write(folder / "mask.nii.gz", predicted.mask)
    files.write_json(folder / "stage.json", stage)
    _write_overlay(folder / "overlay.png", volume, predicted, stage)
    line: dict[str, Any] = {
        "series": one.name,
        "status": "predicted",
        "reasons": [],
        "warnings": list(warnings),
        "mask": f"{one.name}/mask.nii.gz",
        "seg": None,
        "tumour_ml": round(predicted.tumour_ml, 4),
        "stage": stage["predicted"],
        "probabilities": stage["probabilities"],
        "model": opened.digest,
    }
    if one.sources:
        line |= _write_seg(folder, one, predicted, opened, stage["predicted"], warnings)
    return line


def _finite(volume: Volume) -> Volume:
    """Return the volume with what is no number as air, as some NIfTI files mark what lies outside."""
    if not np.issubdtype(volume.array.dtype, np.floating) or np.isfinite(volume.array).all():
        return volume
    return Volume(np.nan_to_num(volume.array, nan=-1000.0, posinf=HIGHEST_HU, neginf=LOWEST_HU), volume.grid)


def stage_of(opened: Bundle, predicted: Predicted) -> dict[str, Any]:
    """Return the content of `stage.json`: calibrated probabilities, the likeliest stage, frozen thresholds met."""
    if predicted.stage_probabilities is None:
        return {
            "probabilities": {},
            "predicted": None,
            "calls": {},
            "calibration": "none",
            "explanation": ["The model has no stage head: it gives no TNM stage."],
        }
    raw = np.array([predicted.stage_probabilities])
    calibrated = opened.calibration.apply(raw)[0]
    points = {point.stage: point.threshold for point in opened.calibration.operating_points}
    probabilities = {stage: round(float(p), 6) for stage, p in zip(opened.stages, calibrated, strict=True)}
    calls = {
        stage: bool(calibrated[place] >= threshold)
        for place, stage in enumerate(opened.stages)
        if (threshold := points.get(stage)) is not None
    }
    predicted_stage = opened.stages[int(calibrated.argmax())]
    return {
        "probabilities": probabilities,
        "predicted": predicted_stage,
        "calls": calls,
        "calibration": opened.calibration.kind,
        "explanation": _explanation(opened, probabilities, predicted_stage, points),
    }


def _explanation(
    opened: Bundle,
    probabilities: dict[str, float],
    predicted_stage: str,
    points: dict[str, float | None],
) -> list[str]:
    """Return in sentences what `predicted` and each of `calls` of `stage.json` mean."""
    calibration = opened.calibration.kind
    sentences = [
        f"predicted: {predicted_stage} has the largest probability ({probabilities[predicted_stage]:.3f}; "
        + (
            "not calibrated)."
            if calibration == "none"
            else f"calibrated by {calibration} on the cross-validation)."
        )
    ]
    for stage, p in probabilities.items():
        threshold = points.get(stage)
        if threshold is None:
            sentences.append(f"calls: {stage} has no threshold, so it is not called.")
            continue
        verdict, sign = ("is called", ">=") if p >= threshold else ("is not called", "<")
        sentences.append(
            f"calls: {stage} {verdict}: probability {p:.3f} {sign} its threshold {threshold:.3f}, frozen on the "
            "cross-validation. Each class has its own threshold, so none, one or several can be called."
        )
    return [*sentences, "Research use only; not for diagnosis."]


def _write_overlay(path: Path, volume: Volume, predicted: Predicted, stage: dict[str, Any]) -> None:
    from ct_assets.reports import figures

    title = f"predicted tumour {predicted.tumour_ml:.2f} ml"
    if stage["predicted"] is not None:
        title += (
            f", TNM stage {stage['predicted']} (probability {stage['probabilities'][stage['predicted']]:.2f})"
        )
    image, mask = resample.oriented(volume), resample.oriented(predicted.mask)
    files.write_bytes(
        path, figures.overlay(image.array, {"predicted": mask.array}, image.grid.spacing_mm, title=title)
    )


def _write_seg(
    folder: Path,
    one: Input,
    predicted: Predicted,
    opened: Bundle,
    stage: str | None,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Write `mask.dcm`; a series that lacks what a SEG must copy from it gets the NIfTI mask alone, and says so."""
    from ct_assets.learning.models import segmentation_object

    text = f"stage {stage}" if stage else None
    try:
        with files.atomic_path(folder / "mask.dcm") as partial:
            segmentation_object.write(
                partial, predicted.mask, one.sources, model=opened.digest, stage_text=text
            )
    except (ValueError, AttributeError, TypeError, KeyError):
        return {"warnings": [*warnings, "seg_not_written"]}
    return {"seg": f"{one.name}/mask.dcm"}


def _refused_line(name: str, reasons: Sequence[str]) -> dict[str, Any]:
    return {
        "series": name,
        "status": "refused",
        "reasons": ["prediction_refused", *reasons],
        "warnings": [],
        "mask": None,
        "seg": None,
        "tumour_ml": None,
        "stage": None,
        "probabilities": {},
        "model": None,
    }

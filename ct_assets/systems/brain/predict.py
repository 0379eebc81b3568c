"""`ct-assets predict` with a bundle of brain CT classification: slices, series, and where the network looked.

Belongs here: finding slices in DICOM and NIfTI, and writing what was predicted. Does not: finding the bundle
(`ct_assets.systems`). A series is judged slice by slice, so a tilted gantry or uneven steps do no harm; what
cannot be used is a line with its reasons.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import nn

from ct_assets import files, machine_faults, paths, progress
from ct_assets.dicom.series import series_name
from ct_assets.imaging import nifti_read
from ct_assets.imaging.orient import orient
from ct_assets.imaging.volume import Volume
from ct_assets.imaging.windows import dequantise, quantise
from ct_assets.learning.models import inputs
from ct_assets.settings import Settings
from ct_assets.systems.brain import (
    aggregate,
    bundle,
    final,
    gradcam,
    images,
    plots,
    preprocess,
    slices,
    train,
)
from ct_assets.systems.brain.bundle import BrainModel
from ct_assets.systems.brain.slices import SliceRefusedError
from ct_assets.systems.brain.task import probabilities

Floats = npt.NDArray[np.float32]

AXIAL = "LPS"


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice that may be predicted."""

    name: str
    """SOPInstanceUID, file name, or number in a volume."""
    hu: Floats | None
    """Upright, the floor applied; None where it is refused."""
    reason: str | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Input:
    """One series or image."""

    name: str
    planes: list[Plane]
    """From the feet to the head, as far as that is known."""
    warnings: tuple[str, ...] = ()


def predict(
    model: str | Path,
    input_path: Path,
    output_dir: Path,
    *,
    settings: Settings | None = None,  # noqa: ARG001 - every system's prediction takes the same arguments
    workers: int = 1,
    timings: progress.Timings | None = None,
) -> list[dict[str, Any]]:
    """Predict every series or NIfTI image below `input_path`; return the lines of `prediction.jsonl`.

    Writes `<series>/slices.json` and `<series>/gradcam.png`. Raises `UsageError` where model or input are not
    what they should be.
    """
    timings = timings or progress.Timings()
    with timings.step("model") as step:
        opened = bundle.load(Path(model))
        network = train.load(opened.config, opened.weights)
        step.items = 1
    found = inputs.find(input_path, workers, output_dir, whole_series=False)
    return inputs.predict_each(
        images_of(found),
        len(found.refused) + len(found.nifti) + _series_of(found.dicom).n_unique(),
        lambda image: _predict_one(image, opened, network, output_dir),
        output_dir,
        timings,
    )


def images_of(found: inputs.Found) -> Iterator[Input]:
    """Yield what was found, one at a time, what cannot be read as an image without a usable plane."""
    for name, reason in found.refused:
        yield Input(name, [Plane(name, None, reason)])
    for image in found.nifti:
        yield _of_nifti(image)
    if not found.dicom.is_empty():
        yield from _of_dicom(found.root, found.dicom)


def _of_dicom(root: Path, index: pl.DataFrame) -> Iterator[Input]:
    for (series,), rows in (
        index.with_columns(_series_of(index)).sort("series", "path").group_by("series", maintain_order=True)
    ):
        columns = rows.select(
            "path", "sop_instance_uid", "image_position_patient_mm", "image_orientation_patient"
        )
        ordered = sorted(columns.rows(), key=_height)
        planes = [_of_file(root / path, uid or Path(path).name) for path, uid, _, _ in ordered]
        yield Input(str(series), planes)


def _series_of(index: pl.DataFrame) -> pl.Series:
    """Return the name of each file's series; a file without a series stands for itself."""
    named = (
        series_name(uid) or f"no-uid-{files.digest_of(path)[:16]}"
        for path, uid in (() if index.is_empty() else index.select("path", "series_instance_uid").iter_rows())
    )
    return pl.Series("series", list(named), dtype=pl.String)


def _height(row: tuple[Any, ...]) -> tuple[float, str]:
    """Return where a slice lies along its normal, headwards; without a place, by name."""
    path, _, position, orientation = row
    if position is None or orientation is None:
        return 0.0, str(path)
    normal = np.cross(orientation[:3], orientation[3:])
    return float(np.dot(position, normal)) * (1 if normal[2] >= 0 else -1), str(path)


def _of_file(path: Path, name: str) -> Plane:
    try:
        read = slices.read(path)
    except SliceRefusedError as refusal:
        return Plane(name, None, refusal.code)
    except OSError:
        return Plane(name, None, "unreadable_image")
    return Plane(name, np.asarray(slices.upright(read.hu, read.orientation)), None, read.warnings)


def _of_nifti(image: inputs.NiftiFile) -> Input:
    name = image.name
    try:
        read = nifti_read.read(image.path)
        nifti_read.check_extent(read.volume.grid)
    except nifti_read.NiftiRefused as refusal:
        return Input(name, [Plane(name, None, refusal.code)])
    except Exception as error:
        # Whatever a broken file raises in a reader, it is one image with a code; a full disk is not its fault.
        if machine_faults.told(error):
            raise
        return Input(name, [Plane(name, None, "unreadable_image")])
    volume = read.volume
    tilted = slices.tilt_deg(tuple(volume.grid.direction[:, :2].T.ravel())) > slices.OBLIQUE_DEG
    axial = orient(volume, AXIAL)
    return Input(name, list(_planes(axial)), (*read.warnings, *(("slice_oblique",) if tilted else ())))


def _planes(axial: Volume) -> Iterator[Plane]:
    for k, values in enumerate(axial.array):
        try:
            finite = np.nan_to_num(np.asarray(values, dtype=np.float32), nan=slices.FLOOR_HU)
            yield Plane(str(k), slices.floored(finite), None)
        except SliceRefusedError as refusal:
            yield Plane(str(k), None, refusal.code)


def _predict_one(one: Input, opened: BrainModel, network: nn.Module, output_dir: Path) -> dict[str, Any]:
    used = [place for place, plane in enumerate(one.planes) if plane.hu is not None]
    refused = Counter(plane.reason for plane in one.planes if plane.reason is not None)
    if not used:
        return _line(one, refused) | {
            "status": "refused",
            "reasons": ["prediction_refused", "no_usable_slice", *sorted(str(code) for code in refused)],
        }
    logits = np.array([_logit(network, _prepared(one, place, opened)) for place in used])
    p = probabilities(logits)
    decisions = opened.decisions
    after = final.calibrated(p, decisions.calibration)
    pooled = aggregate.pool(logits, decisions.aggregation, decisions.attention_temperature)
    threshold = decisions.study_threshold if len(used) > 1 else decisions.threshold
    surest = int(logits.argmax())
    rows = [
        {
            "slice": one.planes[place].name,
            "probability": round(float(p[number]), 6),
            "calibrated": round(float(after[number]), 6),
            "is_positive": bool(p[number] >= decisions.threshold),
            "warnings": list(one.planes[place].warnings),
        }
        for number, place in enumerate(used)
    ]
    folder = paths.below(output_dir, *one.name.split("/"))
    files.write_json(folder / "slices.json", rows)
    image = _prepared(one, used[surest], opened)
    picture = {
        "image": image[image.shape[0] // 2],
        "heat": gradcam.heat(network, image),
        "title": f"{p[surest]:.2f}",
    }
    files.write_bytes(folder / "gradcam.png", plots.gallery([picture]))
    told = {code for place in used for code in one.planes[place].warnings}
    return _line(one, refused) | {
        "status": "predicted",
        "warnings": sorted({*one.warnings, *told}),
        "slices": len(used),
        "probability": round(pooled, 6),
        "threshold": threshold,
        "is_positive": bool(pooled >= threshold),
        "surest_slice": rows[surest]["slice"],
        "aggregation": decisions.aggregation,
        "model": opened.digest,
    }


def _prepared(one: Input, place: int, opened: BrainModel) -> Floats:
    """Return a slice as training saw its like, the 8 bits of the store included."""
    config, size = opened.config, opened.decisions.out_size
    hu = one.planes[place].hu
    assert hu is not None
    if config.windows == "brain_adjacent":
        before, after = (_neighbour(one.planes, place, step, hu) for step in (-1, 1))
        image = preprocess.prepare_adjacent(before, hu, after, config, size)
    else:
        image = preprocess.prepare(hu, config, size)
    return dequantise(quantise(image))


def _neighbour(planes: Sequence[Plane], place: int, step: int, hu: Floats) -> Floats:
    other = place + step
    if not 0 <= other < len(planes):
        return hu
    found = planes[other].hu
    return hu if found is None else found


def _logit(network: nn.Module, image: Floats) -> float:
    device = next(network.parameters()).device
    with torch.no_grad():
        inputs_ = torch.from_numpy(images.network_input(image))[None].to(device)
        return float(network(inputs_)[0, 0])


def _line(one: Input, refused: Counter[str]) -> dict[str, Any]:
    return {
        "series": one.name,
        "status": "refused",
        "reasons": [],
        "warnings": list(one.warnings),
        "slices": 0,
        "slices_refused": {str(code): count for code, count in sorted(refused.items())},
        "probability": None,
        "threshold": None,
        "is_positive": None,
        "surest_slice": None,
        "aggregation": None,
        "model": None,
    }

"""`ct-assets longitudinal register`: two CT images of one patient, their transform, and boxes carried by it.

Belongs here: files in, files out. Does not: registration (`imaging.registration`) and its quality
(`imaging.registration_quality`).
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.imaging import load, nifti, registration, registration_quality, resample
from ct_assets.imaging.registration import Registration, RegistrationRefused, Stage
from ct_assets.imaging.registration_quality import Quality, Status
from ct_assets.imaging.resample import AIR_HU
from ct_assets.imaging.transform import AffineTransform
from ct_assets.imaging.volume import Volume
from ct_assets.progress import Timings
from ct_assets.systems.longitudinal import boxes

OUTPUTS = ("transform.json", "transform.tfm", "registered.nii.gz", "boxes.csv", "report.json")


@dataclass(frozen=True)
class Outcome:
    """What a run of the command ended with."""

    status: Status | str
    """`ok`, `poor` or `refused`."""
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def run(
    fixed_path: Path,
    moving_path: Path,
    output_dir: Path,
    *,
    boxes_csv: Path | None = None,
    stage: Stage = "rigid",
    seed: int = 0,
    timings: Timings | None = None,
) -> Outcome:
    """Register MOVING to FIXED and write transform, registered image, boxes and report into `output_dir`.

    Raises `UsageError` for an input that cannot be used at all; two images that do not fit each other are an
    outcome with reasons.
    """
    timings = timings or Timings()
    given = boxes.read(boxes_csv) if boxes_csv else []
    with timings.step("read") as step:
        fixed, fixed_warnings = _image(fixed_path)
        moving, moving_warnings = _image(moving_path)
        step.items = 2
    warnings = tuple(dict.fromkeys((*fixed_warnings, *moving_warnings)))
    output_dir.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        (output_dir / name).unlink(missing_ok=True)
    try:
        with timings.step("register") as step:
            small_fixed, small_moving = registration.working(fixed), registration.working(moving)
            result = registration.register(small_fixed, small_moving, stage, seed)
            quality = registration_quality.evaluate(small_fixed, small_moving, result)
            step.items = 1
    except RegistrationRefused as refusal:
        outcome = Outcome("refused", (refusal.reason,), warnings)
        files.write_json(output_dir / "report.json", _report(outcome, None, stage, seed))
        timings.write(output_dir)
        return outcome
    with timings.step("write") as step:
        _write_transform(output_dir, result)
        nifti.write(output_dir / "registered.nii.gz", _moved(moving, fixed, result))
        if boxes_csv:
            boxes.write(output_dir / "boxes.csv", boxes.carried(given, result, fixed.grid))
        step.items = 1 + len(given)
    outcome = Outcome(quality.status, quality.reasons, warnings)
    files.write_json(output_dir / "report.json", _report(outcome, quality, stage, seed))
    timings.write(output_dir)
    return outcome


def _image(path: Path) -> tuple[Volume, tuple[str, ...]]:
    try:
        loaded = load.load(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file or folder") from None
    except load.ImageRefused as refusal:
        raise UsageError(f"{path}: cannot be used ({refusal})") from None
    return loaded.volume, loaded.warnings


def _moved(moving: Volume, fixed: Volume, result: Registration) -> Volume:
    """Return MOVING on exactly FIXED's grid, air outside."""
    if result.deformation is None:
        to_fixed = AffineTransform(result.matrix_fixed_to_moving).inverse()
        return to_fixed.image(moving, fixed.grid)
    from ct_assets.imaging import itk

    fine = resample.no_finer_than(moving, fixed.grid)
    reference = SimpleITK.Image(
        [int(size) for size in fixed.grid.shape[::-1]], itk.image_of(fine).GetPixelID()
    )
    reference.SetSpacing(fixed.grid.spacing_mm)
    reference.SetOrigin(fixed.grid.origin_lps_mm)
    reference.SetDirection(fixed.grid.direction.ravel().tolist())
    image = SimpleITK.Resample(
        itk.image_of(fine), reference, result.itk_transform(), SimpleITK.sitkLinear, AIR_HU
    )
    return Volume(SimpleITK.GetArrayFromImage(image), fixed.grid)


def _write_transform(folder: Path, result: Registration) -> None:
    forward = result.matrix_fixed_to_moving
    files.write_json(
        folder / "transform.json",
        {
            "kind": result.stage,
            "matrix_fixed_to_moving": forward.tolist(),
            "matrix_moving_to_fixed": np.linalg.inv(forward).tolist(),
            "rotation_deg": result.rotation_deg,
            "translation_mm": list(result.translation_mm),
            "centre_lps_mm": list(result.centre_lps_mm),
        },
    )
    with files.atomic_path(folder / "transform.tfm") as partial:
        # ITK chooses the format by the suffix, which a partial file lacks.
        named = partial.with_name(partial.name + ".tfm")
        SimpleITK.WriteTransform(result.itk_transform(), str(named))
        named.replace(partial)


def _report(outcome: Outcome, quality: Quality | None, stage: Stage, seed: int) -> dict[str, Any]:
    report: dict[str, Any] = {
        "status": outcome.status,
        "reasons": list(outcome.reasons),
        "warnings": list(outcome.warnings),
        "stage": stage,
        "seed": seed,
    }
    if quality is not None:
        report |= {
            name: value
            for name, value in dataclasses.asdict(quality).items()
            if name not in ("status", "reasons")
        }
    return report

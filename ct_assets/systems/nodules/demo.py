"""`ct-assets nodules demo`: nodule detection on a phantom, from images and readers to a report and a prediction.

Belongs here: the demo's own platform, the order of its parts, the closing lines. The phantom is made in
`ct_assets.phantom.nodule_cohort`; everything else is what the stages do.
"""

import os
import shutil
import time
from pathlib import Path

from ct_assets import progress
from ct_assets.errors import UsageError
from ct_assets.settings import Settings, load_settings
from ct_assets.settings.load import PROJECT_ROOT

DEMO_CONFIG = PROJECT_ROOT / "configs/nodules_demo.yaml"
EXPERIMENT = "demo"
PATIENTS = 18
SIGN = "nodules-demo"
"""A file of this name in the platform's folder says that a demo made it."""


def run_demo(settings: Settings | None = None, *, patients: int = PATIENTS) -> None:
    """Make the phantom, run all stages on it, predict one of its scans, and say where to look."""
    from ct_assets.parallel import default_workers
    from ct_assets.phantom import nodule_cohort
    from ct_assets.systems.nodules import page, pipeline

    started = time.monotonic()
    settings = settings or load_settings(DEMO_CONFIG)
    prepare_root(settings.data_root)
    workers = settings.execution.workers or default_workers()
    place, config = pipeline.Place(settings), settings.nodules.config
    progress.say(f"[1/6] making a phantom of {patients} chests, each read by four readers")
    nodule_cohort.make(place.home / "raw", patients=patients, workers=workers)
    progress.say("[2/6] reading the annotations: readers to nodules")
    pipeline.read_annotations(place, workers=workers)
    progress.say("[3/6] putting the scans on the network's grid; the classical detector on all of them")
    pipeline.prepare_volumes(place, workers=workers)
    pipeline.write_baseline(place, workers=workers)
    progress.say(f"[4/6] training {settings.nodules.folds} folds and the final model")
    pipeline.run_folds(place, EXPERIMENT, config, workers=workers)
    progress.say("[5/6] evaluating the held-out scans; writing report and bundle")
    report = pipeline.write_report(place, EXPERIMENT)
    pipeline.write_bundle(place, EXPERIMENT, config)
    progress.say("[6/6] predicting a scan")
    line = _predict(
        settings, place.bundle(EXPERIMENT), sorted(place.images.iterdir())[0], place.home / "prediction"
    )
    progress.say(f"done in {time.monotonic() - started:.0f} s")
    for name, label in page.NAMES.items():
        own = report[name]
        rates = "  ".join(f"{rate}: {value:.2f}" for rate, value in own["sensitivity_at"].items())
        progress.say(f"  {label:<22} CPM {own['cpm']:.3f}   sensitivity at false marks a scan {rates}")
    progress.say(f"  {page.verdict(report)}")
    progress.say(f"  the predicted scan has {line['findings']} findings at the operating point")
    progress.say("where to look:")
    for what, path in {
        "the report": place.report(EXPERIMENT) / "cv_report.html",
        "its marks for `nodules froc`": place.report(EXPERIMENT) / "csv",
        "the model": place.bundle(EXPERIMENT),
        "the prediction": place.home / "prediction",
    }.items():
        progress.say(f"  {what:<30} {os.path.relpath(path)}")
    progress.say(
        f"next: ct-assets predict {os.path.relpath(place.bundle(EXPERIMENT))} DICOM_FOLDER OUTPUT (docs/nodules.md)"
    )


def prepare_root(root: Path) -> None:
    """Empty the demo's folder. Raises `UsageError` for a folder that no demo made."""
    if root.exists() and any(root.iterdir()):
        if not (root / SIGN).is_file():
            raise UsageError(
                f"{root}: holds something, and is not the platform of an earlier demo; nothing was touched. Set "
                "CT_ASSETS_DATA to another folder, or unset it"
            )
        shutil.rmtree(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / SIGN).touch()


def _predict(settings: Settings, model: Path, series: Path, output: Path) -> dict[str, object]:
    from ct_assets.systems import predict

    (line,) = predict(str(model), series, output, settings=settings, workers=1, timings=progress.Timings())
    return line

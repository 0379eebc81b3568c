"""`ct-assets brain demo`: brain CT classification on a head phantom, through the assets, to the one test.

Belongs here: the demo's own platform, the order of its parts, the closing lines. The phantom is made in
`ct_assets.phantom.head`; everything else is what the assets do.
"""

import os
import time
from pathlib import Path

from ct_assets import files, progress
from ct_assets.defs.assets.brain import place_of
from ct_assets.defs.engine import partitions
from ct_assets.defs.engine.instance import open_instance
from ct_assets.defs.engine.pipeline import Pipeline
from ct_assets.defs.operations import demo_root
from ct_assets.errors import UsageError
from ct_assets.settings import Settings, load_settings
from ct_assets.settings.brain import DEFAULT
from ct_assets.settings.load import PROJECT_ROOT

DEMO_CONFIG = PROJECT_ROOT / "configs/brain_demo.yaml"
PATIENTS, CONTRAST_HU, SEED = 150, 45.0, 11


def run_brain_demo(wish: demo_root.Wish | None = None) -> None:
    """Make the phantom, run the graph on it, predict one slice of it with the registered model, tell the result."""
    from ct_assets.phantom.head import make

    started = time.monotonic()
    for variable in ("CT_ASSETS_LABELS", "CT_ASSETS_TRACKING_URI"):
        os.environ.pop(variable, None)
    settings = load_settings(DEMO_CONFIG)
    root = settings.data_root
    if root.exists():
        if not (root / "brain/raw/CTs").exists() and any(root.iterdir()):
            raise UsageError(
                f"{root}: not the platform of an earlier demo; set CT_ASSETS_DATA to another folder"
            )
        demo_root.prepare(root, wish)
    progress.say(f"[1/4] making a head phantom of {PATIENTS} patients")
    phantom = make(settings.layout.brain / "raw", seed=SEED, patients=PATIENTS, contrast_hu=CONTRAST_HU)
    progress.say("[2/4] running the graph: features, splits, folds, selection, final model, the one test")
    run_graph(settings)
    progress.say("[3/4] predicting a slice with the registered model")
    _predict(settings, sorted((phantom.root / phantom.cts).iterdir())[0])
    progress.say(f"[4/4] done in {time.monotonic() - started:.0f} s")
    _tell(settings)


def run_graph(settings: Settings, configurations: tuple[str, ...] = (DEFAULT,)) -> None:
    """Materialize what is missing or stale, from the features to the test report. Raises what failed."""
    folds = [str(fold) for fold in range(settings.brain.k_folds)]
    with open_instance(settings) as instance:
        pipeline = Pipeline(settings, instance)
        parts: tuple[tuple[list[str], list[str | None]], ...] = (
            (["brain_features", "brain_first_look", "brain_splits"], [None]),
            (
                ["brain_fold_model"],
                [partitions.brain_fold_key(name, fold) for name in configurations for fold in folds],
            ),
            (["brain_cv_report"], list(configurations)),
            (["brain_selection", "brain_final_model", "brain_test_report"], [None]),
        )
        for names, keys in parts:
            pipeline.refresh(names, keys)
            pipeline.outcome.raise_failures()


def _predict(settings: Settings, slice_path: Path) -> None:
    from ct_assets.systems import predict

    output = settings.data_root / "prediction"
    (line,) = predict(
        f"models:/{settings.brain.registered_name}@candidate", slice_path, output, settings=settings, workers=1,
        timings=progress.Timings(),
    )  # fmt: skip
    progress.say(f"  probability of a lesion {line['probability']:.3f}, see {_shown(output)}")


def _tell(settings: Settings) -> None:
    place = place_of_settings(settings)
    metrics = files.read_json(place / "test/test_metrics.json")
    for name in ("roc_auc", "auprc", "sensitivity", "specificity"):
        told = metrics["intervals"][name]
        shown = "undefined" if told["value"] is None else f"{told['value']:.3f}"
        between = "" if told["low"] is None else f" ({told['low']:.3f} to {told['high']:.3f})"
        progress.say(f"  test {name.replace('_', ' '):<14} {shown}{between}")
    for what, name in (("the data", "data"), ("the cross-validation", "selected"), ("the one test", "test")):
        progress.say(f"  {what:<22} {_shown(place / name / 'index.html')}")
    progress.say("  the graph in the UI    CT_ASSETS_CONFIG=configs/brain_demo.yaml make ui")


def place_of_settings(settings: Settings) -> Path:
    """Return the folder of the pages."""
    from ct_assets.defs.engine.platform import Platform

    return place_of(Platform(settings)).report("")


def _shown(path: Path) -> str:
    return os.path.relpath(path)

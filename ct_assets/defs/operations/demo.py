"""`ct-assets demo`: the main job on a phantom cohort, from two drops to the test report.

Belongs here: the demo's own platform and key, the order of its parts, the closing table. The phantom is made
in `ct_assets.phantom`; everything else is what `ct-assets ingest` and `ct-assets run` do.
"""

import hashlib
import os
import shutil
import time
from pathlib import Path

from ct_assets import progress
from ct_assets.defs.engine.launch import run_platform
from ct_assets.defs.engine.platform import Platform
from ct_assets.defs.operations import demo_root
from ct_assets.errors import UsageError
from ct_assets.settings import Settings, load_settings
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets.settings.training import load_training_config

DEMO_CONFIG = PROJECT_ROOT / "configs/demo.yaml"
PHANTOM_SEED = 7
KEY_NAME = "demo.key"
PUBLIC_KEY = hashlib.sha256(b"the key of the demo: invented patients, nothing to keep").hexdigest()


def run_demo(wish: demo_root.Wish | None = None) -> None:
    """Make the phantom's two drops, ingest them, run the whole graph with a small training, report the result.

    `wish` is what becomes of an earlier demo (`defs.operations.demo_root`).
    """
    from ct_assets.identity.key import ENVIRONMENT_VARIABLE, SecretKey
    from ct_assets.intake.batches import ingest
    from ct_assets.learning.models.registry import promote
    from ct_assets.phantom.cohort import make

    started = time.monotonic()
    # The demo must not mix with a platform in earnest: its data root, key and labels are its own.
    for variable in (
        ENVIRONMENT_VARIABLE,
        "CT_ASSETS_LABELS",
        "CT_ASSETS_TRACKING_URI",
        "CT_ASSETS_DATABASE",
    ):
        os.environ.pop(variable, None)
    settings = demo_settings()
    root = settings.data_root
    refuse_foreign(root)
    config = load_training_config(settings.training)
    demo_root.prepare(root, wish, own_experiments=frozenset({config.experiment}))
    key_file = root / KEY_NAME
    if not key_file.exists():
        _write_public_key(key_file)
    progress.say(f"[1/4] making a phantom cohort under {_shown(root / 'phantom')}")
    if (root / "phantom").exists():
        shutil.rmtree(root / "phantom")  # kept data: the phantom is the same each time
    phantom = make(root / "phantom", seed=PHANTOM_SEED)
    progress.say("[2/4] ingesting two deliveries")
    key = SecretKey.load(key_file)
    demo_root.record_batches(root, [ingest(drop, settings.layout, key) for drop in phantom.drops])
    progress.say("[3/4] running the graph: de-identification to the report of the one test")
    run_platform(settings, training=settings.training)
    promote(Platform(settings).tracking_uri, config.final.registered_name)
    progress.say(f"[4/4] done in {time.monotonic() - started:.0f} s")
    _tell(settings)


def demo_settings() -> Settings:
    """Return the demo's settings; where `CT_ASSETS_DATA` names another folder, key and labels lie below it too."""
    settings = load_settings(DEMO_CONFIG)
    if settings.storage.url is not None:
        raise UsageError("the demo needs a folder of this machine; unset CT_ASSETS_DATA or name a folder")
    root = settings.data_root
    deid = settings.deid.model_copy(update={"key_file": root / KEY_NAME})
    labels = settings.labels.model_copy(update={"csv": root / "phantom/raw_manifest.csv"})
    return settings.model_copy(update={"deid": deid, "labels": labels})


def refuse_foreign(root: Path) -> None:
    """Refuse a folder that no demo made: its sign is the demo's public key. Raises `UsageError`."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    key_file = root / KEY_NAME
    if not key_file.is_file() or key_file.read_text(errors="replace").strip() != PUBLIC_KEY:
        raise UsageError(
            f"{root}: holds something, and is not the platform of an earlier demo; nothing was touched. Set "
            "CT_ASSETS_DATA to another folder, or unset it"
        )


def _write_public_key(path: Path) -> None:
    """Write the demo's key: no secret, since its patients are invented, so that every demo gives the same table."""
    from ct_assets.identity.key import KEY_FILE_MODE

    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=KEY_FILE_MODE)
    path.write_text(PUBLIC_KEY + "\n")


def _tell(settings: Settings) -> None:
    from ct_assets.defs.operations.instance_facts import instance_facts
    from ct_assets.reports.status import show

    show(settings, instance_facts(settings))
    layout = settings.layout
    experiment = load_training_config(settings.training).experiment
    progress.say("where to look:")
    for what, path in {
        "all pages": layout.reports / "index.html",
        "every case in pictures": layout.reports / "cases/index.html",
        "the experiment over its folds": layout.reports / "experiments" / experiment / "index.html",
        "the one test": layout.reports / "tests" / experiment / "index.html",
        "why a patient is excluded": layout.excluded,
    }.items():
        progress.say(f"  {what:<29} {_shown(path)}")
    progress.say(f"  {'the graph, pages and viewer':<29} CT_ASSETS_CONFIG=configs/demo.yaml make ui")
    progress.say(f"  {'the model':<29} ct-assets predict models:/lung@champion … (docs/predict.md)")


def _shown(path: Path) -> str:
    return os.path.relpath(path)

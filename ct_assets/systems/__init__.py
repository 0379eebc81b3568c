"""Which system made a bundle, and who predicts with it.

Belongs here: the one place that knows all systems that `ct-assets predict` serves. A system's `predict` takes a
bundle's folder, an input and an output folder.
"""

import importlib
import tempfile
from pathlib import Path
from typing import Any

from ct_assets import files, registry
from ct_assets.errors import UsageError
from ct_assets.progress import Timings
from ct_assets.settings import Settings

FIRST = "lung"
"""The system of bundles that do not name theirs."""


def predict(
    model: str, input_path: Path, output_dir: Path, *, settings: Settings, workers: int, timings: Timings
) -> list[dict[str, Any]]:
    """Predict with whichever system made the model; return the lines of `prediction.jsonl`.

    Raises `UsageError` where model or input are not what they should be.
    """
    from ct_assets.learning.models.predict import bundle_folder

    with tempfile.TemporaryDirectory() as fetched:
        folder = bundle_folder(model, settings.layout, settings.tracking.uri, Path(fetched))
        predictor = importlib.import_module(_predictors()[system_of(folder)])
        return list(
            predictor.predict(
                folder, input_path, output_dir, settings=settings, workers=workers, timings=timings
            )
        )


def system_of(folder: Path) -> str:
    """Return the system that made a bundle. Raises `UsageError` for one that this program does not know."""
    path = folder / "bundle.json"
    if not path.exists():
        raise UsageError(f"{folder}: no bundle.json in it; give the folder of a final model")
    system = str(files.read_json(path).get("system", FIRST))
    if system not in _predictors():
        raise UsageError(f"{path}: made by {system!r}; this program knows {', '.join(_predictors())}")
    return system


def _predictors() -> dict[str, str]:
    return {system.name: system.predictor for system in registry.systems() if system.predictor}

"""Which files each asset writes: what `run` and `status` expect to find as it was written.

Belongs here: patterns relative to the data root. What may be freed (the store, checkpoints), is restricted and retired by
itself (originals, released instances), is shared by experiments (`final/`), or is marked by a withdrawal (cards, lists
of patients) is no output here.
"""

from collections.abc import Callable

from ct_assets.defs.engine.partitions import split_key
from ct_assets.defs.engine.platform import Platform
from ct_assets.storage.outputs import Difference, OutputRecords

Patterns = Callable[[str], tuple[str, ...]]


def _training(*names: str) -> Patterns:
    def patterns(key: str) -> tuple[str, ...]:
        experiment, fold = split_key(key)
        return tuple(f"models/{experiment}/{fold}/{name}" for name in names)

    return patterns


OUTPUTS: dict[str, Patterns] = {
    "nifti_cohort": lambda _: ("nifti/images*/*", "nifti/labels*/*", "nifti/dataset.json"),
    "fold_plan": lambda fold: (f"folds/{fold}/plan.json",),
    "fold_volumes": lambda fold: (f"folds/{fold}/volumes.parquet",),
    "fold_model": _training("best.safetensors", "result.json", "training.json"),
    "fold_predictions": _training("predictions.parquet", "predictions/*/*"),
    "cv_report": lambda name: tuple(
        f"models/{name}/{file}"
        for file in ("cv_report.json", "calibration.json", "segmentation_scores.parquet")
    ),
    "final_model": lambda name: (f"models/{name}/final/*.safetensors", f"models/{name}/final/*.json"),
    "derived_set": lambda name: (f"derived/{name}/**/*.parquet", f"derived/{name}/**/*.json"),
}


def record(platform: Platform, name: str, partition: str | None) -> None:
    """Record the outputs of an asset that was just materialized."""
    records = OutputRecords.of(platform.settings)
    if name in OUTPUTS and records is not None:
        records.write(name, partition, OUTPUTS[name](partition or ""))


def difference(platform: Platform, name: str, partition: str | None) -> Difference | None:
    """Return what of an asset's outputs is missing or changed; None where nothing is, or none is recorded."""
    records = OutputRecords.of(platform.settings)
    return None if records is None else records.difference(name, partition)

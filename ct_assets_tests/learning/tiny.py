"""A cohort of bright balls in dark boxes, small enough to train on in a second; and configurations to match."""

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ct_assets import tables
from ct_assets.imaging import nifti
from ct_assets.imaging.volume import Grid, Volume
from ct_assets.layout import Layout
from ct_assets.learning.experiment import Experiment
from ct_assets.learning.system import Examples
from ct_assets.learning.training.lung_task import LungTraining, examples_of
from ct_assets.learning.volumes import fold_volumes
from ct_assets.learning.volumes.plan import FINAL, Plan, build_plan
from ct_assets.settings.folds import PlanSettings
from ct_assets.settings.training import TrainingConfig
from ct_assets.tables.folds import FoldVolumes

STAGES = ["I", "II", "III"]
SHAPE = (16, 20, 20)
RADIUS_MM = {"I": 10.0, "II": 16.0, "III": 22.0}
PLAN = PlanSettings(spacing=(4.0, 4.0, 4.0), crop="none", intensity="unit_range", patch_size=(16, 16, 16))


@dataclass(frozen=True)
class TinyCohort:
    """Where the cohort lies, with everything that a training is called with."""

    layout: Layout
    manifest: pl.DataFrame

    def begin(
        self, config: TrainingConfig, experiment: str = "tiny", **changes: Any
    ) -> Experiment[TrainingConfig]:
        """Begin an experiment on this cohort, or open it with `config` in force."""
        about = {"manifest": self.manifest, "classes": STAGES, "layout": self.layout} | changes
        return Experiment.begin(experiment, config, **about)

    def arguments(
        self, config: TrainingConfig, fold: str = "0", experiment: str = "tiny", **changes: Any
    ) -> dict[str, Any]:
        """Return the keyword arguments of `train_fold`."""
        predicted = self.predicted(config, fold, experiment, **changes)
        return {**predicted, "system": LungTraining(), "tracking_uri": tracking_uri()}

    def predicted(
        self, config: TrainingConfig, fold: str = "0", experiment: str = "tiny", **changes: Any
    ) -> dict[str, Any]:
        """Return the keyword arguments of `predict_fold.predict`."""
        return {
            "experiment": self.begin(config, experiment, **changes),
            "fold": fold,
            "examples": self.examples(fold),
        }

    def examples(self, fold: str) -> Examples:
        """Return the examples of a fold."""
        volumes = tables.read_table(self.layout.fold_volumes(fold), FoldVolumes)
        return examples_of(fold, Plan.load(self.layout.plan(fold)), volumes, self.layout.store, STAGES)


@functools.cache
def tracking_uri() -> str:
    """Return one embedded tracking store for a whole run of tests: making its tables takes seconds."""
    return f"sqlite:///{tempfile.mkdtemp(prefix='ct-assets-tracking-')}/mlflow.db"


def make(root: Path, *, patients: int = 9, tests: int = 2, folds: int = 3) -> TinyCohort:
    """Make volumes, manifest, plans and store of a tiny cohort under a data root."""
    layout = Layout(root)
    rows = []
    for number in range(patients + tests):
        case_id, stage = f"case_{number:04d}", STAGES[number % 3]
        image, mask = _ball(number, RADIUS_MM[stage])
        nifti.write(root / f"nifti/{case_id}.nii.gz", image)
        nifti.write(root / f"nifti/{case_id}_label.nii.gz", mask)
        rows.append(
            {
                "case_id": case_id,
                "patient_id": f"patient-{number}",
                "stage": stage,
                "site": "north" if number % 2 else "south",
                "split": "train" if number < patients else "test",
                "fold": (number // 3) % folds if number < patients else None,
                "image": f"nifti/{case_id}.nii.gz",
                "label": f"nifti/{case_id}_label.nii.gz",
            }
        )
    manifest = pl.DataFrame(rows, schema_overrides={"fold": pl.Int64})
    for fold in range(folds):
        make_fold(layout, manifest, str(fold))
    return TinyCohort(layout, manifest)


def make_fold(layout: Layout, manifest: pl.DataFrame, fold: str) -> None:
    """Make plan and volumes of a fold; of `final` the plan lies with the final training set."""
    plan = build_plan(manifest, fold, layout.root, layout.store, PLAN, 1)
    plan.save(layout.final_train / "plan.json" if fold == FINAL else layout.plan(fold))
    volumes = fold_volumes.build(manifest, fold, plan, layout.root, layout.store, 1)
    if fold != FINAL:
        tables.write_table(layout.fold_volumes(fold), volumes, FoldVolumes)


def config(**changes: Any) -> TrainingConfig:
    """Return a configuration that trains in a second; `changes` replace its sections."""
    content: dict[str, Any] = {
        "network": {"kind": "unet", "channels": [4, 8]},
        "stage_head": {"hidden": 4, "kind": "ordinal"},
        "sampling": {"patch_size": [8, 8, 8], "windows_per_patient": 2, "augment": False},
        "optimizer": {"learning_rate": 0.01},
        "stages": [{"epochs": 2}],
        "steps_per_epoch": 3,
        "accelerator": "cpu",
        "threads": 1,
        "system_metrics": False,
        "evaluation": {"bootstrap_samples": 100},
    }
    return TrainingConfig.model_validate(content | changes)


def _ball(number: int, radius_mm: float) -> tuple[Volume, Volume]:
    rng = np.random.default_rng(number)
    grid = Grid.of(SHAPE, (4.0, 4.0, 4.0), (-38.0, -38.0, 100.0 + number))
    k, j, i = np.indices(SHAPE)
    middle = [size / 2 + rng.uniform(-2, 2) for size in SHAPE]
    away = 4.0 * np.sqrt((k - middle[0]) ** 2 + (j - middle[1]) ** 2 + (i - middle[2]) ** 2)
    inside = away <= radius_mm
    hu = np.where(inside, 60, -800) + rng.normal(0, 20, SHAPE)
    return Volume(np.rint(hu).astype(np.int16), grid), Volume(inside.astype(np.uint8), grid)

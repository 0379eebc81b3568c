"""The demo's training judged out of fold: `python benchmarks/demo_training.py [--longer 4] [--shuffle 1]`.

On a copy of a platform at training's door (after `ct-assets demo`, say): trains and predicts all folds and
prints Dice beside the threshold baseline and the stage's AUROC, both with their intervals, and CPU seconds. `--longer`
multiplies the epochs of the first stage; `--shuffle` deals the stages of each fold out to its patients anew, so that
nothing is left to learn and the AUROC's interval should hold 0.5. (Dealt out across folds, a class that a fold has more
of is rarer in what its model learnt from, which alone brings the pooled AUROC below chance.)
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import mlflow  # noqa: F401 - the clock runs for training, not for imports
import monai.networks.nets
import monai.transforms  # noqa: F401
import numpy as np
import polars as pl

from ct_assets import tables
from ct_assets.layout import Layout
from ct_assets.learning.evaluation import evaluate, predict_fold
from ct_assets.learning.experiment import Experiment
from ct_assets.learning.training import train
from ct_assets.learning.volumes.plan import Plan
from ct_assets.settings import load_settings
from ct_assets.settings.training import TrainingConfig, load_training_config
from ct_assets.tables.cohort import CohortManifest
from ct_assets.tables.folds import FoldVolumes

PARTS = ("cohort", "nifti", "folds", "store", "audits/ct_prepro")
EXPERIMENT = "measured"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/demo"))
    parser.add_argument("--settings", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--config", type=Path, default=Path("configs/train/demo.yaml"))
    parser.add_argument("--longer", type=int, default=1)
    parser.add_argument("--shuffle", type=int, metavar="SEED")
    arguments = parser.parse_args()
    config = load_training_config(arguments.config)
    first, *others = config.stages
    first = first.model_copy(update={"epochs": first.epochs * arguments.longer})
    every = max(config.validation.every_epochs, first.epochs + sum(stage.epochs for stage in others))
    config = config.model_copy(
        update={
            "stages": (first, *others),
            "validation": config.validation.model_copy(update={"every_epochs": every}),
        }
    )
    stages = load_settings(arguments.settings).labels.stages
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder)
        for part in PARTS:
            if (arguments.root / part).exists():
                shutil.copytree(arguments.root / part, root / part)
        report, spent = judged(root, config, stages, arguments.shuffle)
    print(f"{spent:.0f} CPU s for the training of all folds")
    for group, names in (("segmentation", ("dice",)), ("stage", ("auroc_macro",))):
        for model, figures in report[group].items():
            for name in names:
                figure = (figures.get("pooled") or {}).get(name)
                if figure and figure.get("value") is not None:
                    low, high = figure.get("low"), figure.get("high")
                    print(f"{model:<20}{name:<14}{figure['value']:>8.3f}   {low:.3f} to {high:.3f}")


def judged(
    root: Path, config: TrainingConfig, stages: list[str] | tuple[str, ...], shuffle: int | None
) -> tuple[dict, float]:
    """Train, predict and judge all folds; return the report's figures and the CPU seconds of training."""
    layout = Layout(root)
    manifest = tables.read_table(layout.cohort_manifest, CohortManifest)
    dealt = dict(manifest.select("case_id", "stage").iter_rows())
    volumes_of_folds = sorted(layout.folds.glob("*/volumes.parquet"))
    if shuffle is not None:
        random = np.random.default_rng(shuffle)
        for path in volumes_of_folds:
            held = tables.read_table(path, FoldVolumes).filter(pl.col("role") == "validation")
            cases = held["case_id"].unique(maintain_order=True).to_list()
            anew = random.permutation([dealt[case] for case in cases]).tolist()
            dealt |= dict(zip(cases, anew, strict=True))
    with_stages = pl.col("case_id").replace_strict(dealt, return_dtype=pl.String).alias("stage")
    manifest = manifest.with_columns(with_stages)
    experiment = Experiment.begin(EXPERIMENT, config, manifest=manifest, classes=stages, layout=layout)
    spent = 0.0
    for path in volumes_of_folds:
        fold = path.parent.name
        arguments = {
            "fold": fold,
            "plan": Plan.load(layout.plan(fold)),
            "volumes": tables.read_table(path, FoldVolumes).with_columns(with_stages),
        }
        started = time.process_time()
        train.train_fold(experiment, **arguments)
        spent += time.process_time() - started
        predict_fold.predict(experiment, **arguments)
    report = evaluate.cv_report(experiment)
    return report.figures, spent


if __name__ == "__main__":
    main()

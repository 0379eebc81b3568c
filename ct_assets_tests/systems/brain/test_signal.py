"""The proof that it learns, and that it learns nothing where there is nothing: a head phantom, and shuffled labels."""

from dataclasses import dataclass

import pytest

from ct_assets.phantom import head
from ct_assets.settings.brain import BrainConfig, RunOptions
from ct_assets.systems.brain import cv, dataset, features, final, images, splits

OPTIONS = RunOptions(k_folds=2, test_size=0.1, batch_size=8, num_workers=0, out_size=64)
CONFIG = BrainConfig(
    epochs_head=1, epochs_ft=7, patience_ft=7, lr_ft=1e-3, use_cosine_schedule=True, grad_clip=None, rotation_deg=0,
    shift_share=0, scale_range=(1.0, 1.0),
)  # fmt: skip


@dataclass
class Judged:
    auroc: dict
    auprc: dict
    prevalence: float


def judged(folder, *, shuffled):
    made = head.make(folder / "set", patients=140, contrast_hu=45, shuffled=shuffled)
    structure = dataset.validate_dataset_structure(made.root)
    table = features.features(features.folder_items(structure), structure.ct_dir)
    placed, _ = splits.assign(table, OPTIONS)
    training = splits.training_part(placed)
    prepared = images.prepare(
        placed, structure.ct_dir, CONFIG, OPTIONS.out_size, folder / "prepared", workers=1
    )
    result = cv.run_cv(training, CONFIG, OPTIONS, prepared, folder / "cv", threads=1)
    told = final.figures(
        result.predictions,
        0.5,
        final.fit_calibration(result.predictions),
        samples=1000,
        confidence=0.95,
        seed=0,
    )
    print("shuffled" if shuffled else "honest", told["intervals"]["roc_auc"], told["intervals"]["auprc"])
    return Judged(told["intervals"]["roc_auc"], told["intervals"]["auprc"], told["prevalence"])


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two trainings: a minute when quiet, many on a busy machine
def test_lesions_are_found_well_above_chance(tmp_path):
    found = judged(tmp_path, shuffled=False)
    assert found.auroc["low"] > 0.7
    assert found.auprc["low"] > found.prevalence + 0.1


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two trainings: a minute when quiet, many on a busy machine
def test_shuffled_labels_are_found_no_better_than_by_chance(tmp_path):
    found = judged(tmp_path, shuffled=True)
    assert found.auroc["low"] <= 0.5 <= found.auroc["high"]

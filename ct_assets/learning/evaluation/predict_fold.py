"""Out-of-fold predictions: a fold's model on the patients that it was not trained on.

In the original image space, through the same way as any later prediction.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from ct_assets import files, progress, tables
from ct_assets.errors import UsageError
from ct_assets.imaging import nifti, values
from ct_assets.layout import Layout
from ct_assets.learning.experiment import Experiment
from ct_assets.learning.models import bundle
from ct_assets.learning.models.bundle import Member
from ct_assets.learning.system import Examples
from ct_assets.learning.training import checkpoints
from ct_assets.learning.training.lung_task import LungTraining
from ct_assets.learning.training.train import RESULT_NAME
from ct_assets.settings.training import TrainingConfig
from ct_assets.tables.learning import Predictions

PREDICTIONS_NAME = "predictions.parquet"
MASKS_DIR = "predictions"
SCANNER_COLUMNS = ("manufacturer", "manufacturer_model_name")


def predict(
    experiment: Experiment[TrainingConfig],
    *,
    fold: str,
    examples: Examples,
    model_dir: Path | None = None,
) -> pl.DataFrame:
    """Predict the fold's validation patients with its model; return and write the table `Predictions`.

    Masks lie in `predictions/<case_id>/mask.nii.gz` of the training's folder. Raises `UsageError` where the
    fold is not trained, or was trained on another plan or other volumes.
    """
    config, layout = experiment.config, experiment.layout
    folder = model_dir or layout.fold_model(experiment.name, fold)
    result_path = folder / RESULT_NAME
    if not result_path.exists():
        raise UsageError(
            f"experiment {experiment.name}, fold {fold}: is not trained to the end; launch its training"
        )
    result = files.read_json(result_path)
    if result["identity"] != LungTraining().identity(examples, config, experiment.classes):
        raise UsageError(
            f"stale_plan: experiment {experiment.name}, fold {fold}: the model was trained on another plan, other "
            "volumes or settings; train it again under a new experiment name"
        )
    weights = folder / checkpoints.WEIGHTS_NAME
    member = bundle.open_member(
        fold, weights, examples.data.plan, config, len(experiment.classes), bundle.device_of(config)
    )
    validated = examples.of("validation").table["example_id"].to_list()
    cases = experiment.manifest.filter(pl.col("case_id").is_in(validated)).sort("case_id")
    table = predict_cases(
        [member], cases, config, layout, folder / MASKS_DIR, fold=fold, model_sha256=result["weights_sha256"]
    )
    tables.write_table(folder / PREDICTIONS_NAME, table, Predictions)
    return table


def predict_cases(
    members: Sequence[Member],
    cases: pl.DataFrame,
    config: TrainingConfig,
    layout: Layout,
    masks_dir: Path,
    *,
    fold: str | None,
    model_sha256: str,
) -> pl.DataFrame:
    """Predict the manifest's rows `cases` with an ensemble, write the masks, return `Predictions`."""
    rows = []
    with progress.track(f"predictions of fold {fold}" if fold else "predictions", cases.height) as advance:
        for case in cases.iter_rows(named=True):
            volume = values.read_ct(layout.root / case["image"]).volume
            predicted = bundle.predict(members, volume, config.inference.min_component_ml)
            mask_path = masks_dir / case["case_id"] / "mask.nii.gz"
            nifti.write(mask_path, predicted.mask)
            probabilities = predicted.stage_probabilities
            rows.append(
                {
                    "case_id": case["case_id"],
                    "patient_id": case["patient_id"],
                    "fold": fold,
                    "mask": layout.relative(mask_path),
                    "stage": case.get("stage"),
                    "stage_probabilities": None if probabilities is None else list(probabilities),
                    "predicted_ml": predicted.tumour_ml,
                    "site": case.get("site"),
                    "scanner": scanner_of(case),
                    "model_sha256": model_sha256,
                }
            )
            advance(1)
    return tables.frame(rows, Predictions)


def scanner_of(case: Mapping[str, object]) -> str | None:
    """Return manufacturer and model of a manifest row, where it tells."""
    parts = [str(case[name]) for name in SCANNER_COLUMNS if case.get(name)]
    return " ".join(parts) or None

"""The lung system as a task of the trainer: tumour mask and stage of the patient, from one network.

Belongs here: its batches, its joint loss as a module, its validation. The loop is in `learning.training.trainer`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from ct_assets import files
from ct_assets.errors import UsageError
from ct_assets.learning.models import inference
from ct_assets.learning.networks import dual_head
from ct_assets.learning.networks.dual_head import DualHeadNetwork
from ct_assets.learning.system import Examples, Source, Trainable
from ct_assets.learning.training import losses, weights
from ct_assets.learning.training.losses import JointLoss
from ct_assets.learning.training.task import Batch, Direction, Task, Validation
from ct_assets.learning.volumes.dataset import CaseDataset, PatchDataset
from ct_assets.learning.volumes.plan import Plan
from ct_assets.settings.training import TrainingConfig

METRICS: Mapping[str, Direction] = {
    "loss": "min",
    "dice": "max",
    "stage_loss": "min",
    "stage_balanced_accuracy": "max",
    "combined": "max",
}


class LungTraining(Trainable[TrainingConfig]):
    """The lung system as it is trained."""

    name = "lung"

    def task(self, examples: Examples, config: TrainingConfig, classes: tuple[str, ...]) -> "LungTask":  # noqa: ARG002
        """Return the task of a fold's examples (`examples_of`)."""
        return LungTask(examples.data, config)

    def load_pretrained(
        self, task: Task, examples: Examples, config: TrainingConfig
    ) -> weights.WeightsReport | None:
        """Fill the network's body with the configured weights."""
        if config.pretrained is None or not isinstance(task, LungTask):
            return None
        return weights.load(task.module.network, config, examples.data.plan)

    def identity(
        self, examples: Examples, config: TrainingConfig, classes: tuple[str, ...]
    ) -> dict[str, str]:
        """Return the digests of configuration, plan, volumes and vocabulary."""
        sources = {f"{source.name}_digest": source.digest for source in examples.sources}
        return {"config_digest": config.digest, **sources, "stages": "|".join(classes)}


def examples_of(
    fold: str, plan: Plan, volumes: pl.DataFrame, store_dir: Path, classes: Sequence[str]
) -> Examples:
    """Return a fold's examples from its plan and its table `FoldVolumes`.

    Raises `UsageError` with the code `stale_plan` where the plan is not of this fold or of these training patients.
    """
    check_plan(plan, volumes, fold)
    described = volumes.sort("case_id").select(
        "case_id", "patient_id", "role", "stage", "image_key", "label_key"
    )
    return Examples(
        described.with_columns(example_id=pl.col("case_id"), target=pl.col("stage")),
        sources=(
            Source("volumes", files.digest_of(described.to_dicts()), f"folds/{fold}/volumes.parquet"),
            Source("plan", plan.digest, f"folds/{fold}/plan.json"),
        ),
        data=LungData(volumes, plan, store_dir, tuple(classes)),
    )


def check_plan(plan: Plan, volumes: pl.DataFrame, fold: str) -> None:
    """Refuse a plan that is not of this fold or of these training patients."""
    if plan.fold != fold:
        raise UsageError(f"stale_plan: the plan is of fold {plan.fold}, not of fold {fold}; make it again")
    training = volumes.filter(pl.col("role") == "train")
    if training.is_empty():
        raise UsageError(f"fold {fold}: no training case has volumes; see the fold's report")
    patients = sorted(set(training["patient_id"]))
    if files.digest_of(patients) != plan.training_patients_digest:
        raise UsageError(
            f"stale_plan: fold {fold}'s plan was made from {plan.training_patients} training patients, its "
            f"volumes hold {len(patients)} or other ones; materialize fold_plan and fold_volumes again"
        )


@dataclass(frozen=True)
class LungData:
    """What a fold gives a training."""

    volumes: pl.DataFrame
    """`tables.folds.FoldVolumes`."""
    plan: Plan
    store_dir: Path
    stages: tuple[str, ...]
    """The vocabulary, in order."""


class LungBatches:
    """Bags of windows by absolute position: a few patients, several windows of each."""

    def __init__(self, data: LungData, config: TrainingConfig, patch_size: tuple[int, int, int]) -> None:
        sampling = config.sampling
        self.seed = config.seed
        self.patients, self.windows = sampling.patients_per_step, sampling.windows_per_patient
        self.patches = PatchDataset(
            data.volumes,
            data.plan,
            data.store_dir,
            role="train",
            patch_size=patch_size,
            patches_per_case=self.windows,
            foreground=sampling.foreground_share,
            seed=config.seed,
            augment=_augmentation(config, data.plan),
            stages=data.stages,
        )

    def __len__(self) -> int:
        """Batches that see each training case about once."""
        return max(1, -(-len(self.patches.rows) // self.patients))

    def __getitem__(self, position: int) -> Batch:
        """Return `image` (patients, windows, 1, k, j, i) with `label` (patients * windows, 1, k, j, i)."""
        bags = [self._bag(position * self.patients + slot) for slot in range(self.patients)]
        windows = [window for bag in bags for window in bag]
        return {
            "image": torch.stack([torch.stack([window["image"] for window in bag]) for bag in bags]),
            "label": torch.stack([window["label"] > 0 for window in windows]).to(torch.uint8),
            "has_label": torch.tensor([window["has_label"] for window in windows]),
            "stage": torch.tensor([bag[0]["stage"] for bag in bags]),
            "has_stage": torch.tensor([bag[0]["has_stage"] for bag in bags]),
        }

    def _bag(self, turn: int) -> list[dict[str, Any]]:
        """Return the windows of the case whose turn it is; cases come in a new random order each round."""
        cases = len(self.patches.rows)
        round_number, place = divmod(turn, cases)
        case = int(np.random.default_rng([self.seed, round_number]).permutation(cases)[place])
        return [self.patches.item(case * self.windows + draw, round_number) for draw in range(self.windows)]


class LungModule(nn.Module):
    """The network with its joint loss: one training step's forward."""

    def __init__(self, network: DualHeadNetwork, loss: JointLoss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and parts of a batch of `LungBatches`."""
        output = self.network(batch["image"])
        return self.loss(output.mask_logits, output.coarse_logits, output.stage_log_probabilities, batch)


class LungTask(Task):
    """Dual-head training of one fold."""

    metrics: Mapping[str, Direction] = METRICS

    def __init__(self, data: LungData, config: TrainingConfig) -> None:
        self.data = data
        self.config = config
        self.patch_size = patch_size_of(config, data.plan)
        network = build_network(config, data.plan, len(data.stages))
        self.module: LungModule = LungModule(network, JointLoss(config.losses, _class_weights(data, config)))
        self.batches = LungBatches(data, config, self.patch_size)
        self._validation = CaseDataset(
            data.volumes, data.plan, data.store_dir, role="validation", stages=data.stages
        )

    def validate(self, rank: int, ranks: int) -> "list[ValidatedCase]":
        """Measure whole validation cases on the plan's grid; each rank takes every n-th case."""
        count = min(len(self._validation), self.config.validation.max_patients or len(self._validation))
        return [self._validate_case(index) for index in range(rank, count, ranks)]

    def summarise(self, rows: "Sequence[ValidatedCase]") -> Validation:
        """Return the metrics over all validation cases.

        `dice` is the mean over cases with a mask; `stage_loss` and `stage_balanced_accuracy` over cases with
        a stage; `loss` is 1 - dice plus the weighted stage loss; `combined` the mean of dice and balanced
        accuracy. What no case tells is absent.
        """
        cases = sorted(rows, key=lambda row: row.case_id)
        return Validation(summarise(cases, self.config.losses.stage_weight))

    def weights(self) -> dict[str, Tensor]:
        """Return the network's tensors without the loss's own."""
        return self.module.network.state_dict()

    def _validate_case(self, index: int) -> "ValidatedCase":
        case = self._validation[index]
        whole = inference.run(
            self.module.network,
            case["image"],
            patch_size=self.patch_size,
            settings=self.config.inference,
            stage_windows=self.config.sampling.windows_per_patient,
            outside=outside_value(self.data.plan, case["image"]),
        )
        dice = None
        if case["has_label"]:
            predicted, truth = whole.logits[0] > 0, case["label"][0] > 0
            both = int(predicted.sum() + truth.sum())
            dice = 2 * int((predicted & truth).sum()) / both if both else 1.0
        stage = case["stage"] if case["has_stage"] and whole.stage_probabilities is not None else None
        probabilities = () if whole.stage_probabilities is None else tuple(whole.stage_probabilities.tolist())
        return ValidatedCase(case["case_id"], dice, stage, probabilities)


@dataclass(frozen=True)
class ValidatedCase:
    """One validation case."""

    case_id: str
    dice: float | None
    stage: int | None
    probabilities: tuple[float, ...]


def summarise(cases: list[ValidatedCase], stage_weight: float) -> dict[str, float]:
    """Return the validation metrics over cases."""
    measured: dict[str, float] = {}
    dices = [case.dice for case in cases if case.dice is not None]
    if dices:
        measured["dice"] = float(np.mean(dices))
    staged = [case for case in cases if case.stage is not None]
    if staged:
        truth = np.array([case.stage for case in staged])
        probabilities = np.array([case.probabilities for case in staged])
        own = probabilities[np.arange(len(truth)), truth]
        measured["stage_loss"] = float(-np.log(np.clip(own, 1e-7, 1)).mean())
        right = probabilities.argmax(1) == truth
        measured["stage_balanced_accuracy"] = float(
            np.mean([right[truth == stage].mean() for stage in np.unique(truth)])
        )
    if measured:
        missed = 1 - measured["dice"] if "dice" in measured else 0.0
        measured["loss"] = missed + stage_weight * measured.get("stage_loss", 0.0)
        parts = [measured[name] for name in ("dice", "stage_balanced_accuracy") if name in measured]
        measured["combined"] = float(np.mean(parts))
    return measured


def build_network(config: TrainingConfig, plan: Plan, classes: int) -> DualHeadNetwork:
    """Build the configuration's network for a plan, held against the window that it trains on."""
    return dual_head.build(
        config,
        classes=classes,
        spacing_mm=plan.target_spacing_mm,
        patch_size=patch_size_of(config, plan),
    )


def patch_size_of(config: TrainingConfig, plan: Plan) -> tuple[int, int, int]:
    """Return the window (k, j, i): the configuration's, or the plan's rounded up to what the network takes."""
    if config.sampling.patch_size is not None:
        return config.sampling.patch_size
    k, j, i = dual_head.fitting_patch_size(config.network, plan.patch_size)
    return k, j, i


def outside_value(plan: Plan, image: Tensor) -> float:
    """Return what air outside the volume is for the network."""
    if plan.intensity.subtract is None:
        return float(image.min())
    return plan.intensity.network_value(plan.resampling.outside_hu)


def _class_weights(data: LungData, config: TrainingConfig) -> Tensor | None:
    if not config.losses.balance_stages:
        return None
    training = data.volumes.filter(pl.col("role") == "train")["stage"].to_list()
    return losses.inverse_frequency_weights([training.count(stage) for stage in data.stages])


def _augmentation(config: TrainingConfig, plan: Plan) -> Any:
    if not config.sampling.augment:
        return None
    from ct_assets.learning.volumes.augment import augmentation

    return augmentation(plan)

"""What the shared trainer trains here: a network on balanced batches of prepared slices.

Belongs here: batches as a function of their position, the loss, the validation. Does not: phases, optimizers
and checkpoints (`learning.training.trainer`), which parameters a phase trains (`brain.train`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import WeightedRandomSampler

from ct_assets.imaging.windows import dequantise
from ct_assets.learning.evaluation import classification as metrics_stage
from ct_assets.learning.training.task import Batch, Direction, Task, Validation
from ct_assets.settings.brain import BrainConfig
from ct_assets.systems.brain import augment, images
from ct_assets.systems.brain.images import Prepared
from ct_assets.systems.brain.network import Weights

Floats = npt.NDArray[np.float64]

VALIDATION_BATCH = 64


class BalancedBatches:
    """Training batches in which both classes are equally likely, drawn anew each epoch.

    A slice's weight is the inverse of its class's frequency in this training part. The sampler's generator
    is seeded by epoch and each slice's augmentation by its place, so that a batch depends on nothing but its position:
    not on loader processes, not on a resume. The last, incomplete batch of an epoch is left out unless it is
    the only one.
    """

    def __init__(
        self,
        prepared: Prepared,
        identifiers: Sequence[str],
        labels: Sequence[int],
        config: BrainConfig,
        *,
        batch_size: int,
        seed: int,
        augmented: bool = True,
    ) -> None:
        if len(identifiers) < 1 or len(identifiers) != len(labels):
            raise ValueError(f"{len(identifiers)} slices with {len(labels)} labels")
        self.prepared = prepared
        self.rows = [prepared.row_of[identifier] for identifier in identifiers]
        self.labels = list(labels)
        self.config = config
        self.batch_size = min(batch_size, len(identifiers))
        self.seed = seed
        self.augmented = augmented
        self._store: Any = None
        self._drawn: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.rows) // self.batch_size

    def __getitem__(self, position: int) -> Batch:
        """Return the batch at an absolute position."""
        epoch, place = divmod(position, len(self))
        drawn = self.draws(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        pictures = [
            self._picture(self.rows[index], position * self.batch_size + number)
            for number, index in enumerate(drawn)
        ]
        return {
            "image": torch.stack(pictures),
            "label": torch.tensor([self.labels[index] for index in drawn], dtype=torch.float32),
        }

    def draws(self, epoch: int) -> list[int]:
        """Return which slices (by place in `identifiers`) the epoch shows, in order."""
        if self._drawn[0] != epoch:
            generator = torch.Generator().manual_seed(_seed_of(self.seed, 1, epoch))
            sampler = WeightedRandomSampler(
                class_weights(self.labels).tolist(), len(self.labels), replacement=True, generator=generator
            )
            self._drawn = (epoch, list(sampler))
        return self._drawn[1]

    def _picture(self, row: int, number: int) -> Tensor:
        if self._store is None:
            self._store = self.prepared.array()
        image = torch.from_numpy(dequantise(np.asarray(self._store[row])))
        if not self.augmented:
            return torch.from_numpy(images.network_input(image.numpy()))
        generator = torch.Generator().manual_seed(_seed_of(self.seed, 2, number))
        changed = augment.augment(image, self.config, generator).clamp(0, 1)
        normalised = torch.from_numpy(images.network_input(changed.numpy()))
        return augment.erase(normalised, self.config, generator)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped store behind: a loader process maps it again."""
        return {**self.__dict__, "_store": None}


def class_weights(labels: Sequence[int]) -> Floats:
    """Return a weight a slice: one over how often its class occurs."""
    counts = np.bincount(np.asarray(labels), minlength=2)
    return np.array([1.0 / counts[label] for label in labels], dtype=np.float64)


def _seed_of(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] % 2**63)


class BrainModule(nn.Module):
    """The network with its loss: one training step as a forward pass."""

    def __init__(self, network: nn.Module, config: BrainConfig) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = config.label_smoothing

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return binary cross-entropy of the logits, labels smoothed where asked."""
        logits = self.network(batch["image"])[:, 0]
        target = batch["label"] * (1 - self.label_smoothing) + self.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits.float(), target), {}


class BrainTask(Task):
    """A training of slices, as the shared trainer takes it."""

    metrics: Mapping[str, Direction] = {"auprc": "max", "auroc": "max", "loss": "min"}

    def __init__(
        self,
        module: BrainModule,
        batches: BalancedBatches,
        prepared: Prepared,
        validation: tuple[Sequence[str], Sequence[int]],
        pretrained: Weights | None = None,
    ) -> None:
        self.module: BrainModule = module
        self.batches = batches
        self._prepared = prepared
        self._validation = validation
        self.pretrained = pretrained

    def validate(self, rank: int, ranks: int) -> list[tuple[int, float]]:
        """Return place and logit of this rank's validation slices."""
        identifiers, _ = self._validation
        places = range(rank, len(identifiers), ranks)
        logits = predict_logits(self.module.network, self._prepared, [identifiers[place] for place in places])
        return list(zip(places, logits.tolist(), strict=True))

    def summarise(self, rows: Sequence[tuple[int, float]]) -> Validation:
        """Return `auprc`, `auroc` and the plain `loss` over the validation slices."""
        _, labels = self._validation
        logits, truth = np.array([logit for _, logit in sorted(rows)]), np.asarray(labels)
        loss = functional.binary_cross_entropy_with_logits(
            torch.from_numpy(logits), torch.tensor(labels, dtype=torch.float64)
        )
        ones = np.ones(len(labels))
        measured = {
            "auprc": float(metrics_stage.auprc(truth == 1, logits, ones)),
            "auroc": float(metrics_stage.auroc(truth == 1, logits, ones)),
            "loss": float(loss),
        }
        return Validation(measured)

    def weights(self) -> dict[str, Tensor]:
        """Return the network's tensors."""
        return self.module.network.state_dict()


def predict_logits(network: nn.Module, prepared: Prepared, identifiers: Sequence[str]) -> Floats:
    """Return the logit of each slice, without augmentation, wherever the network's parameters are."""
    device = next(network.parameters()).device
    store = prepared.array()
    network.eval()
    logits = []
    with torch.no_grad():
        for start in range(0, len(identifiers), VALIDATION_BATCH):
            part = identifiers[start : start + VALIDATION_BATCH]
            inputs = np.stack(
                [images.network_input(dequantise(np.asarray(store[prepared.row_of[one]]))) for one in part]
            )
            logits.append(network(torch.from_numpy(inputs).to(device))[:, 0].double().cpu().numpy())
    return np.concatenate(logits) if logits else np.zeros(0)


def probabilities(logits: Floats) -> Floats:
    """Return the sigmoid of logits."""
    return np.asarray(1 / (1 + np.exp(-np.clip(np.asarray(logits, dtype=np.float64), -700, 700))))

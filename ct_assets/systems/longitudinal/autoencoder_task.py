"""The autoencoder as a task of the shared trainer, and the gate that decides whether latents of it may be used.

Belongs here: module, batches, validation, reconstruction, gate. Does not: keeping latents (`latents`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ct_assets.imaging import windows
from ct_assets.learning.evaluation.image import psnr
from ct_assets.learning.training.task import Direction, Task, Validation
from ct_assets.settings.longitudinal import AutoencoderConfig
from ct_assets.systems.longitudinal import measure
from ct_assets.systems.longitudinal.networks import MonaiAutoencoder, SmallAutoencoder

Floats32 = npt.NDArray[np.float32]
Network = SmallAutoencoder | MonaiAutoencoder
RANGE_HU = (-1000.0, 400.0)
"""PSNR is over values clipped to it."""
AT_ONCE = 32


class AutoencoderModule(nn.Module):
    """Network and loss: mean squared error, and the Kullback-Leibler term by its weight."""

    def __init__(self, network: Network, config: AutoencoderConfig) -> None:
        super().__init__()
        self.network, self.config = network, config

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a step and its parts."""
        mean, deviation = self.network.moments(batch["crops"])
        error = ((self.network.decode(mean + deviation * batch["noise"]) - batch["crops"]) ** 2).mean()
        if not self.config.kl_weight:
            return error, {}
        spread = deviation.clamp_min(1e-6)
        divergence = 0.5 * (mean**2 + spread**2 - 2 * spread.log() - 1).mean()
        return error + self.config.kl_weight * divergence, {"divergence": divergence}


class CropBatches:
    """Batches of crops by absolute position, mirrored at random."""

    def __init__(self, crops: Floats32, config: AutoencoderConfig, latent_shape: tuple[int, ...]) -> None:
        self.crops, self.config, self.latent_shape = crops, config, latent_shape
        self.size = min(config.sampling.batch_size, len(crops))

    def __len__(self) -> int:
        return max(1, len(self.crops) // self.size)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """Return the batch at a position: crops and noise of the latents' shape."""
        epoch, place = divmod(position, len(self))
        order = np.random.default_rng([self.config.seed, epoch, 43]).permutation(len(self.crops))
        chosen = order[place * self.size : (place + 1) * self.size]
        rng = np.random.default_rng([self.config.seed, position, 47])
        crops = self.crops[chosen]
        if self.config.sampling.flip:
            for axis in (2, 3, 4):
                mirrored = rng.random(len(chosen)) < 0.5
                crops[mirrored] = np.flip(crops[mirrored], axis)
        noise = rng.standard_normal((len(chosen), *self.latent_shape), dtype=np.float32)
        return {"crops": torch.from_numpy(crops), "noise": torch.from_numpy(noise)}


class AutoencoderTask(Task):
    """Trains on crops of the training patients, validates by reconstructing those of others."""

    metrics: Mapping[str, Direction] = {"loss": "min"}

    def __init__(
        self, network: Network, training: Floats32, validation: Floats32, config: AutoencoderConfig
    ) -> None:
        self.network, self.validation = network, validation
        self.module = AutoencoderModule(network, config)
        with torch.no_grad():
            latent_shape = tuple(network.moments(torch.from_numpy(training[:1]))[0].shape[1:])
        self.batches = CropBatches(training, config, latent_shape)

    def validate(self, rank: int, ranks: int) -> list[float]:
        """Return the mean squared error of each of this rank's crops."""
        crops = self.validation[rank::ranks]
        return [
            float(((a - b) ** 2).mean()) for a, b in zip(reconstruct(self.network, crops), crops, strict=True)
        ]

    def summarise(self, rows: Sequence[Any]) -> Validation:
        """Return the mean over all crops."""
        return Validation({"loss": float(np.mean(rows))})

    def weights(self) -> dict[str, Tensor]:
        """Return the network's weights."""
        return dict(cast(nn.Module, self.network).state_dict())


def encode(network: Network, crops: Floats32) -> Floats32:
    """Return the latents' means of crops (n, 1, slices, rows, columns)."""
    return _mapped(lambda part: network.moments(part)[0], network, crops)


def decode(network: Network, latents: Floats32) -> Floats32:
    """Return crops of latents (n, channels, …)."""
    return _mapped(network.decode, network, latents)


def reconstruct(network: Network, crops: Floats32) -> Floats32:
    """Return what is left of crops after encoding and decoding."""
    return _mapped(lambda part: network.decode(network.moments(part)[0]), network, crops)


def _mapped(function: Any, network: Network, arrays: Floats32) -> Floats32:
    device = next(network.parameters()).device
    network.eval()
    parts = []
    with torch.no_grad():
        for first in range(0, len(arrays), AT_ONCE):
            part = torch.from_numpy(np.ascontiguousarray(arrays[first : first + AT_ONCE])).to(device)
            parts.append(function(part).cpu().numpy())
    return np.concatenate(parts) if parts else arrays


@dataclass(frozen=True)
class Gate:
    """What reconstruction does to nodules, and whether that is good enough for latents."""

    is_passed: bool
    crops: int
    not_found: int
    """Nodules that are gone after reconstruction."""
    median_volume_error: float
    """Share of the volume before; a lost nodule counts as 1."""
    psnr_db: float
    """Mean over crops, in the nodule's box."""

    def json(self) -> dict[str, Any]:
        """Return what a report keeps."""
        return dict(vars(self))


def gate(
    network: Network,
    crops_hu: npt.NDArray[np.int16],
    rows: Sequence[Mapping[str, Any]],
    spacing_mm: tuple[float, float, float],
    config: AutoencoderConfig,
) -> Gate:
    """Reconstruct earlier crops (n, slices, rows, columns) and measure their nodules before and after."""
    window = windows.window(config.window)
    made = reconstruct(network, (2 * window.linear(crops_hu) - 1)[:, None])[:, 0]
    made_hu = (made + 1) / 2 * window.width_hu + window.lower_hu
    errors, ratios, lost = [], [], 0
    for before, after, row in zip(crops_hu, made_hu, rows, strict=True):
        box = row["box_a"]
        part = tuple(slice(max(0, box[axis]), box[axis + 3] + 1) for axis in (2, 1, 0))
        a, b = (np.clip(crop[part], *RANGE_HU) for crop in (before, after))
        ratios.append(psnr(a, b, RANGE_HU[1] - RANGE_HU[0]))
        contrast = measure.contrast_of(before, box, spacing_mm, row["volume_a"])
        if contrast is None:
            continue
        found = measure.measure(after, box, spacing_mm, contrast)
        lost += found is None
        errors.append(1.0 if found is None else abs(found.volume_mm3 / row["volume_a"] - 1))
    error = float(np.median(errors)) if errors else 1.0
    ratio = float(np.mean(ratios)) if ratios else 0.0
    is_passed = error <= config.most_volume_error and ratio >= config.least_psnr_db
    return Gate(is_passed, len(ratios), lost, error, ratio)

"""Whole volumes through a network that sees windows: sliding window with Gaussian blending.

Belongs here: one volume on the network's grid, one network. Does not: bringing volumes to that grid and back
(`learning.volumes.prepare`), ensembles of folds (`learning.models.bundle`). Memory holds the volume's logits and one
weight map besides the few windows under way, however many windows there are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ct_assets.learning.networks.dual_head import DualHeadNetwork
from ct_assets.settings.training import InferenceSettings

SIGMA_SHARE = 0.125
"""Standard deviation of the blending Gaussian as a share of the window (nnU-Net's and MONAI's default)."""
SMALLEST_WEIGHT = 1e-3
"""What a window's corner weighs at least (the middle weighs 1)."""

Start = tuple[int, int, int]


@dataclass(frozen=True)
class WholeOutput:
    """What a network makes of a whole volume."""

    logits: Tensor
    """(labels, k, j, i), float32, on the CPU."""
    stage_probabilities: Tensor | None
    """(classes,), float32, on the CPU; None without a stage head."""


@torch.no_grad()
def run(
    network: DualHeadNetwork,
    image: Tensor,
    *,
    patch_size: Sequence[int],
    settings: InferenceSettings,
    stage_windows: int,
    outside: float,
    device: torch.device | None = None,
) -> WholeOutput:
    """Run a volume (channels, k, j, i) through a network in eval mode.

    Volumes smaller than a window are padded with `outside`. The stage head sees the `stage_windows` windows
    in which the network drew most tumour.
    """
    target = device or next(network.parameters()).device
    whole = _run_once(network, image, patch_size, settings, stage_windows, outside, target)
    if not settings.mirror:
        return whole
    mirrored = _run_once(network, image.flip(-1), patch_size, settings, stage_windows, outside, target)
    stage = whole.stage_probabilities
    if stage is not None and mirrored.stage_probabilities is not None:
        stage = (stage + mirrored.stage_probabilities) / 2
    return WholeOutput((whole.logits + mirrored.logits.flip(-1)) / 2, stage)


def _run_once(
    network: DualHeadNetwork,
    image: Tensor,
    patch_size: Sequence[int],
    settings: InferenceSettings,
    stage_windows: int,
    outside: float,
    device: torch.device,
) -> WholeOutput:
    shape = tuple(image.shape[1:])
    padding = [max(0, side - size) for side, size in zip(patch_size, shape, strict=True)]
    before = [pad // 2 for pad in padding]
    if any(padding):
        around = [n for low, pad in zip(before, padding, strict=True) for n in (pad - low, low)][::-1]
        image = functional.pad(image, around, value=outside)
    importance = gaussian_importance(patch_size).to(device)
    total = torch.zeros(image.shape[1:], device=device)
    logits: Tensor | None = None
    features, volumes = [], []
    starts = window_starts(image.shape[1:], patch_size, settings.overlap)
    for group in _groups(starts, settings.windows_at_once):
        windows = torch.stack([image[(slice(None), *_box(start, patch_size))] for start in group])
        output = network.run_body(windows.to(device, non_blocking=True))
        drawn = output.mask_logits.float()
        if logits is None:
            logits = torch.zeros((drawn.shape[1], *image.shape[1:]), device=device)
        for start, one in zip(group, drawn, strict=True):
            box = _box(start, patch_size)
            logits[(slice(None), *box)] += one * importance
            total[box] += importance
        if network.stage_head is not None:
            features.append(output.features.float().cpu())
            volumes.append(network.tumour_ml(drawn).cpu())
    assert logits is not None
    logits /= total
    inner = tuple(slice(low, low + size) for low, size in zip(before, shape, strict=True))
    stage = _stage(network, features, volumes, stage_windows, device)
    return WholeOutput(logits[(slice(None), *inner)].cpu(), stage)


def _stage(
    network: DualHeadNetwork,
    features: list[Tensor],
    volumes: list[Tensor],
    stage_windows: int,
    device: torch.device,
) -> Tensor | None:
    if network.stage_head is None:
        return None
    # stable: of equal windows the first ones count, on every machine
    seen = torch.cat(volumes)
    most = seen.argsort(descending=True, stable=True)[:stage_windows]
    bag, volume = torch.cat(features)[most][None].to(device), seen[most][None].to(device)
    return network.stage_head(bag, volume)[0].exp().float().cpu()


def window_starts(shape: Sequence[int], patch_size: Sequence[int], overlap: float) -> list[Start]:
    """Return the first voxels of windows that cover `shape` evenly and overlap by at least `overlap`."""
    axes = []
    for size, side in zip(shape, patch_size, strict=True):
        step = max(1, int(side * (1 - overlap)))
        count = max(1, math.ceil((size - side) / step) + 1)
        axes.append(np.linspace(0, max(0, size - side), count).round().astype(int).tolist())
    return [(k, j, i) for k in axes[0] for j in axes[1] for i in axes[2]]


def gaussian_importance(patch_size: Sequence[int]) -> Tensor:
    """Return the blending weights of a window, (k, j, i)."""
    weights = torch.ones(())
    for side in patch_size:
        offset = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (offset / (side * SIGMA_SHARE)) ** 2)
    return weights.clamp(min=SMALLEST_WEIGHT)


def _groups(starts: list[Start], size: int) -> Iterator[list[Start]]:
    for first in range(0, len(starts), size):
        yield starts[first : first + size]


def _box(start: Start, patch_size: Sequence[int]) -> tuple[slice, slice, slice]:
    k, j, i = (slice(low, low + side) for low, side in zip(start, patch_size, strict=True))
    return k, j, i

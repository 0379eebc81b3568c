"""Whole volumes through a network that sees windows: overlapping windows, blended by weight.

Belongs here: any function from windows to maps of the same size, and the weights. Does not: what the maps mean.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ct_assets.learning.models.inference import gaussian_importance, window_starts

Mode = Literal["uniform", "linear", "gaussian"]


@torch.no_grad()
def blend(
    forward: Callable[[Tensor], Mapping[str, Tensor]],
    image: Tensor,
    *,
    patch_size: Sequence[int],
    overlap: float = 0.5,
    mode: Mode = "gaussian",
    outside: float = 0.0,
    at_once: int = 1,
) -> dict[str, Tensor]:
    """Return each map of `forward`, (channels, k, j, i) as float32 on the CPU, of an image (channels, k, j, i).

    `forward` takes (windows, channels, k, j, i) and gives maps of that size. An image smaller than a window is padded
    with `outside`. Where windows overlap, a voxel is their mean by weight: the same everywhere (`uniform`), falling
    straight to the border of a window (`linear`), or as a Gaussian.
    """
    shape = tuple(image.shape[1:])
    padding = [max(0, side - size) for side, size in zip(patch_size, shape, strict=True)]
    before = [pad // 2 for pad in padding]
    around = [n for low, pad in zip(before, padding, strict=True) for n in (pad - low, low)][::-1]
    image = functional.pad(image, around, value=outside)
    weight = importance(patch_size, mode)
    total = torch.zeros(image.shape[1:])
    sums: dict[str, Tensor] = {}
    starts = window_starts(image.shape[1:], patch_size, overlap)
    for first in range(0, len(starts), at_once):
        boxes = [
            tuple(slice(low, low + side) for low, side in zip(start, patch_size, strict=True))
            for start in starts[first : first + at_once]
        ]
        maps = forward(torch.stack([image[(slice(None), *box)] for box in boxes]))
        for name, windows in maps.items():
            if name not in sums:
                sums[name] = torch.zeros((windows.shape[1], *image.shape[1:]))
            for box, window in zip(boxes, windows.float().cpu(), strict=True):
                sums[name][(slice(None), *box)] += window * weight
        for box in boxes:
            total[box] += weight
    inner = tuple(slice(low, low + size) for low, size in zip(before, shape, strict=True))
    return {name: (values / total)[(slice(None), *inner)] for name, values in sums.items()}


def importance(patch_size: Sequence[int], mode: Mode) -> Tensor:
    """Return the weights of a window's voxels, (k, j, i), all above 0."""
    if mode == "gaussian":
        return gaussian_importance(patch_size)
    if mode == "uniform":
        return torch.ones(tuple(patch_size))
    weights = torch.ones(())
    for side in patch_size:
        at = torch.arange(side, dtype=torch.float32)
        weights = weights[..., None] * (torch.minimum(at, side - 1 - at) + 1) / ((side + 1) // 2)
    return weights

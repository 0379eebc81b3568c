"""Tokens: a volume as a sequence of patches of 4 x 16 x 16 voxels, and back.

Belongs here: the order of tokens and features, coordinates, which tokens are background. One function of
each stands for NumPy arrays and torch tensors alike: only reshaping and transposing are used.

A volume is (1, D, H, W); tokens are (N, 1024) in the order (d h w), the features of one in the order
(c p1 p2 p3); coordinates are (N, 3) as (d, h, w); size is (D/4, H/16, W/16).
"""

from typing import TypeVar

import numpy as np
import torch

from ct_assets.settings.neuro import TokenBackground

PATCH = (4, 16, 16)
"""Voxels of a token along the slice axis, down a column, along a row."""
FEATURES = 1024

Values = TypeVar("Values", np.ndarray, torch.Tensor)
Size = tuple[int, int, int]


def size_of(volume: np.ndarray | torch.Tensor) -> Size:
    """Return how many tokens a (1, D, H, W) volume has along D, H, W. Raises `ValueError` for other shapes."""
    shape = tuple(volume.shape)
    if len(shape) != 4 or shape[0] != 1 or any(n % p or not n for n, p in zip(shape[1:], PATCH, strict=True)):
        raise ValueError(
            f"a volume of shape (1, D, H, W) in whole tokens of {PATCH} is expected, got {shape}"
        )
    depth, height, width = (n // p for n, p in zip(shape[1:], PATCH, strict=True))
    return depth, height, width


def tokenize(volume: Values) -> Values:
    """Return the tokens (N, 1024) of a (1, D, H, W) volume. Raises `ValueError` for other shapes."""
    d, h, w = size_of(volume)
    p1, p2, p3 = PATCH
    parted = volume.reshape(d, p1, h, p2, w, p3)
    return _permuted(parted, (0, 2, 4, 1, 3, 5)).reshape(d * h * w, FEATURES)


def detokenize(tokens: Values, size: Size) -> Values:
    """Return the (1, D, H, W) volume of all tokens of a size: the exact inverse of `tokenize`."""
    d, h, w = (int(n) for n in size)
    if tuple(tokens.shape) != (d * h * w, FEATURES):
        raise ValueError(f"{d * h * w} tokens of {FEATURES} are expected, got {tuple(tokens.shape)}")
    p1, p2, p3 = PATCH
    parted = tokens.reshape(d, h, w, p1, p2, p3)
    return _permuted(parted, (0, 3, 1, 4, 2, 5)).reshape(1, d * p1, h * p2, w * p3)


def coordinates(size: Size) -> torch.Tensor:
    """Return (N, 3) int64: (d, h, w) of every token, in the order of `tokenize`."""
    axes = [torch.arange(int(n)) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def background_tokens(mask: torch.Tensor, rule: TokenBackground = "any") -> torch.Tensor:
    """Return (N,) uint8, 1 where a token is background; `mask` is (1, D, H, W), 1 where a voxel is.

    A token is background where any of its voxels is (`any`), or only where all are (`all`).
    """
    patches = tokenize(mask)
    return (patches.amax(dim=1) if rule == "any" else patches.amin(dim=1)).to(torch.uint8)


def remove_background(
    tokens: torch.Tensor, coords: torch.Tensor, filtered: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return tokens, coordinates and filter of the foreground tokens alone, in their order."""
    kept = filtered == 0
    return tokens[kept], coords[kept], filtered[kept]


def _permuted(values: Values, axes: tuple[int, ...]) -> Values:
    return values.permute(axes) if isinstance(values, torch.Tensor) else values.transpose(axes)

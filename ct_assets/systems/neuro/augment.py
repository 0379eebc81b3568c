"""Random crops, flips and swaps of a volume with its background, before it becomes tokens.

Belongs here: what is drawn, and doing it to voxels. Since tokens, coordinates, sizes and filters are made
afterwards from the changed volume, they follow by construction.

Every draw comes from torch's generator: the one of each worker process is seeded apart by the loader.
"""

import torch

from ct_assets.settings.neuro import TokenBackground
from ct_assets.systems.neuro.tokens import PATCH, Size, background_tokens, size_of

LARGEST_CROP: Size = (20, 20, 20)
"""Tokens along D, H, W."""
TRIES = 5
LEAST_FOREGROUND = 0.1

Pair = tuple[torch.Tensor, torch.Tensor]


def random_crop(
    volume: torch.Tensor, mask: torch.Tensor, rule: TokenBackground = "any", largest: Size = LARGEST_CROP
) -> Pair:
    """Return a random box of whole tokens with at least a tenth of foreground tokens, at most `largest` large.

    Size and place are drawn evenly; after five boxes with too little foreground the whole volume stays.
    """
    size = size_of(volume)
    background = background_tokens(mask, rule).reshape(size)
    for _ in range(TRIES):
        extent = [_draw(1, min(most, whole)) for most, whole in zip(largest, size, strict=True)]
        first = [_draw(0, whole - part) for whole, part in zip(size, extent, strict=True)]
        box = tuple(slice(f, f + e) for f, e in zip(first, extent, strict=True))
        if float((background[box] == 0).float().mean()) >= LEAST_FOREGROUND:
            voxels = (
                slice(None),
                *(slice(one.start * step, one.stop * step) for one, step in zip(box, PATCH, strict=True)),
            )
            return volume[voxels], mask[voxels]
    return volume, mask


def random_flips(volume: torch.Tensor, mask: torch.Tensor) -> Pair:
    """Flip each of D, H, W with probability one half, and swap H and W with probability one half."""
    flips, swap = [axis for axis in (1, 2, 3) if _coin()], _coin()
    return turned(volume, flips, swap), turned(mask, flips, swap)


def turned(values: torch.Tensor, flips: list[int], swap: bool) -> torch.Tensor:
    """Flip the named axes of (1, D, H, W), then swap H and W."""
    flipped = values.flip(flips) if flips else values
    return flipped.transpose(2, 3) if swap else flipped


def _draw(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()).item())


def _coin() -> bool:
    return bool(torch.rand(()).item() < 0.5)

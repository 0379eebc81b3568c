"""The nodule network: an encoder-decoder of four levels with heads for mask, centre, size and triage.

Belongs here: the architecture. Does not: losses, windows. Tensors are (windows, channels, k, j, i); sides are multiples
of `MULTIPLE`.
"""

import math

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetUpBlock
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 4
MULTIPLE = 2 ** (LEVELS - 1)
NORM = ("INSTANCE", {"affine": True})
RARE = 0.01
"""Share of voxels that an untrained mask or centre head expects (Lin 2017, arXiv:1708.02002, section 4.1)."""
USUAL_MM = 8.0
"""Diameter that an untrained size head gives."""
CHANNELS = {"mask": 1, "heat": 1, "offset": 3, "size_mm": 3, "triage": 1}
"""What the network gives: logits of mask, heat and triage, offsets in voxels (k, j, i), diameters in mm."""


class NoduleNetwork(nn.Module):
    """Windows of one channel in, maps of `CHANNELS` of the same size out."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        if len(widths) != LEVELS:
            raise ValueError(f"widths must have {LEVELS} levels, got {len(widths)}")
        self.down = nn.ModuleList(
            UnetBasicBlock(3, before, width, 3, 1 if level == 0 else 2, NORM)
            for level, (before, width) in enumerate(zip((1, *widths[:-1]), widths, strict=True))
        )
        self.up = nn.ModuleList(
            UnetUpBlock(3, widths[level + 1], widths[level], 3, 2, 2, NORM)
            for level in reversed(range(LEVELS - 1))
        )
        self.heads = nn.ModuleDict({name: _head(widths[0], count) for name, count in CHANNELS.items()})
        for name in ("mask", "heat"):
            _set_bias(self.heads[name], math.log(RARE / (1 - RARE)))
        _set_bias(self.heads["size_mm"], math.log(math.expm1(USUAL_MM)))

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        """Run windows (windows, 1, k, j, i) through the network."""
        skips = []
        level = windows
        for block in self.down:
            level = block(level)
            skips.append(level)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            level = block(level, skip)
        maps = {name: head(level) for name, head in self.heads.items()}
        return maps | {"size_mm": functional.softplus(maps["size_mm"])}


def _head(width: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(width, width, 3, padding=1), nn.LeakyReLU(0.01), nn.Conv3d(width, channels, 1)
    )


def _set_bias(head: nn.Module, value: float) -> None:
    assert isinstance(head, nn.Sequential)
    last = head[-1]
    assert isinstance(last, nn.Conv3d)
    assert last.bias is not None
    with torch.no_grad():
        last.bias.fill_(value)

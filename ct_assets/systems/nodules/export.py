"""The nodule network without this package's code: as a torch.export program, and as a TorchScript trace.

Belongs here: writing both. Does not: bundles, which hold weights alone. A program takes windows (n, 1, k, j, i) with
sides that are multiples of 8 and gives the maps of `network.CHANNELS` by name; a trace gives them in that order.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from ct_assets import files
from ct_assets.systems.nodules.network import CHANNELS, MULTIPLE, NoduleNetwork

EXAMPLE = (2, 1, 24, 32, 40)
"""Shape of the windows that are traced; batch and sides are free in the exported program."""


def write_program(path: Path, network: NoduleNetwork) -> None:
    """Write a `.pt2` of the network in eval mode, with free batch and sides."""
    sides = {axis: MULTIPLE * Dim(f"side_{axis}", min=2, max=64) for axis in (2, 3, 4)}
    shapes = {"windows": {0: Dim("batch", min=1, max=64), **sides}}
    program = torch.export.export(network.eval(), (_example(network),), dynamic_shapes=shapes)
    with files.atomic_path(path) as partial:
        torch.export.save(program, partial)


def write_trace(path: Path, network: NoduleNetwork) -> None:
    """Write a TorchScript trace; it runs on other sizes too, since nothing in the network depends on a size."""
    with torch.no_grad():
        trace = torch.jit.trace(_InOrder(network.eval()), _example(network))
    with files.atomic_path(path) as partial:
        trace.save(str(partial))


class _InOrder(nn.Module):
    """TorchScript has no mapping of tensors as a result of a trace."""

    def __init__(self, network: NoduleNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        maps = self.network(windows)
        return tuple(maps[name] for name in CHANNELS)


def _example(network: NoduleNetwork) -> Tensor:
    device = next(network.parameters()).device
    return torch.rand(EXAMPLE, generator=torch.Generator().manual_seed(0)).to(device)

"""Exported networks give the maps of the network itself, on sizes that they were not exported with."""

import pytest
import torch

from ct_assets.systems.nodules import export
from ct_assets.systems.nodules.network import CHANNELS, NoduleNetwork

PARITY = 1e-5


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return NoduleNetwork((4, 6, 8, 8)).eval()


@pytest.fixture(scope="module")
def windows():
    return torch.rand((1, 1, 32, 16, 24), generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
def test_an_exported_program_takes_other_sizes_and_gives_the_same_maps(network, windows, tmp_path):
    export.write_program(tmp_path / "network.pt2", network)
    program = torch.export.load(tmp_path / "network.pt2").module()
    with torch.no_grad():
        expected, maps = network(windows), program(windows)
    assert maps.keys() == expected.keys() == CHANNELS.keys()
    assert all((maps[name] - expected[name]).abs().max() < PARITY for name in CHANNELS)


def test_a_trace_takes_other_sizes_and_gives_the_same_maps(network, windows, tmp_path):
    export.write_trace(tmp_path / "network.pt", network)
    trace = torch.jit.load(tmp_path / "network.pt")
    with torch.no_grad():
        expected, maps = network(windows), trace(windows)
    assert all((one - expected[name]).abs().max() < PARITY for name, one in zip(CHANNELS, maps, strict=True))

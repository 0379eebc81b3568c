"""Where the network looked."""

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from ct_assets.settings.brain import BrainConfig
from ct_assets.systems.brain import gradcam, plots
from ct_assets.systems.brain import network as networks


class Bright(nn.Module):
    """A network whose logit is the brightness of what its last block keeps: the answer is known."""

    def __init__(self, sign=1.0):
        super().__init__()
        self.layer4 = nn.AvgPool2d(8)
        self.sign = nn.Parameter(torch.tensor(sign))

    def forward(self, x):
        return (self.layer4(x).mean(dim=(1, 2, 3)) * self.sign)[:, None]


def image_with_a_spot():
    image = np.zeros((1, 64, 64), np.float32)
    image[0, 8:16, 40:48] = 1
    return image


class TestHeat:
    def test_it_lies_where_the_logit_comes_from(self):
        heat = gradcam.heat(Bright(), image_with_a_spot())
        assert heat.shape == (64, 64)
        assert heat.min() >= 0
        assert heat.max() == 1
        assert np.unravel_index(heat.argmax(), heat.shape)[0] in range(4, 20)
        assert gradcam.inside_share(heat, (0, 28, 28, 60)) > 0.9

    def test_what_speaks_against_a_lesion_is_cold(self):
        heat = gradcam.heat(Bright(-1.0), image_with_a_spot())
        assert gradcam.inside_share(heat, (8, 16, 40, 48)) < 0.01

    @pytest.mark.parametrize(("side", "cells"), [(256, 8), (224, 7), (96, 12), (64, 8)])
    def test_it_is_taken_where_there_are_cells_enough_to_tell_a_place(self, side, cells, monkeypatch):
        asked = []
        inner = gradcam.functional.interpolate
        monkeypatch.setattr(
            gradcam.functional,
            "interpolate",
            lambda coarse, **options: asked.append(coarse.shape[-1]) or inner(coarse, **options),
        )
        gradcam.heat(networks.build(BrainConfig())[0], np.zeros((1, side, side), np.float32))
        assert asked == [cells]

    def test_it_leaves_no_gradient_and_no_hook_behind(self):
        network = Bright()
        gradcam.heat(network, image_with_a_spot())
        assert network.sign.grad is None
        assert not network.layer4._forward_hooks


class TestGallery:
    table = pl.DataFrame(
        {"id": ["a", "b", "c", "d", "e"], "label": [1, 1, 0, 0, 1], "prob": [0.9, 0.6, 0.8, 0.1, 0.2]}
    )

    def test_hits_false_alarms_and_misses_the_clearest_first(self):
        told = gradcam.worth_a_look(self.table, 0.5)
        assert told.select("id", "kind").rows() == [("a", "TP"), ("b", "TP"), ("c", "FP"), ("e", "FN")]

    def test_no_more_of_a_kind_than_asked_for(self):
        assert gradcam.worth_a_look(self.table, 0.5, count=1)["id"].to_list() == ["a", "c", "e"]

    def test_it_is_drawn_even_where_nothing_is_to_be_seen(self):
        assert plots.gallery([]).startswith(b"\x89PNG")
        one = {"image": np.zeros((8, 8)), "heat": np.zeros((8, 8)), "title": "TP"}
        assert plots.gallery([one] * 4).startswith(b"\x89PNG")

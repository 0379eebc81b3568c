"""The nodule network, its losses and the blending of windows, against values worked out by hand."""

import math

import pytest
import torch

from ct_assets.systems.nodules import blend, losses
from ct_assets.systems.nodules.network import CHANNELS, NoduleNetwork


class TestBlend:
    @pytest.mark.parametrize("mode", ["uniform", "linear", "gaussian"])
    @pytest.mark.parametrize("shape", [(19, 24, 31), (5, 40, 16), (16, 16, 16), (3, 3, 3)])
    def test_the_identity_gives_the_image_back(self, mode, shape):
        image = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
        made = blend.blend(
            lambda windows: {"same": windows}, image, patch_size=(16, 16, 16), mode=mode, at_once=3
        )
        assert made["same"].shape == image.shape
        assert (made["same"] - image).abs().max() < 1e-6

    def test_windows_are_weighted_as_the_mode_says(self):
        # Two windows of four over six voxels share the middle two; each gives its own number.
        number = iter([0.0, 1.0])

        def forward(windows):
            return {"number": torch.full_like(windows, next(number))}

        made = blend.blend(forward, torch.zeros(1, 1, 1, 6), patch_size=(1, 1, 4), overlap=0.5, mode="linear")
        # Weights along a window: 1/2, 1, 1, 1/2; the shared voxels have 1 and 1/2, 1/2 and 1.
        assert made["number"].flatten().tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])

    def test_linear_weights_fall_to_both_sides_alike(self):
        weights = blend.importance((1, 1, 5), "linear").flatten()
        assert weights.tolist() == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])


class TestNetwork:
    def test_maps_have_the_windows_size_and_expect_little(self):
        torch.manual_seed(0)
        network = NoduleNetwork((4, 4, 8, 8)).eval()
        maps = network(torch.rand(1, 1, 16, 24, 16))
        assert {name: tuple(values.shape) for name, values in maps.items()} == {
            name: (1, count, 16, 24, 16) for name, count in CHANNELS.items()
        }
        assert maps["heat"].sigmoid().mean() < 0.05
        assert 5 < maps["size_mm"].mean() < 11
        with pytest.raises(ValueError, match="4 levels"):
            NoduleNetwork((4, 8))


def batch(side=4):
    """Two windows: one with a centre at voxel (1, 1, 1), one of which nothing is known."""
    shape = (2, 1, side, side, side)
    made = {name: torch.full((2, count, side, side, side), math.nan) for name, count in CHANNELS.items()}
    for name in made:
        made[name][0] = 0.0
    made["heat"][0, 0, 1, 1, 1] = made["mask"][0, 0, 1, 1, 1] = made["triage"][0, 0, 1, 1, 1] = 1.0
    made["offset"][0, :, 1, 1, 1] = torch.tensor([0.25, 0.0, -0.5])
    made["size_mm"][0, :, 1, 1, 1] = torch.tensor([8.0, 6.0, math.nan])
    is_centre = torch.zeros(shape)
    is_centre[0, 0, 1, 1, 1] = 1
    has = torch.tensor([1.0, 0.0])
    return made | {"is_centre": is_centre, "has_mask": has, "has_centres": has}


class TestLosses:
    def test_by_hand(self):
        maps = {name: torch.zeros(2, count, 4, 4, 4) for name, count in CHANNELS.items()}
        _, parts = losses.NoduleLoss()(maps, batch())
        # p = 1/2 everywhere: 64 voxels, one of them the target.
        assert parts["dice"] == pytest.approx(1 - (2 * 0.5 + 1) / (32 + 1 + 1))
        assert parts["bce"] == pytest.approx(math.log(2))
        assert parts["heat"] == pytest.approx(64 * 0.25 * math.log(2), rel=1e-5)
        assert parts["offset"] == pytest.approx((0.25**2 / 2 + 0.5**2 / 2) / 3)
        assert parts["size"] == pytest.approx((7.5 + 5.5) / 2)
        assert parts["triage"] == pytest.approx(2 * math.log(2))

    def test_a_warm_voxel_is_punished_less_and_the_hardest_others_count(self, monkeypatch):
        monkeypatch.setattr(losses, "LEAST_NEGATIVES", 2)
        monkeypatch.setattr(losses, "NEGATIVES_PER_CENTRE", 2)
        heat = torch.tensor([1.0, 0.5, 0.0, 0.0]).view(1, 1, 1, 1, 4)
        logits = torch.tensor([0.0, 0.0, 0.0, -9.0]).view(1, 1, 1, 1, 4)
        expected = 0.25 * math.log(2) * (1 + 0.5**4 + 1)
        assert losses.focal(logits, heat, torch.ones(1)) == pytest.approx(expected, rel=1e-5)

    def test_what_is_not_known_teaches_nothing_but_stays_in_the_graph(self):
        maps = {name: torch.rand(2, count, 4, 4, 4, requires_grad=True) for name, count in CHANNELS.items()}
        target = batch()
        loss, _ = losses.NoduleLoss()(maps, target)
        loss.backward()
        assert all(values.grad[0].abs().sum() > 0 and not values.grad[1].any() for values in maps.values())
        nothing = target | {"has_mask": torch.zeros(2), "has_centres": torch.zeros(2)}
        maps = {name: torch.rand(2, count, 4, 4, 4, requires_grad=True) for name, count in CHANNELS.items()}
        loss, _ = losses.NoduleLoss()(maps, nothing)
        loss.backward()
        assert loss == 0
        assert all(values.grad is not None and not values.grad.any() for values in maps.values())

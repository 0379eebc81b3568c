"""Losses against values worked out by hand."""

import math

import pytest
import torch

from ct_assets.learning.training.losses import (
    JointLoss,
    deep_mask_loss,
    inverse_frequency_weights,
    mask_loss,
    stage_loss,
)
from ct_assets.settings.training import LossSettings


def logit(p):
    return math.log(p / (1 - p))


class TestMaskLoss:
    def test_dice_and_cross_entropy_by_hand(self):
        # two voxels, predicted 0.8 and 0.4, the first is tumour; one voxel is added to both sides of the Dice
        logits = torch.tensor([logit(0.8), logit(0.4)]).view(1, 1, 1, 1, 2)
        target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 1, 2)
        dice = 1 - (2 * 0.8 + 1) / (0.8 + 0.4 + 1.0 + 1)
        entropy = -(math.log(0.8) + math.log(0.6)) / 2
        loss = mask_loss(logits, target, torch.tensor([True]), kind="dice_ce")
        assert loss.item() == pytest.approx(dice + entropy, abs=1e-6)

    def test_focal_loss_by_hand(self):
        logits = torch.tensor([logit(0.8)]).view(1, 1, 1, 1, 1)
        target = torch.ones(1, 1, 1, 1, 1)
        dice = 1 - (2 * 0.8 + 1) / (0.8 + 1 + 1)
        focal = (1 - 0.8) ** 2 * -math.log(0.8)
        loss = mask_loss(logits, target, torch.tensor([True]), kind="dice_focal")
        assert loss.item() == pytest.approx(dice + focal, abs=1e-6)

    def test_a_window_without_a_mask_counts_nothing_and_teaches_nothing(self):
        logits = torch.randn(2, 1, 4, 4, 4, requires_grad=True)
        target = (torch.rand(2, 1, 4, 4, 4) > 0.5).float()
        both = mask_loss(logits, target, torch.tensor([True, False]), kind="dice_ce")
        alone = mask_loss(logits[:1], target[:1], torch.tensor([True]), kind="dice_ce")
        assert both.item() == pytest.approx(alone.item(), abs=1e-6)
        both.backward()
        assert logits.grad[1].abs().max() == 0
        assert logits.grad[0].abs().max() > 0

    def test_no_mask_at_all_is_zero_and_still_in_the_graph(self):
        logits = torch.randn(2, 1, 2, 2, 2, requires_grad=True)
        loss = mask_loss(logits, torch.zeros(2, 1, 2, 2, 2), torch.tensor([False, False]), kind="dice_ce")
        loss.backward()
        assert loss.item() == 0
        assert logits.grad.abs().max() == 0

    def test_coarser_levels_have_half_the_weight_of_finer_ones(self):
        fine, coarse = torch.randn(1, 1, 4, 4, 4), torch.randn(1, 1, 2, 2, 2)
        target = torch.zeros(1, 1, 4, 4, 4)
        target[..., 0, 0, 0] = 1  # one voxel survives coarsening
        shrunk = torch.zeros(1, 1, 2, 2, 2)
        shrunk[..., 0, 0, 0] = 1
        has = torch.tensor([True])
        parts = [mask_loss(f, t, has, kind="dice_ce") for f, t in ((fine, target), (coarse, shrunk))]
        loss = deep_mask_loss(fine, [coarse], target, has, kind="dice_ce")
        assert loss.item() == pytest.approx(((parts[0] + 0.5 * parts[1]) / 1.5).item(), abs=1e-6)


class TestStageLoss:
    def test_patients_without_a_stage_cost_nothing(self):
        log_p = torch.log(torch.tensor([[0.7, 0.3], [0.1, 0.9]]))
        loss = stage_loss(log_p, torch.tensor([0, -1]), torch.tensor([True, False]), None)
        assert loss.item() == pytest.approx(-math.log(0.7), abs=1e-6)

    def test_class_weights_weigh_the_mean(self):
        log_p = torch.log(torch.tensor([[0.7, 0.3], [0.1, 0.9]]))
        loss = stage_loss(log_p, torch.tensor([0, 1]), torch.tensor([True, True]), torch.tensor([1.0, 3.0]))
        assert loss.item() == pytest.approx(-(math.log(0.7) + 3 * math.log(0.9)) / 4, abs=1e-6)

    def test_inverse_frequencies_have_mean_one_over_patients(self):
        weights = inverse_frequency_weights([6, 3, 0])
        assert weights.tolist() == pytest.approx([9 / 12, 9 / 6, 0.0])
        assert (6 * weights[0] + 3 * weights[1]) / 9 == pytest.approx(1.0)


class TestJointLoss:
    def batch(self, has_label=True, has_stage=True):
        return {
            "label": torch.ones(1, 1, 2, 2, 2),
            "has_label": torch.tensor([has_label]),
            "stage": torch.tensor([1]),
            "has_stage": torch.tensor([has_stage]),
        }

    def test_fixed_weights_add_up(self):
        loss = JointLoss(LossSettings(mask_weight=2.0, stage_weight=0.5), None)
        logits, log_p = torch.zeros(1, 1, 2, 2, 2), torch.log(torch.tensor([[0.25, 0.75]]))
        total, parts = loss(logits, (), log_p, self.batch())
        assert total.item() == pytest.approx((2 * parts["mask_loss"] + 0.5 * parts["stage_loss"]).item())
        assert parts["stage_loss"].item() == pytest.approx(-math.log(0.75), abs=1e-6)

    def test_uncertainty_learns_a_weight_for_each_part_that_is_there(self):
        loss = JointLoss(LossSettings(weighting="uncertainty"), None)
        with torch.no_grad():
            loss.log_variance.copy_(torch.tensor([math.log(2.0), math.log(4.0)]))
        logits, log_p = torch.zeros(1, 1, 2, 2, 2), torch.log(torch.tensor([[0.25, 0.75]]))
        total, parts = loss(logits, (), log_p, self.batch())
        mask, stage = parts["mask_loss"].item(), parts["stage_loss"].item()
        assert total.item() == pytest.approx(mask / 2 + math.log(2) + stage / 4 + math.log(4), abs=1e-5)
        total, _ = loss(logits, (), log_p, self.batch(has_stage=False))
        assert total.item() == pytest.approx(mask / 2 + math.log(2), abs=1e-5)
        total.backward()
        assert loss.log_variance.grad[1] == 0

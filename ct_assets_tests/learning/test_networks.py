"""Networks: what goes in, what comes out, and what is refused."""

import pytest
import torch

from ct_assets.errors import UsageError
from ct_assets.learning.networks import dual_head
from ct_assets.learning.networks.stage_head import GatedAttention, OrdinalOutput, StageHead
from ct_assets.settings.training import (
    LossSettings,
    SamplingSettings,
    StageHeadSettings,
    SwinUnetrSettings,
    TrainingConfig,
    UNetSettings,
)

TINY_SWIN = SwinUnetrSettings(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), norm="group")
TINY_UNET = UNetSettings(channels=(4, 8, 16))


def build(network=TINY_UNET, patch=(16, 16, 16), windows=2, **changes):
    config = TrainingConfig(
        network=network, sampling=SamplingSettings(windows_per_patient=windows), **changes
    )
    return dual_head.build(config, classes=3, spacing_mm=(2.0, 2.0, 2.5), patch_size=patch)


class TestDualHead:
    @pytest.mark.parametrize(
        ("network", "patch"), [(TINY_UNET, (16, 8, 12)), (TINY_SWIN, (32, 32, 32))], ids=["unet", "swin"]
    )
    def test_bags_of_windows_give_a_mask_a_window_and_a_stage_a_patient(self, network, patch):
        dual = build(network, patch)
        output = dual(torch.zeros(2, 3, 1, *patch))
        assert output.mask_logits.shape == (6, 1, *patch)
        assert output.stage_log_probabilities.shape == (2, 3)
        assert torch.allclose(output.stage_log_probabilities.exp().sum(1), torch.ones(2), atol=1e-5)

    def test_without_a_stage_head_there_is_no_stage(self):
        assert build(stage_head=None)(torch.zeros(1, 1, 1, 16, 16, 16)).stage_log_probabilities is None

    def test_deep_supervision_gives_coarser_masks_at_half_and_quarter_resolution(self):
        network = UNetSettings(channels=(4, 8, 16, 16))
        dual = build(network, losses=LossSettings(deep_supervision=True))
        coarse = dual(torch.zeros(1, 1, 1, 16, 16, 16)).coarse_logits
        assert [tuple(level.shape[2:]) for level in coarse] == [(8, 8, 8), (4, 4, 4)]

    def test_the_stage_teaches_the_features_but_not_through_the_drawn_volume(self):
        dual = build(stage_head=StageHeadSettings(use_tumour_volume=True, dropout=0.0))
        output = dual(torch.rand(1, 2, 1, 16, 16, 16))
        output.stage_log_probabilities[0, 0].backward()
        assert dual.backbone.down[0].conv1.conv.weight.grad.abs().sum() > 0
        assert dual.backbone.out.weight.grad is None

    def test_the_tumour_volume_is_the_sum_of_probabilities_in_millilitres(self):
        logits = torch.full((1, 1, 10, 10, 10), 0.0)  # probability one half everywhere
        assert build().tumour_ml(logits).item() == pytest.approx(0.5 * 1000 * 2.0 * 2.0 * 2.5 / 1000)

    def test_an_untrained_mask_head_expects_little_tumour(self):
        torch.manual_seed(0)
        probability = build()(torch.zeros(1, 1, 1, 16, 16, 16)).mask_logits.sigmoid()
        assert probability.mean().item() == pytest.approx(dual_head.TUMOUR_PRIOR, abs=0.01)

    def test_published_tensor_names_are_kept_under_backbone(self):
        names = build(TINY_SWIN, (32, 32, 32)).state_dict()
        assert "backbone.swinViT.layers1.0.blocks.0.mlp.linear1.weight" in names
        assert "backbone.out.conv.conv.weight" in names


class TestWindowsThatDoNotFit:
    def test_a_side_that_cannot_be_halved_often_enough_is_refused_with_one_that_can(self):
        with pytest.raises(UsageError, match=r"multiple of 32.*\(64, 96, 96\)"):
            build(TINY_SWIN, (48, 96, 96))

    def test_instance_norm_over_one_voxel_is_refused_with_the_way_out(self):
        instance = TINY_SWIN.model_copy(update={"norm": "instance"})
        with pytest.raises(UsageError, match=r"one voxel.*group"):
            build(instance, (32, 32, 32))
        build(instance, (32, 32, 64))


class TestStageHead:
    def test_pooling_does_not_care_about_the_order_of_windows(self):
        torch.manual_seed(0)
        head = StageHead(StageHeadSettings(dropout=0.0), features=5, classes=4).eval()
        bags, volumes = torch.rand(2, 6, 5), torch.rand(2, 6)
        shuffled = torch.randperm(6)
        assert torch.allclose(head(bags, volumes), head(bags[:, shuffled], volumes[:, shuffled]), atol=1e-6)

    def test_attention_weighs_windows_and_its_weights_sum_to_one(self):
        pool = GatedAttention(3)
        assert torch.allclose(pool(torch.ones(1, 7, 3)), torch.ones(1, 3))

    def test_ordinal_probabilities_follow_the_proportional_odds_model(self):
        # score 0.3; thresholds -1, 0, 1: P(class > c) = sigmoid(0.3 - threshold)
        output = OrdinalOutput(1, 4)
        with torch.no_grad():
            output.score.weight.fill_(1.0)
            output.score.bias.fill_(0.0)
        above = torch.sigmoid(0.3 - torch.tensor([-1.0, 0.0, 1.0]))
        expected = torch.stack([1 - above[0], above[0] - above[1], above[1] - above[2], above[2]])
        assert torch.allclose(output(torch.tensor([[0.3]])).exp()[0], expected, atol=1e-4)

    def test_a_higher_score_never_makes_a_lower_stage_likelier(self):
        output = OrdinalOutput(1, 4)
        with torch.no_grad():
            output.score.weight.fill_(1.0)
        low, high = output(torch.tensor([[-2.0], [2.0]])).exp()
        assert (low.cumsum(0)[:-1] > high.cumsum(0)[:-1]).all()

    def test_two_classes_work_too(self):
        probabilities = OrdinalOutput(3, 2)(torch.rand(4, 3)).exp()
        assert torch.allclose(probabilities.sum(1), torch.ones(4), atol=1e-6)

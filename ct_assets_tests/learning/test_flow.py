"""Flow matching: the path, the coupling, the loss."""

import itertools

import pytest
import torch

from ct_assets.learning import flow


class TestThePath:
    def test_begins_at_x0_ends_at_x1_and_is_straight(self):
        x0, x1 = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
        xt, ut = flow.path(x0, x1, torch.tensor([0.0, 0.25, 1.0]))
        torch.testing.assert_close(xt[0], x0[0])
        torch.testing.assert_close(xt[1], 0.75 * x0[1] + 0.25 * x1[1])
        torch.testing.assert_close(xt[2], x1[2])
        torch.testing.assert_close(ut, x1 - x0)

    def test_one_time_may_hold_for_the_whole_batch(self):
        xt, _ = flow.path(torch.zeros(2, 3), torch.ones(2, 3), torch.tensor(0.5))
        torch.testing.assert_close(xt, torch.full((2, 3), 0.5))

    def test_noise_has_the_stated_spread_and_leaves_the_velocity_alone(self):
        x = torch.zeros(20_000, 2)
        xt, ut = flow.path(x, x, torch.rand(20_000), 0.3, torch.Generator().manual_seed(0))
        assert xt.std().item() == pytest.approx(0.3, rel=0.02)
        assert not ut.any()

    def test_noise_is_repeatable_by_its_generator(self):
        x = torch.zeros(5, 2)
        first, second = (
            flow.path(x, x, torch.zeros(5), 1.0, torch.Generator().manual_seed(3))[0] for _ in "ab"
        )
        assert torch.equal(first, second)

    @pytest.mark.parametrize(
        ("shape", "t", "sigma"), [((2, 2), (2,), 0.0), ((3, 2), (2,), 0.0), ((3, 2), (3,), -1.0)]
    )
    def test_what_does_not_fit_is_refused(self, shape, t, sigma):
        with pytest.raises(ValueError, match="must"):
            flow.path(torch.zeros(3, 2), torch.zeros(shape), torch.zeros(t), sigma)


class TestTheCoupling:
    def test_is_the_best_of_all_pairings(self):
        for seed in range(5):
            generator = torch.Generator().manual_seed(seed)
            x0, x1 = (torch.randn(5, 3, generator=generator) for _ in "ab")
            costs = {
                order: ((x0 - x1[list(order)]) ** 2).sum().item()
                for order in itertools.permutations(range(5))
            }
            p = flow.couple(x0, x1)
            assert sorted(p.tolist()) == [0, 1, 2, 3, 4]
            assert costs[tuple(p.tolist())] == pytest.approx(min(costs.values()))

    def test_finds_a_shuffled_copy_again(self):
        x0 = torch.randn(40, 1, 2, 2)
        order = torch.randperm(40)
        assert torch.equal(x0, x0[order][flow.couple(x0, x0[order])])

    def test_is_exact_far_from_the_origin(self):
        x0 = torch.tensor([[0.0], [1.0]]) + 1e6
        assert flow.couple(x0, x0.flip(0)).tolist() == [1, 0]

    def test_an_empty_batch_pairs_nothing(self):
        assert flow.couple(torch.empty(0, 2), torch.empty(0, 2)).tolist() == []

    def test_values_that_are_not_finite_are_refused(self):
        with pytest.raises(ValueError, match="finite"):
            flow.couple(torch.tensor([[float("nan")]]), torch.zeros(1, 1))


def test_a_weighted_loss_does_not_depend_on_the_size_of_the_region():
    predicted, wanted = torch.zeros(1, 1, 8), torch.zeros(1, 1, 8)
    wanted[..., :2] = 3.0
    weight = torch.zeros(1, 1, 8)
    weight[..., :2] = 5.0
    assert flow.velocity_loss(predicted, wanted, weight).item() == pytest.approx(9.0)
    assert flow.velocity_loss(predicted, wanted).item() == pytest.approx(9.0 / 4)
